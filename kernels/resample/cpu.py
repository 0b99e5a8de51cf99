"""Resampling in Numba: one pass over memory, both matrices at once, a few vectors of channels at a time.

An output is the sum over rows of the weighted sum over columns, so windows of any size are added up in two stages, and
nothing is stored between them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..arrays import channels_last, empty_channels_last
from ..parallel import c_function, fields, make, record, run, with_arrays
from ..registry import kernel
from ..simd import machine_width
from ..vectors import FLOAT, INT, Masked, fused_multiply_add, vector_pointer
from .axis import AxisMap, identity
from .reference import resample2d_cost

LANES = machine_width().lanes
COMPILED_FROM = 1 << 12  # elements; below, NumPy's few passes are not worth a compilation

# Entries of a matrix by output: `start` and `index` of int64, `weight` of float32.
CALL = fields(
    "x y height width channels rows columns "
    "row_start row_index row_weight column_start column_index column_weight"
)


@cache
def _weighted_sum(vectors: int) -> Any:
    """An intrinsic that computes one output in ``vectors`` vectors of channels, the last of which may be cut off.

    weighted_sum(x, row_index, row_weight, rows, column_index, column_weight, columns, width, channels, y, valid)
    """
    vector = ir.VectorType(FLOAT, LANES)

    @intrinsic
    def weighted_sum(
        typing, x, row_index, row_weight, rows, column_index, column_weight, columns, width, channels, y, valid
    ):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            x, row_index, row_weight, rows, column_index, column_weight, columns, width, channels, y, valid = values
            row_index, column_index = (builder.inttoptr(v, INT.as_pointer()) for v in (row_index, column_index))
            row_weight, column_weight = (builder.inttoptr(v, FLOAT.as_pointer()) for v in (row_weight, column_weight))
            fma = fused_multiply_add(builder, vector)
            masked = Masked(builder, vector, builder.sub(valid, INT((vectors - 1) * LANES)))
            totals = [cgutils.alloca_once(builder, vector) for _ in range(vectors)]
            parts = [cgutils.alloca_once(builder, vector) for _ in range(vectors)]

            def entry(array: ir.Value, index: ir.Value) -> ir.Value:
                return builder.load(builder.gep(array, [index]))

            def spread(number: ir.Value) -> ir.Value:
                first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.IntType(32)(0))
                mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
                return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), mask)

            for total in totals:
                builder.store(masked.zero, total)
            with cgutils.for_range(builder, rows) as outer:
                for part in parts:
                    builder.store(masked.zero, part)
                line = builder.mul(entry(row_index, outer.index), width)
                with cgutils.for_range(builder, columns) as inner:
                    pixel = builder.mul(builder.add(line, entry(column_index, inner.index)), channels)
                    weight = spread(entry(column_weight, inner.index))
                    for j, part in enumerate(parts):
                        at = vector_pointer(builder, x, vector, pixel, INT(j * LANES))
                        value = masked.load(at) if j == vectors - 1 else builder.load(at, align=4)
                        builder.store(builder.call(fma, [weight, value, builder.load(part)]), part)
                weight = spread(entry(row_weight, outer.index))
                for total, part in zip(totals, parts):
                    builder.store(builder.call(fma, [weight, builder.load(part), builder.load(total)]), total)
            for j, total in enumerate(totals):
                at = vector_pointer(builder, y, vector, INT(j * LANES))
                if j == vectors - 1:
                    masked.store(builder.load(total), at)
                else:
                    builder.store(builder.load(total), at, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 11), emit

    return weighted_sum


@intrinsic
def entry(typing, address, index):
    """An int64 of an array at an address."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        return builder.load(builder.gep(builder.inttoptr(values[0], INT.as_pointer()), [values[1]]))

    return types.int64(types.int64, types.int64), emit


_one, _four = _weighted_sum(1), _weighted_sum(4)


def _resample_row(call, unit):
    """One row of outputs of one image."""
    call = record(call, CALL)
    image, row = unit // call.rows, unit % call.rows
    x = call.x + 4 * image * call.height * call.width * call.channels
    y = call.y + 4 * unit * call.columns * call.channels
    first = entry(call.row_start, row)
    rows = entry(call.row_start, row + 1) - first
    row_index, row_weight = call.row_index + 8 * first, call.row_weight + 4 * first
    for q in range(call.columns):
        begin = entry(call.column_start, q)
        columns = entry(call.column_start, q + 1) - begin
        column_index, column_weight = call.column_index + 8 * begin, call.column_weight + 4 * begin
        c = 0
        while c < call.channels:
            at, to, left = x + 4 * c, y + 4 * c, call.channels - c
            if left > 3 * LANES:
                _four(
                    at, row_index, row_weight, rows, column_index, column_weight, columns, call.width, call.channels,
                    to, min(left, 4 * LANES),
                )  # fmt: skip
                c += 4 * LANES
            else:
                _one(
                    at, row_index, row_weight, rows, column_index, column_weight, columns, call.width, call.channels,
                    to, min(left, LANES),
                )  # fmt: skip
                c += LANES
        y += 4 * call.channels


resample_row = c_function(_resample_row, "resample")


def _fits(x: Any, *, rows: AxisMap | None, columns: AxisMap | None) -> bool:
    size = [m.outputs if m else n for m, n in zip((rows, columns), x.shape[2:])]
    return x.shape[0] * x.shape[1] * max(size[0] * size[1], x.shape[2] * x.shape[3]) >= COMPILED_FROM


@kernel("resample2d", impl="numba", device="cpu", dtypes="f4", when=_fits, cost=resample2d_cost)
def resample2d(x: np.ndarray, *, rows: AxisMap | None, columns: AxisMap | None) -> np.ndarray:
    """As the reference."""
    n, channels, height, width = x.shape
    row_entries = (rows or identity(height)).entries
    column_entries = (columns or identity(width)).entries
    size = len(row_entries[0]) - 1, len(column_entries[0]) - 1
    last = channels_last(x)
    y = empty_channels_last((n, channels, *size), x.dtype)
    numbers = {"height": height, "width": width, "channels": channels, "rows": size[0], "columns": size[1]}
    call = with_arrays(
        make(CALL, numbers),
        x=last,
        y=y,
        row_start=row_entries[0],
        row_index=row_entries[1],
        row_weight=row_entries[2],
        column_start=column_entries[0],
        column_index=column_entries[1],
        column_weight=column_entries[2],
    )
    run(resample_row, call, n * size[0])
    return y
