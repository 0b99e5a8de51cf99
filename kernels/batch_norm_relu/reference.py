"""ReLU or leaky ReLU of batch norm in training: one specification after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import widen
from ..batch_norm.reference import batch_norm, batch_norm_vjp
from ..registry import Cost, kernel


def value_cost(x: Any, weight: Any, bias: Any, **_: Any) -> Cost:
    """Reads x twice, for the statistics and for y, and writes y: a channel does not fit the cache."""
    return Cost(bytes=3 * x.nbytes, flops=10 * x.size)


def vjp_cost(g: Any, y: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, **_: Any) -> Cost:
    """Reads g and x twice and writes dx."""
    return Cost(bytes=5 * x.nbytes, flops=18 * x.size)


@kernel("batch_norm_relu", cost=value_cost)
def batch_norm_relu(x: Any, weight: Any, bias: Any, *, eps: float, slope: float) -> tuple[Any, ...]:
    """As ``batch_norm``, with y below 0 times ``slope``."""
    u, mean, var, *auxiliary = batch_norm(widen(x), weight, bias, eps=eps)
    y = np.where(u > 0, u, slope * u)
    return *(a.astype(x.dtype, copy=False) for a in (y, mean, var)), *auxiliary


@kernel("batch_norm_relu_vjp", cost=vjp_cost)
def batch_norm_relu_vjp(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, *, eps: float, slope: float
) -> tuple[Any, ...]:
    """Gradients in x, weight and bias from those of y, mean and variance."""
    u = batch_norm(widen(x), weight, bias, eps=eps)[0]
    du = np.where(u > 0, widen(g[0]), slope * widen(g[0]))
    dx, dweight, dbias = batch_norm_vjp((du, *g[1:]), None, widen(x), weight, bias, mean, rstd, eps=eps)
    return tuple(None if a is None else a.astype(x.dtype, copy=False) for a in (dx, dweight, dbias))
