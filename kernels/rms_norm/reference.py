"""RMS norm (Zhang and Sennrich 2019): each sample divided by its root mean square over its last dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import widen
from ..registry import Cost, kernel
from ..standardize import count
from ..sums import accurate_sum


def value_cost(x: Any, weight: Any, **_: Any) -> Cost:
    """Reads x and writes y once; the weight stays in the cache."""
    return Cost(bytes=2 * x.nbytes, flops=5 * x.size)


def vjp_cost(g: Any, y: Any, x: Any, weight: Any, rstd: Any, **_: Any) -> Cost:
    """Reads g and x and writes dx once."""
    return Cost(bytes=3 * x.nbytes, flops=10 * x.size)


@kernel("rms_norm", cost=value_cost)
def rms_norm(x: Any, weight: Any, *, normalized_shape: tuple[int, ...], eps: float) -> tuple[Any, Any]:
    """y, and 1 / root mean square of each sample. ``weight``: ``normalized_shape`` or None."""
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    wide = widen(x)
    rstd = 1 / np.sqrt(accurate_sum(np.square(wide), axes, True) / count(x, axes) + eps)
    y = wide * rstd
    if weight is not None:
        y *= weight
    return y.astype(x.dtype, copy=False), rstd


@kernel("rms_norm_vjp", cost=vjp_cost)
def rms_norm_vjp(
    g: Any, y: Any, x: Any, weight: Any, rstd: Any, *, normalized_shape: tuple[int, ...], eps: float
) -> tuple[Any, ...]:
    """Gradients in x and weight."""
    lead = x.ndim - len(normalized_shape)
    axes = tuple(range(lead, x.ndim))
    g, z = widen(g), widen(x) * rstd
    dweight = None if weight is None else accurate_sum(g * z, tuple(range(lead)))
    if weight is not None:
        g = g * weight
    dx = g - z * (accurate_sum(g * z, axes, True) / count(x, axes))
    dx *= rstd
    return tuple(None if a is None else a.astype(x.dtype, copy=False) for a in (dx, dweight))
