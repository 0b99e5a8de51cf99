"""Dropout in Numba: one pass over memory, four numbers to a block of random words."""

from __future__ import annotations

import math

import numpy as np

from ..layout import read_only
from ..numba_config import njit, prange, serial_and_parallel
from ..philox.cpu import block as random_block
from ..registry import kernel
from ..vecmath import ZERO
from .reference import dropout_cost

PARALLEL_FROM = 1 << 14  # elements; below this a second thread costs more than it saves
RUN = 1 << 10  # blocks that a thread takes at a time
_8 = np.uint32(8)


@njit(nogil=True)
def _run(key, counter, x, y, least, scale):
    for b in range(x.size // 4):
        w0, w1, w2, w3 = random_block(key, counter + np.uint64(b))
        y[4 * b] = x[4 * b] * (scale if w0 >> _8 >= least else ZERO)
        y[4 * b + 1] = x[4 * b + 1] * (scale if w1 >> _8 >= least else ZERO)
        y[4 * b + 2] = x[4 * b + 2] * (scale if w2 >> _8 >= least else ZERO)
        y[4 * b + 3] = x[4 * b + 3] * (scale if w3 >> _8 >= least else ZERO)
    done = x.size // 4 * 4
    if done < x.size:
        words = random_block(key, counter + np.uint64(x.size // 4))
        for i in range(x.size - done):
            y[done + i] = x[done + i] * (scale if words[i] >> _8 >= least else ZERO)


def _dropout(key, counter, x, y, least, scale):
    for r in prange(-(-x.size // (4 * RUN))):
        run = slice(4 * r * RUN, 4 * (r + 1) * RUN)
        _run(key, counter + np.uint64(r * RUN), x[run], y[run], least, scale)


_compiled = serial_and_parallel(_dropout)


@kernel("dropout", impl="numba", device="cpu", dtypes="f4", when=lambda x, **_: x.flags.c_contiguous, cost=dropout_cost)
def dropout(x: np.ndarray, *, key: np.ndarray, counter: int, p: float) -> np.ndarray:
    out = np.empty_like(x)
    # The uniform k 2^-24 is at least p, as a float32, where k is at least this.
    least = np.uint32(math.ceil(float(np.float32(p)) * (1 << 24)))
    scale = np.float32(1 / (1 - p) if p < 1 else 1)
    flat, y = x.reshape(-1), out.reshape(-1)
    _compiled[x.size >= PARALLEL_FROM](key[0], np.uint64(counter), *read_only(flat), y, least, scale)
    return out
