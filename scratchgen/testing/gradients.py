"""``check_grad``: is every derivative of a function, to a given order, what differences say it is?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autograd import enable_grad, grad, no_grad
from ..tensor import Tensor, as_tensor, wrap
from .differences import directional_derivative


class GradientError(AssertionError):
    """A derivative differs from what differences say."""


class Inconclusive(GradientError):
    """The differences are not accurate enough at this point to judge (near a kink or a singularity)."""


def check_grad(
    f: Callable[..., Any],
    *inputs: Any,
    order: int = 2,
    seed: int = 0,
    rtol: float = 1e-6,
    step: float = 0.02,
    directions: int = 2,
) -> float:
    """Check the derivatives of ``f`` to ``order`` at ``inputs`` in float64; returns the largest relative error.

    ``inputs`` are arrays: floating ones are variables (cast to float64), others are passed as they are. ``f`` maps
    Tensors to a Tensor or a tuple of them. The vjp of a random cotangent is compared, along random unit directions,
    with extrapolated differences; it is then itself a function of inputs and cotangent, and checked the same way for
    the next order. Errors are relative to the derivative, or to its expected size along a random direction where it
    happens to be smaller.

    Raises GradientError (wrong), or Inconclusive if the differences' own error bound exceeds ``rtol``.
    """
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(x.detach().numpy() if isinstance(x, Tensor) else x) for x in inputs]
    arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    return _check(f, arrays, order, 1, rng, rtol, step, directions)


def _outputs(y: Any) -> tuple[Tensor, ...]:
    """The differentiable outputs: the others (indices, masks) have no cotangent."""
    ys = tuple(y) if isinstance(y, (tuple, list)) else (y,)
    return tuple(t for t in ys if isinstance(t, Tensor) and t.dtype.kind == "f")


def _check(
    f: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    order: int,
    level: int,
    rng: np.random.Generator,
    rtol: float,
    step: float,
    directions: int,
) -> float:
    variable = [a.dtype.kind == "f" for a in arrays]

    def values(at: Sequence[np.ndarray]) -> list[np.ndarray]:
        with no_grad():
            return [y.array for y in _outputs(f(*[as_tensor(a) for a in at]))]

    cotangents = [np.asarray(rng.standard_normal(y.shape)) for y in values(arrays)]
    gradients = _vjp(f, [as_tensor(a) for a in arrays], variable, [as_tensor(u) for u in cotangents], False)
    worst = 0.0
    count = sum(a.size for a, v in zip(arrays, variable, strict=True) if v)
    if count == 0:
        return worst
    size = np.sqrt(sum(float(np.vdot(g.array, g.array)) for g in gradients))
    for _ in range(directions):
        steps = [np.asarray(rng.standard_normal(a.shape)) if v else None for a, v in zip(arrays, variable, strict=True)]
        length = np.sqrt(sum(float(np.vdot(d, d)) for d in steps if d is not None))
        steps = [None if d is None else d / length for d in steps]

        def along(t: float, steps: list = steps) -> float:
            moved = [a if d is None else a + t * d for a, d in zip(arrays, steps, strict=True)]
            return sum(float(np.vdot(u, y)) for u, y in zip(cotangents, values(moved), strict=True))

        ours = sum(
            float(np.vdot(g.array, d)) for g, d in zip(gradients, [d for d in steps if d is not None], strict=True)
        )
        numeric = directional_derivative(along, step)
        scale = max(abs(numeric.value), size / np.sqrt(count), 1e-12)
        error = abs(ours - numeric.value) / scale
        where = f"derivative of order {level}: {ours!r}, differences say {numeric.value!r} +- {numeric.error:.1e}"
        if not np.isfinite(ours) or error > rtol + 3 * numeric.error / scale:
            raise GradientError(f"{where}; relative error {error:.1e} above {rtol:.0e}")
        if numeric.error / scale > rtol:
            raise Inconclusive(f"{where}; the differences' own error is above {rtol:.0e}, move the inputs or the step")
        worst = max(worst, error)
    if level < order:
        inner = [*arrays, *cotangents]

        def derivative(*at: Tensor) -> tuple[Tensor, ...]:
            return tuple(_vjp(f, at[: len(arrays)], variable, at[len(arrays) :], True))

        worst = max(worst, _check(derivative, inner, order, level + 1, rng, rtol, step, directions))
    return worst


def _vjp(
    f: Callable[..., Any], inputs: Sequence[Tensor], variable: Sequence[bool], cotangents: Sequence[Tensor], keep: bool
) -> list[Tensor]:
    """Gradients of <cotangents, f(inputs)> by the engine, as functions of both if ``keep``; zeros where independent."""
    with enable_grad():
        if keep:
            xs = [x.alias() if v and x.requires_grad else _fresh(x, v) for x, v in zip(inputs, variable, strict=True)]
        else:
            xs = [_fresh(x, v) for x, v in zip(inputs, variable, strict=True)]
        ys = _outputs(f(*xs))
        variables = [x for x, v in zip(xs, variable, strict=True) if v]
        live = [(y, u) for y, u in zip(ys, cotangents, strict=True) if y.requires_grad]
        found: tuple = (None,) * len(variables)
        if live and variables:
            outs, us = zip(*live, strict=True)
            found = grad(list(outs), variables, list(us), create_graph=keep, allow_unused=True)
    return [
        wrap(np.zeros(x.shape), x.device) if g is None else g for g, x in zip(found, variables, strict=True)
    ]


def _fresh(x: Tensor, variable: bool) -> Tensor:
    return x.detach().requires_grad_() if variable else x
