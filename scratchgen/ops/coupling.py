"""The affine coupling of a normalizing flow as one op: each half is read and written once."""

from __future__ import annotations

from typing import Any

from ..declare import fused
from ..tensor import Tensor
from .activation import logsigmoid, sigmoid
from .join import cat
from .reduce import sum
from .shape import flatten

__all__ = ["affine_coupling"]


@fused("a h", several=2)
def _affine_coupling(a: Tensor, b: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    channels = a.shape[1]
    shift, raw = h[:, :channels], h[:, channels:] + 2
    return cat([(a + shift) * sigmoid(raw), b], 1), sum(flatten(logsigmoid(raw), 1), 1)


@_affine_coupling.vjp_rule
def _affine_coupling_rule(g: tuple[Tensor, Tensor], y: None, a: Tensor, b: Any, h: Tensor) -> tuple[Tensor, ...]:
    """What stays as it is, ``b``, need not be kept."""
    channels, per_sample = a.shape[1], (len(a), *[1] * (a.ndim - 1))
    scale = sigmoid(h[:, channels:] + 2)
    g_a = g[0][:, :channels] * scale
    g_raw = (g_a * (a + h[:, :channels]) + g[1].reshape(per_sample)) * (1 - scale)
    return g_a, g[0][:, channels:], cat([g_a, g_raw], 1)


def affine_coupling(a: Tensor, b: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """``(a + shift) * sigmoid(raw + 2)`` before ``b``, and the sum of the logarithms of each sample's scales, [N].

    ``a`` and ``b`` [N, C, ...] are the halves of a sample's channels, ``h`` [N, 2 C, ...] what a network makes of b:
    ``shift`` before ``raw``. With its scale below 1 it is the coupling of Glow's code (Kingma and Dhariwal 2018).
    Raises ValueError for shapes that do not go together.
    """
    if a.ndim < 2 or a.shape != b.shape or h.shape != (a.shape[0], 2 * a.shape[1], *a.shape[2:]):
        shapes = [list(x.shape) for x in (a, b, h)]
        raise ValueError(f"affine_coupling: a and b must be [N, C, ...] and h [N, 2 C, ...], got {shapes}")
    if a.dtype is not b.dtype or a.dtype is not h.dtype:
        raise TypeError(f"affine_coupling: inputs of {a.dtype}, {b.dtype}, {h.dtype} differ; cast them with .to(dtype)")
    return _affine_coupling(a, b, h)
