"""``check_grad``: is every derivative of a function, to a given order, what differences say it is?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autograd import enable_grad, grad, no_grad
from ..tensor import Tensor, as_tensor, wrap
from .differences import directional_derivative

CLOSER = 50  # how much smaller the steps of a second opinion are


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


def _dot(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    return sum(float(np.vdot(x, y)) for x, y in zip(a, b, strict=True))


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
    count = sum(a.size for a, v in zip(arrays, variable, strict=True) if v)

    def values(at: Sequence[np.ndarray]) -> list[np.ndarray]:
        with no_grad():
            return [y.array for y in _outputs(f(*[as_tensor(a) for a in at]))]

    cotangents = [np.asarray(rng.standard_normal(y.shape)) for y in values(arrays)]
    found = _vjp(f, [as_tensor(a) for a in arrays], variable, [as_tensor(u) for u in cotangents], False)
    gradients = [g.array for g in found]
    worst = 0.0
    for number in range(directions if count else 0):
        toward = [np.asarray(rng.standard_normal(g.shape)) for g in gradients]
        length = _dot(toward, toward) ** 0.5
        toward = [d / length for d in toward]

        def along(t: float, toward: list = toward) -> float:
            moves = iter(toward)
            return _dot(cotangents, values([a + t * next(moves) if v else a for a, v in zip(arrays, variable)]))

        ours = _dot(gradients, toward)
        expected_size = (_dot(gradients, gradients) / count) ** 0.5
        numeric = directional_derivative(along, step, goal=1e-3 * rtol * max(abs(ours), expected_size))
        scale = max(abs(numeric.value), expected_size, 1e-12)
        error, doubt = abs(ours - numeric.value) / scale, numeric.error / scale
        verdict = (
            f"derivative of order {level} along random direction {number + 1} is {ours!r}, differences say "
            f"{numeric.value!r} +- {numeric.error:.1e}"
        )
        if not np.isfinite(ours) or error > rtol + 3 * doubt:
            closer = directional_derivative(along, step / CLOSER)
            if abs(ours - closer.value) / scale > rtol + 3 * closer.error / scale or not np.isfinite(ours):
                raise GradientError(
                    f"{verdict}: relative error {error:.1e}, allowed {rtol:.0e}"
                    + _by_input(arrays, variable, gradients, values, cotangents, step)
                )
            doubt = error  # right at the point, but not a step away: a kink misled the differences
        if doubt > rtol:
            raise Inconclusive(
                f"{verdict}, which does not tell to {rtol:.0e}: is there a kink or a pole nearby? "
                "Move the inputs or take another step"
            )
        worst = max(worst, error)
    if level < order:
        inner = [*arrays, *cotangents]

        def derivative(*at: Tensor) -> tuple[Tensor, ...]:
            return tuple(_vjp(f, at[: len(arrays)], variable, at[len(arrays) :], True))

        worst = max(worst, _check(derivative, inner, order, level + 1, rng, rtol, step, directions))
    return worst


def _by_input(
    arrays: Sequence[np.ndarray],
    variable: Sequence[bool],
    gradients: Sequence[np.ndarray],
    values: Callable[..., list[np.ndarray]],
    cotangents: Sequence[np.ndarray],
    step: float,
) -> str:
    """Where a wrong derivative is wrong: the element of each input that is furthest off."""
    lines = []
    for number, (i, g) in enumerate(zip([i for i, v in enumerate(variable) if v], gradients, strict=True)):
        numeric = np.empty(g.shape)
        for at in np.ndindex(g.shape):

            def along(t: float, i: int = i, at: tuple[int, ...] = at) -> float:
                moved = [a.copy() if k == i else a for k, a in enumerate(arrays)]
                moved[i][at] += t
                return _dot(cotangents, values(moved))

            numeric[at] = directional_derivative(along, step).value
        if g.size:
            at = np.unravel_index(np.argmax(np.abs(g - numeric)), g.shape)
            place = ", ".join(map(str, at))
            lines.append(
                f"variable {number} {list(g.shape)}: {g[at]:.9g} at [{place}], where differences say {numeric[at]:.9g}"
            )
    return "".join("\n  " + line for line in lines)


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
