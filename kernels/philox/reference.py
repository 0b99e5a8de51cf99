"""Philox4x32-10: a counter-based random number generator (Salmon et al., SC 2011), the specification.

Block ``c`` of a stream is ten rounds of a keyed bijection of the 128-bit number ``c``: four 32-bit words, the same on
every device. Number ``i`` of a draw that starts at ``counter`` comes from block ``counter + i // 4``, word ``i % 4``
(float64: two words each).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import array_module
from ..registry import kernel

M0, M1 = 0xD2511F53, 0xCD9E8D57  # multipliers
W0, W1 = 0x9E3779B9, 0xBB67AE85  # key increments: the golden ratio and sqrt(3) - 1
MASK = 0xFFFFFFFF
_32 = np.uint64(32)


def rounds(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """The bijection: the words of counters and key, least significant first, in uint64 arrays that broadcast."""
    for _ in range(10):
        p0, p1 = c0 * np.uint64(M0), c2 * np.uint64(M1)
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & MASK, (p0 >> _32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + W0) & MASK, (k1 + W1) & MASK
    return c0, c1, c2, c3


@kernel("philox_bits")
def philox_bits(key: Any, *, counter: int, count: int) -> Any:
    """``count`` random uint32. ``key``: uint64 array of one element; ``counter``: the first block's number."""
    xp = array_module(key)
    block = xp.arange(-(-count // 4), dtype=np.uint64) + np.uint64(counter)
    high = xp.zeros_like(block)
    words = rounds(block & MASK, block >> _32, high, high, key & MASK, key >> _32)
    return xp.stack(words, axis=1).astype(np.uint32).reshape(-1)[:count]


@kernel("philox_uniform")
def philox_uniform(key: Any, *, counter: int, count: int, dtype: Any) -> Any:
    """``count`` numbers uniform on [0, 1): multiples of 2^-53 (float64), 2^-24 (float32) or 2^-11 (float16).

    Those are all the dtype holds just below 1; finer ones would round up to 1 now and then.
    """
    dtype = np.dtype(dtype)
    if dtype == np.float64:
        return of_two_words(philox_bits(key, counter=counter, count=2 * count))
    digits = {np.float32: 24, np.float16: 11}[dtype.type]
    bits = philox_bits(key, counter=counter, count=count) >> np.uint32(32 - digits)
    return (bits.astype(np.float32) * np.float32(2.0**-digits)).astype(dtype)


def of_two_words(bits: Any) -> Any:
    """Numbers uniform on [0, 1) in float64, each of 53 bits of two words that follow each other."""
    words = bits.astype(np.uint64)
    high, low = words[0::2] >> np.uint64(5), words[1::2] >> np.uint64(6)
    return (high * np.uint64(1 << 26) + low).astype(np.float64) * 2.0**-53


@kernel("philox_normal")
def philox_normal(key: Any, *, counter: int, count: int, dtype: Any) -> Any:
    """``count`` standard normal numbers by the Box-Muller transform of pairs of words."""
    xp = array_module(key)
    pairs = -(-count // 2)
    bits = philox_bits(key, counter=counter, count=2 * pairs).reshape(pairs, 2)
    radius = xp.sqrt(-2.0 * xp.log((bits[:, 0].astype(np.float64) + 1.0) * 2.0**-32))
    angle = (2.0 * np.pi * 2.0**-32) * bits[:, 1].astype(np.float64)
    both = xp.stack([radius * xp.cos(angle), radius * xp.sin(angle)], axis=1)
    return both.reshape(-1)[:count].astype(dtype)
