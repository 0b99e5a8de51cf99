"""``check_grad``: the check of all derivatives in one line, for tests that want a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .derivatives import check_vjp


def check_grad(
    f: Callable[..., Any],
    *inputs: Any,
    order: int = 2,
    seed: int = 0,
    rtol: float = 1e-6,
    step: float = 0.02,
    directions: int = 2,
) -> float:
    """``check_vjp`` of ``f`` at ``inputs`` along a few ``directions``; returns the largest relative error.

    Raises GradientError (wrong), or Inconclusive if a relative error of ``rtol`` could go unseen.
    """
    return check_vjp(f, inputs, k=directions, order=order, kinks="avoid", resolution=rtol, step=step, seed=seed).worst
