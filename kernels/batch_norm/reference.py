"""Batch norm in training (Ioffe and Szegedy 2015): each channel standardised over the batch and all positions.

The batch's mean and variance are outputs, since the running statistics are made of them; so their gradients arrive
here too. In evaluation batch norm is a scale and a shift, and needs no kernel of its own.
"""

from __future__ import annotations

from typing import Any

from ..arrays import widen
from ..registry import Cost, kernel
from ..standardize import count, standardize
from ..sums import accurate_sum


def value_cost(x: Any, weight: Any, bias: Any, **_: Any) -> Cost:
    """Reads x twice, for the statistics and for y, and writes y: a channel does not fit the cache."""
    return Cost(bytes=3 * x.nbytes, flops=8 * x.size)


def vjp_cost(g: Any, y: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, **_: Any) -> Cost:
    """Reads g and x twice and writes dx."""
    return Cost(bytes=5 * x.nbytes, flops=14 * x.size)


def _but_channels(x: Any) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _parameter(p: Any, like: Any) -> Any:
    """A value a channel, as it multiplies arrays of the shape of ``like``."""
    return p.reshape((-1,) + (1,) * (like.ndim - 2))


@kernel("batch_norm", cost=value_cost)
def batch_norm(x: Any, weight: Any, bias: Any, *, eps: float) -> tuple[Any, ...]:
    """y, mean (C,), biased variance (C,); for the derivative mean and 1 / standard deviation with axes kept.

    x: (N, C, ...); ``weight`` and ``bias``: (C,) or None.
    """
    y, mean, var, rstd = standardize(widen(x), _but_channels(x), eps)
    if weight is not None:
        y *= _parameter(weight, y)
    if bias is not None:
        y += _parameter(bias, y)
    outputs = [a.astype(x.dtype, copy=False) for a in (y, mean.reshape(-1), var.reshape(-1))]
    return *outputs, mean, rstd


@kernel("batch_norm_vjp", cost=vjp_cost)
def batch_norm_vjp(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, *, eps: float
) -> tuple[Any, Any, Any]:
    """Gradients in x, weight and bias from those of y, mean and variance."""
    gy, gmean, gvar = (widen(a) for a in g)
    axes, n = _but_channels(x), count(x, _but_channels(x))
    z = (widen(x) - mean) * rstd
    dbias = accurate_sum(gy, axes)
    dweight = accurate_sum(gy * z, axes)
    # With s the scale, a channel's gradient is s g + a z + b: two numbers gather all that comes through the statistics.
    s = rstd if weight is None else rstd * _parameter(weight, x)
    a = _parameter(gvar, x) * (2 / n) / rstd - s * _parameter(dweight, x) / n
    b = _parameter(gmean, x) / n - s * _parameter(dbias, x) / n
    dx = gy * s
    z *= a
    dx += z
    dx += b
    return dx.astype(x.dtype, copy=False), None if weight is None else dweight, None if bias is None else dbias
