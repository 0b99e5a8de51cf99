"""On the CPU. Rows are added one after another, as the specification does, columns are split over the threads.

So a number of the output is the sum of the same numbers in the same order whatever the threads. ``np.add.at``, the
reference, is quick only along one dimension; that is what ``flat`` makes of small and narrow arrays, which needs no
compilation.
"""

from __future__ import annotations

import numba
import numpy as np

from ..arrays import LARGE, widen
from ..layout import read_only
from ..numba_config import njit, prange, serial_and_parallel
from ..registry import kernel
from ..vecmath import vector
from .reference import scatter_add_cost, take_rows_cost

PARALLEL_FROM = 1 << 15  # elements; below this a second thread costs more than it saves
COLUMNS = 64  # at most, that a thread takes at a time; all threads get equally many
CLEARED = 16  # parts of the rows, whole ones, that are filled with zeros at a time


def _is_small(source: np.ndarray, index: np.ndarray, *, rows: int) -> bool:
    return source.shape[1] == 1 or source.size < 1 << 12


@kernel("scatter_add", impl="flat", device="cpu", when=_is_small, priority=20, cost=scatter_add_cost)
def scatter_add_flat(source: np.ndarray, index: np.ndarray, *, rows: int) -> np.ndarray:
    """Element by element: NumPy has a direct loop for one-dimensional indices."""
    width = source.shape[1]
    where = index if width == 1 else (index[:, None] * width + np.arange(width)).reshape(-1)
    flat = widen(source).reshape(-1)
    out = np.zeros(rows * width, flat.dtype)
    np.add.at(out, where, flat)
    return out.reshape(rows, width).astype(source.dtype, copy=False)


@vector
def _add_row(x, y):
    for j in range(y.size):
        y[j] += x[j]


@vector
def _clear(rows):
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            rows[i, j] = 0


@njit(nogil=True)
def _add_columns(source, index, first, last, out):
    for i in range(source.shape[0]):
        _add_row(source[i, first:last], out[index[i], first:last])


def _scatter_add(source, index, out, parts):
    rows, columns = out.shape
    for b in prange(CLEARED):
        _clear(out[b * rows // CLEARED : (b + 1) * rows // CLEARED])
    for b in prange(parts):
        _add_columns(source, index, b * columns // parts, (b + 1) * columns // parts, out)


_compiled = serial_and_parallel(_scatter_add)


@kernel("scatter_add", impl="numba", device="cpu", dtypes="f4 f8", cost=scatter_add_cost)
def scatter_add(source: np.ndarray, index: np.ndarray, *, rows: int) -> np.ndarray:
    out = np.empty((rows, source.shape[1]), source.dtype)
    packed = read_only(np.ascontiguousarray(source), np.ascontiguousarray(index, np.int64))
    threads = numba.get_num_threads()
    parts = threads * -(-out.shape[1] // (COLUMNS * threads))
    _compiled[max(source.size, out.size) >= PARALLEL_FROM](*packed, out, parts)
    return out


@vector
def _copy_row(x, y):
    for j in range(y.size):
        y[j] = x[j]


def _take_rows(table, index, out):
    for i in prange(index.size):
        _copy_row(table[index[i]], out[i])


_taken = serial_and_parallel(_take_rows)[True]


def _is_large(table: np.ndarray, index: np.ndarray) -> bool:
    return index.size * table.shape[1] >= LARGE


@kernel("take_rows", impl="numba", device="cpu", dtypes="f4 f8", when=_is_large, cost=take_rows_cost)
def take_rows(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    out = np.empty((index.size, table.shape[1]), table.dtype)
    _taken(*read_only(np.ascontiguousarray(table), np.ascontiguousarray(index, np.int64)), out)
    return out
