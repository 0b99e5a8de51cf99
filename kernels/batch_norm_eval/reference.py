"""Batch norm in evaluation: ``(x - mean) weight / sqrt(var + eps) + bias`` with running statistics.

The mean is subtracted, not multiplied into a shift: where it is large, the digits of x would be lost.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import widen
from ..registry import Cost, kernel
from ..sums import accurate_sum


def value_cost(x: Any, mean: Any, var: Any, weight: Any, bias: Any, **_: Any) -> Cost:
    """Reads x and writes y once."""
    return Cost(bytes=2 * x.nbytes, flops=3 * x.size)


def vjp_cost(g: Any, y: Any, x: Any, mean: Any, var: Any, weight: Any, bias: Any, **_: Any) -> Cost:
    """Reads g and x and writes dx once."""
    return Cost(bytes=3 * x.nbytes, flops=5 * x.size)


def _per_channel(p: Any, like: Any) -> Any:
    return p.reshape((-1,) + (1,) * (like.ndim - 2))


def scaling(var: Any, weight: Any, eps: float) -> tuple[Any, Any]:
    """1 / standard deviation, and that times the weight."""
    rstd = 1 / np.sqrt(widen(var) + eps)
    return rstd, rstd if weight is None else rstd * weight


@kernel("batch_norm_eval", cost=value_cost)
def batch_norm_eval(x: Any, mean: Any, var: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    """x: (N, C, ...), all else (C,); ``weight`` and ``bias`` may be None."""
    y = (widen(x) - _per_channel(mean, x)) * _per_channel(scaling(var, weight, eps)[1], x)
    if bias is not None:
        y += _per_channel(bias, x)
    return y.astype(x.dtype, copy=False)


@kernel("batch_norm_eval_vjp", cost=vjp_cost)
def batch_norm_eval_vjp(
    g: Any, y: Any, x: Any, mean: Any, var: Any, weight: Any, bias: Any, *, eps: float
) -> tuple[Any, ...]:
    """Gradients in x, mean, var, weight and bias."""
    axes = (0, *range(2, x.ndim))
    g, (rstd, scale) = widen(g), scaling(var, weight, eps)
    total = accurate_sum(g, axes)
    along = accurate_sum(g * (widen(x) - _per_channel(mean, x)), axes)
    grads = g * _per_channel(scale, x), *of_parameters(total, along, rstd, scale, weight, bias)
    return tuple(None if a is None else a.astype(x.dtype, copy=False) for a in grads)


def of_parameters(total: Any, along: Any, rstd: Any, scale: Any, weight: Any, bias: Any) -> tuple[Any, ...]:
    """Gradients in mean, var, weight and bias from the sums of g and of ``g (x - mean)`` for each channel."""
    dweight = None if weight is None else along * rstd
    return -total * scale, -0.5 * along * scale * rstd * rstd, dweight, None if bias is None else total
