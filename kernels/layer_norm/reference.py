"""Layer norm (Ba et al. 2016): each sample standardised over its last dimensions, then scaled and shifted."""

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


@kernel("layer_norm", cost=value_cost)
def layer_norm(
    x: Any, weight: Any, bias: Any, *, normalized_shape: tuple[int, ...], eps: float
) -> tuple[Any, Any, Any]:
    """y, and mean and 1 / standard deviation of each sample. ``weight`` and ``bias``: ``normalized_shape`` or None."""
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    y, mean, _, rstd = standardize(widen(x), axes, eps)
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y.astype(x.dtype, copy=False), mean, rstd


@kernel("layer_norm_vjp", cost=vjp_cost)
def layer_norm_vjp(
    g: Any,
    y: Any,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    rstd: Any,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> tuple[Any, ...]:
    """Gradients in x, weight and bias."""
    lead = x.ndim - len(normalized_shape)
    g, z = widen(g), (widen(x) - mean) * rstd
    samples = tuple(range(lead))
    dweight = None if weight is None else accurate_sum(g * z, samples)
    dbias = None if bias is None else accurate_sum(g, samples)
    dx = standardize_vjp(g if weight is None else g * weight, z, rstd, tuple(range(lead, x.ndim)))
    return tuple(None if a is None else a.astype(x.dtype, copy=False) for a in (dx, dweight, dbias))
