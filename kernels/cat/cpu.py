"""Joining in Numba, for arrays that are large enough for two threads: NumPy's has one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import LARGE
from ..layout import memory_order, read_only, rows
from ..many import block_of
from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..vecmath import vector
from .reference import cat_cost

BLOCK = 1 << 13  # elements of a row that a thread takes at a time


@vector
def _copy(x, y):
    for j in range(y.size):
        y[j] = x[j]


@vector
def _part(x, row, start, stop):
    return block_of(x.ctypes.data + row * x.strides[0], start, stop)


def _copy_rows(x, y, parts):
    """Between matrices whose rows are contiguous; each row in so many parts."""
    n = y.shape[1]
    for k in prange(y.shape[0] * parts):
        row, part = divmod(np.int64(k), np.int64(parts))
        start, stop = part * n // parts, (part + 1) * n // parts
        _copy(_part(x, row, start, stop), _part(y, row, start, stop))


_compiled = serial_and_parallel(_copy_rows)[True]


def _is_worth_it(*arrays: Any, dim: int) -> bool:
    """Large, of one dtype, and in one order in memory."""
    first, others = arrays[0], arrays[1:]
    if sum(a.size for a in arrays) < LARGE or any(a.dtype != first.dtype for a in others):
        return False
    order = memory_order(first)
    return all(memory_order(a) == order for a in others)


@kernel("cat", impl="numba", device="cpu", dtypes="f4", when=_is_worth_it, cost=cat_cost)
def cat(*arrays: np.ndarray, dim: int) -> np.ndarray:
    shape = list(arrays[0].shape)
    shape[dim] = sum(a.shape[dim] for a in arrays)
    out = np.empty_like(arrays[0], shape=shape)
    end = 0
    for a in arrays:
        start, end = end, end + a.shape[dim]
        place = out[(slice(None),) * dim + (slice(start, end),)]
        matrices = rows(place, a)
        if matrices is None or a.size < BLOCK:
            place[...] = a
        else:
            y, x = matrices
            _compiled(*read_only(x), y, -(-y.shape[1] // BLOCK))
    return out
