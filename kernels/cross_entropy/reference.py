"""Cross entropy of logits against class indices: softmax, logarithm, choice, weighting and reduction in one op.

With t the target of a row x of C logits, w the class weights, s the label smoothing and lse = log sum e^x, its loss is

    (1 - s) w_t (lse - x_t)  +  s/C sum_c w_c (lse - x_c)

and 0 where t is ``ignore_index``. ``mean`` divides the sum by that of w_t over the rows that are not ignored.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import array_module, widen
from ..registry import Cost, kernel


def value_cost(x: Any, target: Any, weight: Any, **_: Any) -> Cost:
    """Reads the logits once; an exponential is counted as 15 operations."""
    return Cost(bytes=x.nbytes + target.nbytes, flops=18 * x.size)


def vjp_cost(g: Any, y: Any, x: Any, target: Any, weight: Any, lse: Any, **_: Any) -> Cost:
    """Reads the logits and writes their gradient once."""
    return Cost(bytes=2 * x.nbytes + target.nbytes, flops=18 * x.size)


def rows(x: Any) -> Any:
    """Logits (C,), (N, C) or (N, C, ...) with the classes last: a view."""
    return x[None] if x.ndim == 1 else np.moveaxis(x, 1, -1)


def row_weights(target: Any, weight: Any, ignore_index: int, dtype: Any) -> tuple[Any, Any, Any]:
    """For each row the class to look up (0 where ignored), w_t (0 where ignored) and whether it counts."""
    counts = target != ignore_index
    found = np.where(counts, target, 0)
    w = counts.astype(dtype)
    return found, w if weight is None else w * weight[found], counts


def reduced(losses: Any, w: Any, reduction: str) -> Any:
    """The rows' losses as they are, their sum, or that over the sum of the rows' weights."""
    if reduction == "none":
        return losses
    with np.errstate(divide="ignore", invalid="ignore"):  # the mean over no row is NaN, as in torch
        return losses.sum() / w.sum() if reduction == "mean" else losses.sum()


def row_gradients(g: Any, w: Any, counts: Any, reduction: str) -> tuple[Any, Any]:
    """What multiplies a row's gradient: for its target's part and for its smoothing part."""
    if reduction == "mean":
        with np.errstate(divide="ignore", invalid="ignore"):
            g = g / w.sum()
    return g * w, g * counts.astype(w.dtype)


@kernel("cross_entropy", cost=value_cost)
def cross_entropy(
    x: Any, target: Any, weight: Any, *, ignore_index: int, reduction: str, label_smoothing: float
) -> tuple[Any, Any]:
    """The loss, and lse of each row. x: (C,), (N, C), (N, C, ...); target: the same without C; weight: (C,) or None."""
    xp = array_module(x)
    logits = widen(rows(x))
    found, w, counts = row_weights(target.reshape(logits.shape[:-1]), weight, ignore_index, logits.dtype)
    with np.errstate(invalid="ignore"):  # rows of nothing but -inf have no softmax: NaN, as in torch
        top = logits.max(-1, keepdims=True)
        lse = np.log(np.exp(logits - top).sum(-1, keepdims=True)) + top
        at_target = lse[..., 0] - xp.take_along_axis(logits, found[..., None], -1)[..., 0]
        losses = (1 - label_smoothing) * w * xp.where(counts, at_target, 0)
        if label_smoothing:
            below = lse - logits
            spread = below.sum(-1) if weight is None else below @ weight.astype(below.dtype)
            losses += label_smoothing / logits.shape[-1] * xp.where(counts, spread, 0)
    loss = reduced(losses.reshape(target.shape), w, reduction)
    return xp.asarray(loss).astype(x.dtype, copy=False), lse[..., 0].reshape(target.shape)


@kernel("cross_entropy_vjp", cost=vjp_cost)
def cross_entropy_vjp(
    g: Any,
    y: Any,
    x: Any,
    target: Any,
    weight: Any,
    lse: Any,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> tuple[Any, None, None]:
    """The gradient in the logits; the weights are constants here."""
    xp = array_module(x)
    logits = widen(rows(x))
    lead, classes = logits.shape[:-1], logits.shape[-1]
    found, w, counts = row_weights(target.reshape(lead), weight, ignore_index, logits.dtype)
    slope = widen(g).reshape(lead if reduction == "none" else ())
    at_target, spread = row_gradients(slope, w, counts, reduction)
    at_target = at_target * (1 - label_smoothing)
    spread = spread * (label_smoothing / classes)
    total = classes if weight is None else weight.sum()

    dx = logits.copy(order="C")  # so that its rows can be numbered below
    dx -= lse.reshape(*lead, 1)
    np.exp(dx, out=dx)
    dx *= (at_target + spread * total)[..., None]
    if label_smoothing:
        dx -= spread[..., None] if weight is None else spread[..., None] * weight
    chosen = xp.arange(found.size), found.reshape(-1)
    dx.reshape(-1, classes)[chosen] -= at_target.reshape(-1)
    dx = dx[0] if x.ndim == 1 else np.moveaxis(dx, -1, 1)
    return dx.astype(x.dtype, copy=False), None, None
