"""The affine coupling of Glow: the specification."""

from __future__ import annotations

from typing import Any

from ..arrays import array_module
from ..registry import Cost, kernel


def value_cost(a: Any, b: Any, h: Any) -> Cost:
    """Reads both halves and what the network says, and writes both halves."""
    return Cost(bytes=2 * a.nbytes + 2 * b.nbytes + h.nbytes, flops=12 * a.size)


def vjp_cost(g: Any, y: Any, a: Any, b: Any, h: Any) -> Cost:
    """Reads the gradient of the first half, that half and the network's word, and writes a gradient of the last."""
    return Cost(bytes=2 * a.nbytes + 2 * h.nbytes, flops=15 * a.size)


def _scale(h: Any, channels: int) -> tuple[Any, Any]:
    """sigmoid(raw + 2), and its logarithm."""
    xp = array_module(h)
    u = h[:, channels:] + h.dtype.type(2)
    e = xp.exp(-xp.abs(u))
    return xp.where(u < 0, e, 1) / (1 + e), xp.minimum(u, 0) - xp.log1p(e)


@kernel("affine_coupling", cost=value_cost)
def affine_coupling(a: Any, b: Any, h: Any) -> tuple[Any, Any]:
    """``a``, ``b`` [N, C, ...] and ``h`` [N, 2 C, ...], shift and raw scale: (a + shift) * sigmoid(raw + 2) before b,
    [N, 2 C, ...], and of each sample the sum of the scales' logarithms, [N]."""
    xp, channels = array_module(a), a.shape[1]
    scale, log_scale = _scale(h, channels)
    y = xp.concatenate([(a + h[:, :channels]) * scale, b], axis=1)
    return y, log_scale.reshape(len(a), -1).sum(1) if a.size else xp.zeros(len(a), a.dtype)


@kernel("affine_coupling_vjp", cost=vjp_cost)
def affine_coupling_vjp(g: Any, y: Any, a: Any, b: Any, h: Any) -> tuple[Any, ...]:
    """Gradients in a, b and h from those of both outputs. ``y``, ``b``: not looked at."""
    xp, channels = array_module(a), a.shape[1]
    g_y, g_log = g
    scale, _ = _scale(h, channels)
    g_a = g_y[:, :channels] * scale
    per_sample = g_log.reshape(-1, *[1] * (a.ndim - 1))
    g_raw = (g_a * (a + h[:, :channels]) + per_sample) * (1 - scale)
    return g_a, g_y[:, channels:], xp.concatenate([g_a, g_raw], axis=1)
