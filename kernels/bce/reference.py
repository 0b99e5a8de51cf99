"""Binary cross entropy of logits against probabilities: sigmoid, logarithms, weighting and reduction in one op.

With p the weight of the positive class and w that of the element, the loss of logit x and target t is

    w ( (1 - t) log(1 + e^x) + p t log(1 + e^-x) ),      log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)

and its derivative w ( (1 - t) sigmoid(x) - p t sigmoid(-x) ). For a certain target either is one term, not the small
difference of two.
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


def _softplus_both(x: Any) -> tuple[Any, Any]:
    """log(1 + e^x) and log(1 + e^-x)."""
    bend = np.log1p(np.exp(-np.abs(x)))
    return np.maximum(x, 0) + bend, np.maximum(-x, 0) + bend


@kernel("binary_cross_entropy_with_logits", cost=value_cost)
def binary_cross_entropy_with_logits(x: Any, target: Any, weight: Any, pos_weight: Any, *, reduction: str) -> Any:
    """The loss. ``target`` has x's shape; ``weight`` and ``pos_weight`` broadcast to it or are None."""
    xp = array_module(x)
    dtype, x = x.dtype, widen(x)
    up, down = _softplus_both(x)
    losses = (1 - target) * up + (target if pos_weight is None else pos_weight * target) * down
    if weight is not None:
        losses *= weight
    if reduction != "none":
        with np.errstate(invalid="ignore"):  # the mean of nothing is NaN, as in torch
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
        up, down = sigmoids(x)
        dx = slope * ((1 - target) * up - (target if pos_weight is None else pos_weight * target) * down)
        dx = dx.astype(dtype, copy=False)
    if needs[1]:
        up, down = _softplus_both(x)
        dtarget = slope * ((down if pos_weight is None else pos_weight * down) - up)
        dtarget = dtarget.astype(target.dtype, copy=False)
    return dx, dtarget, None, None
