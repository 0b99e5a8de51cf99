"""Philox4x32-10 in Numba: one pass, ten rounds in registers, blocks split over the threads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..numba_config import njit, prange, serial_and_parallel
from ..registry import kernel
from .reference import M0, M1, W0, W1

_M0, _M1, _W0, _W1 = np.uint64(M0), np.uint64(M1), np.uint32(W0), np.uint32(W1)
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
PARALLEL_FROM = 1 << 15  # numbers; below this a second thread costs more than it saves


@njit(inline="always")
def rounds(c0, c1, c2, c3, k0, k1):
    """The bijection of ``reference.rounds`` on uint32 words."""
    for _ in range(10):
        p0, p1 = np.uint64(c0) * _M0, np.uint64(c2) * _M1
        c0, c2 = np.uint32(p1 >> _32) ^ c1 ^ k0, np.uint32(p0 >> _32) ^ c3 ^ k1
        c1, c3 = np.uint32(p1 & _LOW), np.uint32(p0 & _LOW)
        k0, k1 = np.uint32(k0 + _W0), np.uint32(k1 + _W1)
    return np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)


@njit(inline="always")
def block(key, counter):
    """The four words of block ``counter`` of stream ``key``, both uint64."""
    low, high, zero = np.uint32(counter & _LOW), np.uint32(counter >> _32), np.uint32(0)
    return rounds(low, high, zero, zero, np.uint32(key & _LOW), np.uint32(key >> _32))


def _bits(key, counter, out):
    for b in prange(out.shape[0] // 4):
        w = block(key, counter + np.uint64(b))
        for i in range(4):
            out[4 * b + i] = w[i]


def _uniform32(key, counter, out):
    scale = np.float32(2.0**-24)
    for b in prange(out.shape[0] // 4):
        w0, w1, w2, w3 = block(key, counter + np.uint64(b))
        out[4 * b] = np.float32(w0 >> np.uint32(8)) * scale
        out[4 * b + 1] = np.float32(w1 >> np.uint32(8)) * scale
        out[4 * b + 2] = np.float32(w2 >> np.uint32(8)) * scale
        out[4 * b + 3] = np.float32(w3 >> np.uint32(8)) * scale


def _normal(key, counter, out):
    turn, unit = 2.0 * np.pi * 2.0**-32, 2.0**-32
    for b in prange(out.shape[0] // 4):
        w0, w1, w2, w3 = block(key, counter + np.uint64(b))
        r, a = math.sqrt(-2.0 * math.log((np.float64(w0) + 1.0) * unit)), turn * np.float64(w1)
        out[4 * b], out[4 * b + 1] = r * math.cos(a), r * math.sin(a)
        r, a = math.sqrt(-2.0 * math.log((np.float64(w2) + 1.0) * unit)), turn * np.float64(w3)
        out[4 * b + 2], out[4 * b + 3] = r * math.cos(a), r * math.sin(a)


_compiled = {body: serial_and_parallel(body) for body in (_bits, _uniform32, _normal)}


def _fill(body: Any, key: np.ndarray, counter: int, count: int, dtype: Any) -> np.ndarray:
    """Run ``body`` over whole blocks; the last block's surplus is cut off."""
    out = np.empty(-(-count // 4) * 4, dtype)
    _compiled[body][count >= PARALLEL_FROM](key[0], np.uint64(counter), out)
    return out[:count]


@kernel("philox_bits", impl="numba", device="cpu")
def philox_bits(key: np.ndarray, *, counter: int, count: int) -> np.ndarray:
    return _fill(_bits, key, counter, count, np.uint32)


@kernel("philox_uniform", impl="numba", device="cpu", when=lambda key, *, dtype, **_: np.dtype(dtype) == np.float32)
def philox_uniform(key: np.ndarray, *, counter: int, count: int, dtype: Any) -> np.ndarray:
    return _fill(_uniform32, key, counter, count, dtype)


@kernel("philox_normal", impl="numba", device="cpu", when=lambda key, *, dtype, **_: np.dtype(dtype).itemsize >= 4)
def philox_normal(key: np.ndarray, *, counter: int, count: int, dtype: Any) -> np.ndarray:
    return _fill(_normal, key, counter, count, dtype)
