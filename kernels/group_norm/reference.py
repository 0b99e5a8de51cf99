"""Group norm (Wu and He 2018): each sample standardised over groups of channels and all positions.

With one group a channel it is instance norm. The channels are split into groups by a view, so an array whose channels
come last in memory stays so.
"""

from __future__ import annotations

from typing import Any

from ..arrays import widen
from ..registry import Cost, kernel
from ..standardize import standardize, standardize_vjp
from ..sums import accurate_sum


def value_cost(x: Any, weight: Any, bias: Any, **_: Any) -> Cost:
    """Reads x and writes y once; the parameters stay in the cache."""
    return Cost(bytes=2 * x.nbytes, flops=8 * x.size)


def vjp_cost(g: Any, y: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, **_: Any) -> Cost:
    """Reads g and x and writes dx once."""
    return Cost(bytes=3 * x.nbytes, flops=16 * x.size)


def _by_group(x: Any, groups: int) -> Any:
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def _parameter(p: Any, like: Any) -> Any:
    """A value a channel, as it multiplies arrays of the shape of ``like``."""
    return p.reshape(like.shape[1:3] + (1,) * (like.ndim - 3))


@kernel("group_norm", cost=value_cost)
def group_norm(x: Any, weight: Any, bias: Any, *, num_groups: int, eps: float) -> tuple[Any, Any, Any]:
    """y, and mean and 1 / standard deviation of each group. x: (N, C, ...); ``weight`` and ``bias``: (C,) or None."""
    split = _by_group(widen(x), num_groups)
    y, mean, _, rstd = standardize(split, tuple(range(2, split.ndim)), eps)
    if weight is not None:
        y *= _parameter(weight, y)
    if bias is not None:
        y += _parameter(bias, y)
    return y.reshape(x.shape).astype(x.dtype, copy=False), mean, rstd


@kernel("group_norm_vjp", cost=vjp_cost)
def group_norm_vjp(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, *, num_groups: int, eps: float
) -> tuple[Any, ...]:
    """Gradients in x, weight and bias."""
    g, z = _by_group(widen(g), num_groups), (_by_group(widen(x), num_groups) - mean) * rstd
    but_channels = (0, *range(3, z.ndim))
    dweight = None if weight is None else accurate_sum(g * z, but_channels).reshape(-1)
    dbias = None if bias is None else accurate_sum(g, but_channels).reshape(-1)
    dz = g if weight is None else g * _parameter(weight, g)
    dx = standardize_vjp(dz, z, rstd, tuple(range(2, z.ndim)))
    dx = dx.reshape(x.shape)
    return tuple(None if a is None else a.astype(x.dtype, copy=False) for a in (dx, dweight, dbias))
