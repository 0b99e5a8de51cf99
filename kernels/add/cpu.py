"""Addition in Numba, for arrays that are large enough for two threads: NumPy's has one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import LARGE
from ..layout import flat, is_packed, middle, read_only, rows
from ..many import block_of
from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..vecmath import vector
from .reference import add_cost

BLOCK = 1 << 12  # elements that a thread takes at a time


@vector
def _run(a, b, y):
    for j in range(y.size):
        y[j] = a[j] + b[j]


@vector
def _row(x, i, n):
    return block_of(x.ctypes.data + np.int64(i) * x.strides[0], 0, n)


def _add(a, b, y):
    for i in prange(-(-y.size // BLOCK)):
        run = slice(i * BLOCK, (i + 1) * BLOCK)
        _run(a[run], b[run], y[run])


def _add_spread(a, b, y):
    """Matrices [before, middle, after], of which ``b`` has but one row each."""
    for i in prange(y.shape[0] * y.shape[1]):
        _run(a[i // y.shape[1], i % y.shape[1]], b[i // y.shape[1], 0], y[i // y.shape[1], i % y.shape[1]])


def _add_rows(a, b, y):
    """Matrices whose rows are contiguous."""
    n = y.shape[1]
    for i in prange(y.shape[0]):
        _run(_row(a, i, n), _row(b, i, n), _row(y, i, n))


_compiled = {body: serial_and_parallel(body)[True] for body in (_add, _add_rows, _add_spread)}


def _add_alike(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """``out = a + b`` of one shape. What lies in no common order is copied; ``out`` has no gaps."""
    matrices = None if out.strides == a.strides == b.strides else rows(out, a, b)
    if matrices is None or len(matrices[0]) == 1:
        y, flat_a, flat_b = flat(out, a, b)
        _compiled[_add](*read_only(flat_a, flat_b), y)
    else:
        y, rows_a, rows_b = matrices
        _compiled[_add_rows](*read_only(rows_a, rows_b), y)


def _is_worth_it(a: Any, b: Any) -> bool:
    return isinstance(b, np.ndarray) and a.dtype == b.dtype and max(a.size, b.size) >= LARGE


@kernel("add", impl="numba", device="cpu", dtypes="f4", when=_is_worth_it, cost=add_cost)
def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.shape == b.shape:
        out = np.empty_like(a)
        _add_alike(a, b, out)
        return out
    if a.size < b.size:
        a, b = b, a
    out = np.empty_like(a)
    spread = middle(out, b.shape)
    if spread is None:
        return np.add(a, b)
    order, shape, row = spread
    matrices, sums = (np.ascontiguousarray(x.transpose(order)).reshape(shape) for x in (a, out))
    few = b.reshape((1,) * (a.ndim - b.ndim) + b.shape).transpose(order)
    _compiled[_add_spread](*read_only(matrices, np.ascontiguousarray(few).reshape(row)), sums)
    return out


@kernel("accumulate", impl="numba", device="cpu", dtypes="f4", when=_is_worth_it, cost=add_cost)
def accumulate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if is_packed(a):
        _add_alike(a, b, a)
        return a
    return np.add(a, b, out=a)
