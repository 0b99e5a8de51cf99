"""The affine coupling in Numba: one pass forward and one backward, a sample at a time.

There are few channels, often two or four, and half of them lie together at most. What the logistic function is taken of
is brought together first, so that it is vector code.
"""

from __future__ import annotations

import math

import numpy as np

from ..arrays import empty_channels_last
from ..layout import is_fastest, read_only
from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..vecmath import ONE, TWO, ZERO, exp, log1p, vector, vector_sums
from .reference import value_cost, vjp_cost

COMPILED_FROM = 1 << 10  # elements; below, NumPy's few microseconds are not worth a compilation
PARALLEL_FROM = 1 << 14  # elements; below this a second thread costs more than it saves
SAMPLES = 8  # that a thread takes at a time


@vector_sums
def _scales(raw, scale):
    """sigmoid(raw + 2) of each number, and the sum of the logarithms."""
    total = ZERO
    for p in range(raw.size):
        u = raw[p] + TWO
        e = exp(-abs(u))
        scale[p] = (e if u < ZERO else ONE) / (ONE + e)
        total += (u if u < ZERO else ZERO) - log1p(e)
    return total


@vector
def _sample_scales(h, channels, raw, scale):
    """Those of a sample, whose numbers are brought together."""
    pixels = h.shape[1]
    for c in range(channels):
        for p in range(pixels):
            raw[c * pixels + p] = h[channels + c, p]
    return _scales(raw, scale)


@vector
def _sample(a, b, h, y, raw, scale):
    channels, pixels = a.shape
    total = _sample_scales(h, channels, raw, scale)
    for c in range(channels):
        for p in range(pixels):
            y[c, p] = (a[c, p] + h[c, p]) * scale[c * pixels + p]
            y[channels + c, p] = b[c, p]
    return total


@vector
def _vjp_sample(g, g_log, a, h, dh, raw, scale):
    channels, pixels = a.shape
    _sample_scales(h, channels, raw, scale)
    for c in range(channels):
        for p in range(pixels):
            s = scale[c * pixels + p]
            shifted = g[c, p] * s
            dh[c, p] = shifted
            dh[channels + c, p] = (shifted * (a[c, p] + h[c, p]) + g_log) * (ONE - s)


@vector
def _some(first, a, b, h, y, log_det):
    raw, scale = np.empty(a[0].size, np.float32), np.empty(a[0].size, np.float32)
    for n in range(first, min(first + SAMPLES, a.shape[0])):
        log_det[n] = _sample(a[n], b[n], h[n], y[n], raw, scale)


@vector
def _some_vjps(first, g, g_log, a, h, dh):
    raw, scale = np.empty(a[0].size, np.float32), np.empty(a[0].size, np.float32)
    for n in range(first, min(first + SAMPLES, a.shape[0])):
        _vjp_sample(g[n], g_log[n], a[n], h[n], dh[n], raw, scale)


def _values(a, b, h, y, log_det):
    for i in prange(-(-a.shape[0] // SAMPLES)):
        _some(i * SAMPLES, a, b, h, y, log_det)


def _vjps(g, g_log, a, h, dh):
    for i in prange(-(-a.shape[0] // SAMPLES)):
        _some_vjps(i * SAMPLES, g, g_log, a, h, dh)


_compiled = {body: serial_and_parallel(body) for body in (_values, _vjps)}


def _empty_like(h: np.ndarray) -> np.ndarray:
    """An array of ``h``'s shape without gaps: images with channels last if ``h`` lies so."""
    return empty_channels_last(h.shape, h.dtype) if h.ndim == 4 and is_fastest(h, 1) else np.empty(h.shape, h.dtype)


def _planes(a: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """``a`` [N, C, ...] as [N, C, pixels], of one pixel as [N, 1, C]; the others, twice as deep, likewise.

    Views of arrays without gaps in whatever order, and of halves of their channels; else copies.
    """
    channels, pixels = a.shape[1], math.prod(a.shape[2:])
    channels, pixels = (1, channels) if pixels == 1 else (channels, pixels)
    return [x.reshape(len(x), channels * x.shape[1] // a.shape[1], pixels) for x in (a, *others)]


def _is_worth_it(a: np.ndarray, b: np.ndarray, h: np.ndarray) -> bool:
    return a.size >= COMPILED_FROM and a.ndim > 1


@kernel("affine_coupling", impl="numba", device="cpu", dtypes="f4", when=_is_worth_it, cost=value_cost)
def affine_coupling(a: np.ndarray, b: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, log_det = _empty_like(h), np.empty(len(a), np.float32)
    first, second, said, made = _planes(a, b, h, y)
    _compiled[_values][a.size >= PARALLEL_FROM](*read_only(first, second, said), made, log_det)
    return y, log_det


@kernel("affine_coupling_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def affine_coupling_vjp(
    g: tuple[np.ndarray, np.ndarray], y: None, a: np.ndarray, b: None, h: np.ndarray
) -> tuple[np.ndarray, ...]:
    dh, half = _empty_like(h), a.shape[1]
    first, g_y, said, made = _planes(a, g[0], h, dh)
    g_y, g_log, first, said = read_only(g_y, np.ascontiguousarray(g[1]), first, said)
    _compiled[_vjps][a.size >= PARALLEL_FROM](g_y, g_log, first, said, made)
    return dh[:, :half], g[0][:, half:], dh
