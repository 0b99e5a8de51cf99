"""Layer norm of a sum, and the sum: what a pre-norm Transformer computes between two of its sublayers."""

from __future__ import annotations

from typing import Any

from ..arrays import widen
from ..layer_norm.reference import layer_norm, layer_norm_vjp
from ..registry import Cost, kernel


def value_cost(x: Any, residual: Any, weight: Any, bias: Any, **_: Any) -> Cost:
    """Reads both inputs and writes both outputs once."""
    return Cost(bytes=4 * x.nbytes, flops=9 * x.size)


def vjp_cost(g: Any, y: Any, x: Any, residual: Any, weight: Any, bias: Any, mean: Any, rstd: Any, **_: Any) -> Cost:
    """Reads both gradients and the sum, and writes one gradient, which is that of both inputs."""
    return Cost(bytes=4 * g[0].nbytes, flops=17 * g[0].size)


@kernel("layer_norm_residual", cost=value_cost)
def layer_norm_residual(
    x: Any, residual: Any, weight: Any, bias: Any, *, normalized_shape: tuple[int, ...], eps: float
) -> tuple[Any, ...]:
    """y and ``x + residual``; of that, mean and 1 / standard deviation of each sample."""
    total = x + residual
    y, mean, rstd = layer_norm(total, weight, bias, normalized_shape=normalized_shape, eps=eps)
    return y, total, mean, rstd


@kernel("layer_norm_residual_vjp", cost=vjp_cost)
def layer_norm_residual_vjp(
    g: Any,
    y: Any,
    x: Any,
    residual: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    rstd: Any,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> tuple[Any, ...]:
    """Gradients in x, residual, weight and bias from those of y and the sum. ``y``: both outputs."""
    g_norm, g_total = g
    attrs = {"normalized_shape": normalized_shape, "eps": eps}
    dx, dweight, dbias = layer_norm_vjp(g_norm, None, y[1], weight, bias, mean, rstd, **attrs)
    dx = (widen(dx) + g_total).astype(dx.dtype, copy=False)
    return dx, dx, dweight, dbias
