"""Joining in Numba, for arrays that are large enough for two threads: NumPy's has one."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..arrays import LARGE
from ..layout import memory_order, read_only, rows
from ..many import block_of
from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..simd import FLOAT, INT, machine_width
from ..vecmath import vector
from ..vectors import Masked, vector_pointer
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


@intrinsic
def _move(typing, y, x, count):
    """``count`` numbers from address x to y."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        y, x, count = values
        kind = ir.VectorType(FLOAT, machine_width().lanes)
        left = builder.and_(count, INT(kind.count - 1))
        end = builder.sub(count, left)
        with cgutils.for_range_slice(builder, INT(0), end, INT(kind.count), INT) as (start, _):
            number = builder.load(vector_pointer(builder, x, kind, start), align=4)
            builder.store(number, vector_pointer(builder, y, kind, start), align=4)
        with builder.if_then(builder.icmp_signed(">", left, INT(0))):
            masked = Masked(builder, kind, left)
            masked.store(masked.load(vector_pointer(builder, x, kind, end)), vector_pointer(builder, y, kind, end))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


@vector
def _join_some(parts, y, length, start, stop):
    for row in range(start, stop):
        place = y + 4 * length * row
        for k in range(parts.shape[0]):
            _move(place, parts[k, 0] + 4 * parts[k, 1] * row, parts[k, 2])
            place += 4 * parts[k, 2]


def _join_rows(parts, y, length, rows, each):
    """Rows of ``length`` from parts side by side: of each its address, the elements between rows, and those of one."""
    for n in prange((rows + each - 1) // each):
        _join_some(parts, y, length, n * each, min((n + 1) * each, rows))


_compiled = serial_and_parallel(_copy_rows)[True]
_compiled_join = serial_and_parallel(_join_rows)[True]


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
    end, pieces = 0, []
    for a in arrays:
        start, end = end, end + a.shape[dim]
        place = out[(slice(None),) * dim + (slice(start, end),)]
        pieces.append((place, a, rows(place, a)))
    if not _joined(out, [found for *_, found in pieces if found is not None]):
        for place, a, found in pieces:
            if found is None or a.size < BLOCK:
                place[...] = a
            else:
                y, x = found
                _compiled(*read_only(x), y, -(-y.shape[1] // BLOCK))
    return out


def _joined(out: np.ndarray, pieces: list[list[np.ndarray]]) -> bool:
    """Whether all of ``out`` are short rows, of ``pieces`` side by side; then it has been filled, in one pass.

    Pieces are matrices: the place in ``out``, and what belongs there.
    """
    count, length = len(pieces[0][0]) if pieces else 0, sum(x.shape[1] for _, x in pieces)
    if count * length != out.size or not 0 < length <= BLOCK:
        return False
    if any(len(y) != count or (count > 1 and y.strides[0] != 4 * length) for y, _ in pieces):
        return False
    table = np.array([(x.ctypes.data, x.strides[0] // 4, x.shape[1]) for _, x in pieces])
    _compiled_join(table, out.ctypes.data, length, count, BLOCK // length)
    return True
