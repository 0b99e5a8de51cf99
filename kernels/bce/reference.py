"""Binary cross entropy of logits against probabilities: sigmoid, logarithms, weighting and reduction in one op.

With p the weight of the positive class and w that of the element, the loss of logit x and target t is

    w ( (1 - t) x + (1 + (p - 1) t) log(1 + e^-x) ),      log(1 + e^-x) = max(-x, 0) + log(1 + e^-|x|)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..activation.reference import sigmoids
from ..arrays import array_module, widen
from ..registry import Cost, kernel
from ..sums import accurate_sum


def value_cost(x: Any, target: Any, weight: Any, pos_weight: Any, *, reduction: str) -> Cost:
    """Reads logits and targets once; an exponential or a logarithm is counted as 15 operations."""
    return Cost(bytes=(3 if reduction == "none" else 2) * x.nbytes, flops=36 * x.size)


def vjp_cost(g: Any, y: Any, x: Any, target: Any, weight: Any, pos_weight: Any, *, reduction: str, needs: Any) -> Cost:
    """Reads logits and targets and writes the gradient once."""
    return Cost(bytes=(4 if reduction == "none" else 3) * x.nbytes, flops=22 * x.size)


@kernel("binary_cross_entropy_with_logits", cost=value_cost)
def binary_cross_entropy_with_logits(x: Any, target: Any, weight: Any, pos_weight: Any, *, reduction: str) -> Any:
    """The loss. ``target`` has x's shape; ``weight`` and ``pos_weight`` broadcast to it or are None."""
    xp = array_module(x)
    dtype, x = x.dtype, widen(x)
    tail = np.maximum(-x, 0) + np.log1p(np.exp(-np.abs(x)))
    if pos_weight is not None:
        tail *= 1 + (pos_weight - 1) * target
    losses = (1 - target) * x + tail
    if weight is not None:
        losses *= weight
    if reduction != "none":
        losses = accurate_sum(losses, None) / (losses.size if reduction == "mean" else 1)
    return xp.asarray(losses).astype(dtype, copy=False)


@kernel("binary_cross_entropy_with_logits_vjp", cost=vjp_cost)
def binary_cross_entropy_with_logits_vjp(
    g: Any,
    y: Any,
    x: Any,
    target: Any,
    weight: Any,
    pos_weight: Any,
    *,
    reduction: str,
    needs: tuple[bool, ...],
) -> tuple[Any, Any, None, None]:
    """Gradients in x and target; the weights are constants here."""
    dtype, x = x.dtype, widen(x)
    slope = widen(g) if reduction != "mean" else widen(g) / max(x.size, 1)
    if weight is not None:
        slope = slope * weight
    dx = dtarget = None
    if needs[0]:
        up, down = sigmoids(x)  # d log(1 + e^-x) / dx = -sigmoid(-x)
        if pos_weight is None:
            dx = slope * (up - target)
        else:
            dx = slope * ((1 - target) - (1 + (pos_weight - 1) * target) * down)
        dx = dx.astype(dtype, copy=False)
    if needs[1]:
        dtarget = -x
        if pos_weight is not None:
            dtarget += (pos_weight - 1) * (np.maximum(-x, 0) + np.log1p(np.exp(-np.abs(x))))
        dtarget = (slope * dtarget).astype(target.dtype, copy=False)
    return dx, dtarget, None, None
