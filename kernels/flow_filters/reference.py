"""Filters made of the parameters of Glow: the specification.

Each is a dozen operations on a few numbers. As one op they cost what their array operations do, not a dozen nodes.
"""

from __future__ import annotations

import math
from typing import Any

from ..arrays import array_module
from ..registry import kernel


def _rows(s: Any, weight: Any) -> Any:
    """One number for each output, in a shape that broadcasts over the filters."""
    return s.reshape(-1, *[1] * (weight.ndim - 1))


@kernel("scaled_filters")
def scaled_filters(weight: Any, bias: Any, log_scale: Any, *, gain: float) -> tuple[Any, Any]:
    """``weight`` [out, ...] and ``bias`` [out] times exp(gain log_scale), a number for each output."""
    s = array_module(weight).exp(gain * log_scale)
    return weight * _rows(s, weight), bias * s


@kernel("scaled_filters_vjp")
def scaled_filters_vjp(g: Any, y: Any, weight: Any, bias: Any, log_scale: Any, *, gain: float) -> tuple[Any, ...]:
    """Gradients in weight, bias and log_scale."""
    g_weight, g_bias = g
    s = array_module(weight).exp(gain * log_scale)
    scaled = g_weight * _rows(s, weight), g_bias * s
    per_output = (scaled[0] * weight).reshape(len(s), math.prod(weight.shape[1:])).sum(1) + scaled[1] * bias
    return *scaled, gain * per_output


def _triangles(lower: Any, upper: Any, diagonal: Any) -> tuple[Any, Any, Any]:
    """L, U + diag(s), and a matrix of ones below the diagonal."""
    xp, n = array_module(lower), len(lower)
    below = xp.tri(n, k=-1, dtype=lower.dtype)
    return lower * below + xp.eye(n, dtype=lower.dtype), upper * below.T + xp.diag(diagonal), below


@kernel("mixing_filters")
def mixing_filters(
    permutation: Any, lower: Any, upper: Any, sign: Any, log_s: Any, log_scale: Any, bias: Any
) -> tuple[Any, Any, Any]:
    """P L (U + diag(sign exp(log_s))) diag(exp(log_scale)) [n, n], that times ``bias`` [n], and log |det|, a scalar."""
    xp = array_module(lower)
    low, up, _ = _triangles(lower, upper, sign * xp.exp(log_s))
    weight = permutation @ (low @ up) * xp.exp(log_scale)
    return weight, weight @ bias, xp.asarray(log_s.sum() + log_scale.sum(), lower.dtype)


@kernel("mixing_filters_vjp")
def mixing_filters_vjp(
    g: Any,
    y: Any,
    permutation: Any,
    lower: Any,
    upper: Any,
    sign: Any,
    log_s: Any,
    log_scale: Any,
    bias: Any,
    *,
    needs: tuple[bool, ...],
) -> tuple[Any, ...]:
    """Gradients in all seven, of the permutation and the signs only where they are needed: they are constants."""
    xp = array_module(lower)
    g_weight, g_bias, g_det = g
    exp_s = xp.exp(log_s)
    low, up, below = _triangles(lower, upper, sign * exp_s)
    g_weight = g_weight + g_bias[:, None] * bias
    g_product = g_weight * xp.exp(log_scale)  # in P L U
    inner = permutation.T @ g_product  # in L U
    at_upper = low.T @ inner
    diagonal = xp.diagonal(at_upper) * exp_s
    return (
        g_product @ (low @ up).T if needs[0] else None,
        inner @ up.T * below,
        at_upper * below.T,
        diagonal if needs[3] else None,
        diagonal * sign + g_det,
        (g_weight * y[0]).sum(0) + g_det,
        y[0].T @ g_bias,
    )
