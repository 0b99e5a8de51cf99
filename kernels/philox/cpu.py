"""Philox4x32-10 in Numba: one pass, ten rounds in registers, blocks split over the threads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..numba_config import njit, prange, specialise
from ..registry import kernel
from ..vecmath import HALF, ONE, ZERO, _bits_of, _float_of, log1p, vector
from .reference import M0, M1, W0, W1, of_two_words

_M0, _M1, _W0, _W1 = np.uint64(M0), np.uint64(M1), np.uint32(W0), np.uint32(W1)
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
PARALLEL_FROM = 1 << 15  # numbers; below this a second thread costs more than it saves
PART = 1 << 11  # blocks that a thread fills at a time


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


_f, _i, _u = np.float32, np.int32, np.uint32

_HALF_RANGE = _u(1 << 31)
_UNIT = _f(2.0**-32)
_LN2_HIGH, _LN2_LOW = _f(0.693359375), _f(-2.12194440e-4)  # ln 2 in two parts: n * _LN2_HIGH is exact
_DIGITS, _ONE_BITS = _i(0x007FFFFF), _i(0x3F800000)  # of a float32: its digits, the exponent of 1
_SCALE = _i(127 + 32)  # exponent bits of 2^32


@vector
def _minus_log(word):
    """``-log((word + 1) / 2^32)``, within 4 ulp, as -(n ln 2 + log(1 + t)) with ``-1/2 <= t < 1``."""
    bits = _bits_of(_f(word) + ONE)
    # Next to 1 it is the difference from 1 that counts, and that is a whole number.
    near = word >= _HALF_RANGE
    t = -_f(_u(~word)) * _UNIT if near else _float_of((bits & _DIGITS) | _ONE_BITS) - ONE
    n = ZERO if near else _f(_i(bits >> _i(23)) - _SCALE)
    return -(n * _LN2_HIGH + (n * _LN2_LOW + log1p(t)))


_QUARTER, _EIGHTH = _u(30), _u(1 << 29)  # a turn is 2^32: bits of a quarter of it, an eighth
_RADIANS = _f(2 * math.pi * 2.0**-32)
_S1, _S2, _S3 = _f(-0.16666664), _f(0.008332748), _f(-0.0001958789)
_C1, _C2, _C3 = _f(0.041666664), _f(-0.0013888302), _f(2.4547942e-05)


@vector
def _cos_sin(word):
    """Cosine and sine of ``word / 2^32`` of a turn, within 2 ulp near their zeros too."""
    quarter = _u(word + _EIGHTH) >> _QUARTER
    x = _f(_i(word - (quarter << _QUARTER))) * _RADIANS  # from the nearest quarter, up to pi / 4 to either side
    z = x * x
    sine = x + x * z * ((_S3 * z + _S2) * z + _S1)
    cosine = ONE - (HALF * z - z * z * ((_C3 * z + _C2) * z + _C1))
    odd = (quarter & _u(1)) != _u(0)
    c, s = (sine if odd else cosine), (cosine if odd else sine)
    turned = (_u(quarter + _u(1)) & _u(2)) != _u(0)  # the second and third quarters
    return (-c if turned else c), (-s if (quarter & _u(2)) != _u(0) else s)


@njit(inline="always")
def normal_pair(first, second):
    """Two standard normal numbers in float32 of two uint32 words, within 4 eps of the reference.

    Box-Muller without branches or calls, so that a loop over it is vector code. What could lose digits, how far a word
    is from the end of its range and an angle from the next quarter turn, is taken from the words as whole numbers,
    before anything is rounded.
    """
    radius = math.sqrt(_f(2) * _minus_log(first))
    cosine, sine = _cos_sin(second)
    return radius * cosine, radius * sine


def _bits(key, counter, out):
    for b in range(out.shape[0] // 4):
        out[4 * b], out[4 * b + 1], out[4 * b + 2], out[4 * b + 3] = block(key, counter + np.uint64(b))


def _uniform32(key, counter, out):
    scale = np.float32(2.0**-24)
    for b in range(out.shape[0] // 4):
        w0, w1, w2, w3 = block(key, counter + np.uint64(b))
        out[4 * b] = np.float32(w0 >> np.uint32(8)) * scale
        out[4 * b + 1] = np.float32(w1 >> np.uint32(8)) * scale
        out[4 * b + 2] = np.float32(w2 >> np.uint32(8)) * scale
        out[4 * b + 3] = np.float32(w3 >> np.uint32(8)) * scale


def _normal32(key, counter, out):
    for b in range(out.shape[0] // 4):
        w0, w1, w2, w3 = block(key, counter + np.uint64(b))
        out[4 * b], out[4 * b + 1] = normal_pair(w0, w1)
        out[4 * b + 2], out[4 * b + 3] = normal_pair(w2, w3)


def _normal64(key, counter, out):
    turn, unit = 2.0 * np.pi * 2.0**-32, 2.0**-32
    for b in range(out.shape[0] // 4):
        w0, w1, w2, w3 = block(key, counter + np.uint64(b))
        r, a = math.sqrt(-2.0 * math.log((np.float64(w0) + 1.0) * unit)), turn * np.float64(w1)
        out[4 * b], out[4 * b + 1] = r * math.cos(a), r * math.sin(a)
        r, a = math.sqrt(-2.0 * math.log((np.float64(w2) + 1.0) * unit)), turn * np.float64(w3)
        out[4 * b + 2], out[4 * b + 3] = r * math.cos(a), r * math.sin(a)


fill: Any = None  # `_versions` gives the name its value


def _over_threads(key, counter, out):
    blocks = out.shape[0] // 4
    for part in prange(-(-blocks // PART)):
        first = PART * part
        fill(key, counter + np.uint64(first), out[4 * first : 4 * min(blocks, first + PART)])


def _versions(body: Any) -> tuple[Any, Any]:
    """``body`` on one thread, and over all of them."""
    fill = specialise(body, "serial", {})
    return fill, specialise(_over_threads, body.__name__, {"fill": fill}, parallel=True)


_compiled = {body: _versions(body) for body in (_bits, _uniform32, _normal32, _normal64)}


def _fill(body: Any, key: np.ndarray, counter: int, count: int, dtype: Any) -> np.ndarray:
    """Run ``body`` over whole blocks; the last block's surplus is cut off."""
    out = np.empty(-(-count // 4) * 4, dtype)
    _compiled[body][count >= PARALLEL_FROM](key[0], np.uint64(counter), out)
    return out[:count]


@kernel("philox_bits", impl="numba", device="cpu")
def philox_bits(key: np.ndarray, *, counter: int, count: int) -> np.ndarray:
    return _fill(_bits, key, counter, count, np.uint32)


@kernel("philox_uniform", impl="numba", device="cpu", when=lambda key, *, dtype, **_: np.dtype(dtype).itemsize >= 4)
def philox_uniform(key: np.ndarray, *, counter: int, count: int, dtype: Any) -> np.ndarray:
    if np.dtype(dtype) == np.float64:
        return of_two_words(_fill(_bits, key, counter, 2 * count, np.uint32))
    return _fill(_uniform32, key, counter, count, dtype)


@kernel("philox_normal", impl="numba", device="cpu", when=lambda key, *, dtype, **_: np.dtype(dtype).itemsize >= 4)
def philox_normal(key: np.ndarray, *, counter: int, count: int, dtype: Any) -> np.ndarray:
    body = _normal32 if np.dtype(dtype) == np.float32 else _normal64
    return _fill(body, key, counter, count, dtype)
