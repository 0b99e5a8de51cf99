"""What is under test: a function at a point, which can be evaluated and differentiated in several precisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autograd import enable_grad, grad, no_grad
from ..kernels import Case
from ..tensor import Tensor, as_tensor, wrap
from .report import case_id, name_of

Arrays = list[np.ndarray]


class Subject:
    """``function`` at ``arrays``; floating arrays are its variables, in ``dtype``.

    ``reference`` computes the same on arrays, in whatever precision they come; without it the oracles evaluate the
    function itself. ``device``: where the function runs.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        xs: Sequence[Any] | Case,
        *,
        name: str | None = None,
        reference: Callable[..., Any] | None = None,
        device: Any = "cpu",
        dtype: Any = np.float64,
    ) -> None:
        arrays, self.attrs = (xs.arrays, dict(xs.attrs)) if isinstance(xs, Case) else (tuple(xs), {})
        self.function = function
        self.reference = reference
        self.device = device
        self.name = name or name_of(function)
        self.arrays: Arrays = [_cast(x, dtype) for x in arrays]
        self.variable = [isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in self.arrays]
        self.case_id = case_id(self.name, self.arrays, self.attrs)
        self.below: Subject | None = None  # what this is the derivative of

    @property
    def variables(self) -> Arrays:
        """The arrays to differentiate by."""
        return [a for a, v in zip(self.arrays, self.variable) if v]

    def at(self, variables: Sequence[np.ndarray]) -> list[Any]:
        """All inputs, with the variables put in their places."""
        given = iter(variables)
        return [next(given) if v else a for a, v in zip(self.arrays, self.variable)]

    def values(self, variables: Sequence[np.ndarray]) -> Arrays:
        """The differentiable outputs at other values, in the precision of those."""
        inputs = self.at(variables)
        if self.reference is not None:
            found = self.reference(*inputs, **self.attrs)
            arrays = found if isinstance(found, (tuple, list)) else (found,)
            return [np.asarray(a) for a in arrays if np.asarray(a).dtype.kind in "fc"]
        with no_grad():
            return [to_numpy(y) for y in floating(self.function(*self._tensors(inputs), **self.attrs))]

    def outputs(self) -> Arrays:
        """The differentiable outputs of the function itself, whatever the reference says."""
        with no_grad():
            return [to_numpy(y) for y in floating(self.function(*self._tensors(self.arrays), **self.attrs))]

    def gradients(
        self, cotangents: Sequence[np.ndarray], variables: Sequence[np.ndarray] | None = None, recorded: bool = False
    ) -> Arrays:
        """J'u by the engine; ``recorded``: as it is computed when it is to be differentiated again."""
        inputs = self._tensors(self.arrays if variables is None else self.at(variables))
        us = [as_tensor(u, device=self.device) for u in cotangents]
        return [to_numpy(g) for g in vjp(self._call, inputs, self.variable, us, recorded)]

    def derivative(self, cotangents: Sequence[np.ndarray]) -> Subject:
        """The function (x, u) -> J(x)'u at these cotangents: what the next order differentiates."""
        count = len(self.arrays)

        def gradient(*at: Any) -> tuple[Tensor, ...]:
            recorded = any(isinstance(x, Tensor) and x.requires_grad for x in at)
            return tuple(vjp(self._call, at[:count], self.variable, at[count:], recorded))

        inner = Subject(gradient, [*self.arrays, *cotangents], name=self.name, device=self.device)
        inner.case_id = self.case_id
        inner.below = self
        return inner

    def case(self) -> Case:
        """Its inputs, in its number type, as a case."""
        return Case(self.name, tuple(self.arrays), self.attrs)

    def moved(self, variables: Sequence[np.ndarray]) -> Subject:
        """The same function at other values of its variables."""
        case = self.case()._replace(arrays=tuple(self.at(variables)))
        return Subject(self.function, case, name=self.name, reference=self.reference, device=self.device)

    def _call(self, *tensors: Any) -> Any:
        return self.function(*tensors, **self.attrs)

    def _tensors(self, inputs: Sequence[Any]) -> list[Any]:
        return [as_tensor(a, device=self.device) if isinstance(a, np.ndarray) else a for a in inputs]


def vjp(
    f: Callable[..., Any], inputs: Sequence[Any], variable: Sequence[bool], cotangents: Sequence[Tensor], recorded: bool
) -> list[Tensor]:
    """Gradients of <cotangents, f(inputs)> by the engine, as functions of both if ``recorded``.

    An output without history has a derivative of zero, and so has a variable that no output depends on.
    """
    with enable_grad():
        # A variable may come with a history of its own: an alias keeps the two apart.
        xs = [_variable(x) if v else x for x, v in zip(inputs, variable)]
        ys = floating(f(*xs))
        variables = [x for x, v in zip(xs, variable) if v]
        live = [(y, u) for y, u in zip(ys, cotangents, strict=True) if y.requires_grad]
        found: tuple = (None,) * len(variables)
        if live and variables:
            outs, us = zip(*live, strict=True)
            found = grad(list(outs), variables, list(us), create_graph=recorded, allow_unused=True)
    return [wrap(np.zeros_like(x.array), x.device) if g is None else g for g, x in zip(found, variables)]


def _variable(x: Tensor) -> Tensor:
    return x.alias() if x.requires_grad else x.detach().requires_grad_()


def floating(y: Any) -> tuple[Tensor, ...]:
    """The differentiable outputs: the others (indices, masks) have no cotangent."""
    ys = tuple(y) if isinstance(y, (tuple, list)) else (y,)
    return tuple(t for t in ys if isinstance(t, Tensor) and t.dtype.kind in "fc")


def to_numpy(t: Tensor) -> np.ndarray:
    """Its values as a NumPy array, from whichever device."""
    return np.asarray(t.detach().numpy(force=True))


def _cast(x: Any, dtype: Any) -> Any:
    """Floating arrays in ``dtype`` with their layout; a Tensor as the array it holds; the rest as it is."""
    if isinstance(x, Tensor):
        x = to_numpy(x)
    if isinstance(x, (float, np.floating)):
        x = np.asarray(x)
    return relaid(x, dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.dtype != dtype else x


def relaid(x: np.ndarray, dtype: Any) -> np.ndarray:
    """A copy in another dtype, with strides of the same kind: order, gaps, direction and repetition."""
    if not x.size:
        return x.astype(dtype)
    items = np.dtype(dtype).itemsize / x.itemsize
    strides = [int(s * items) for s in x.strides]
    reach = [(n - 1) * s for n, s in zip(x.shape, strides)]
    offset = -sum(r for r in reach if r < 0)
    memory = np.zeros(offset + sum(r for r in reach if r > 0) + np.dtype(dtype).itemsize, np.uint8)
    laid: np.ndarray = np.ndarray(x.shape, dtype, memory, offset, strides)
    laid[...] = x
    return laid


def nudged(x: np.ndarray, eps: float, rng: np.random.Generator) -> np.ndarray:
    """Every number moved by up to one unit in its last place, in the same memory layout: a misread stays one."""
    moved = relaid(x, x.dtype)
    moved[...] = x * (1 + eps * rng.integers(-1, 2, x.shape))
    return moved
