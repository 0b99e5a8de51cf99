"""Max pooling and its derivatives in Numba: one pass over memory, a vector of channels at a time in registers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..arrays import channels_last, empty_channels_last
from ..parallel import array, c_function, fields, make, record, run, with_arrays
from ..registry import kernel
from ..resample.axis import AxisMap
from ..simd import machine_width
from ..vectors import FLOAT, INT, Masked, vector_pointer
from .reference import max_pool2d_cost, pool_gather_cost, pool_scatter_cost

LANES = machine_width().lanes
COMPILED_FROM = 1 << 12  # elements; below, NumPy's few passes are not worth a compilation
CHANNELS = 64  # of an image that are scattered together: for images too few to keep all threads busy

CALL = fields(
    "x y index height width channels rows columns "  # of the outputs
    "row_start row_index column_start column_index blocks"
)


@cache
def _largest(vectors: int) -> Any:
    """An intrinsic that finds the largest of one window and its index, in ``vectors`` vectors of channels.

    largest(x, row_index, rows, column_index, columns, width, channels, y, index, valid)
    """
    vector, words = ir.VectorType(FLOAT, LANES), ir.VectorType(ir.IntType(32), LANES)

    @intrinsic
    def largest(typing, x, row_index, rows, column_index, columns, width, channels, y, index, valid):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            x, row_index, rows, column_index, columns, width, channels, y, index, valid = values
            row_index, column_index = (builder.inttoptr(v, INT.as_pointer()) for v in (row_index, column_index))
            masked = [Masked(builder, vector, builder.sub(valid, INT(j * LANES))) for j in range(vectors)]
            best = [cgutils.alloca_once(builder, vector) for _ in masked]
            where = [cgutils.alloca_once(builder, words) for _ in masked]

            def entry(table: ir.Value, at: ir.Value) -> ir.Value:
                return builder.load(builder.gep(table, [at]))

            def spread(number: ir.Value) -> ir.Value:
                first = builder.insert_element(ir.Constant(words, ir.Undefined), number, ir.IntType(32)(0))
                return builder.shuffle_vector(first, ir.Constant(words, ir.Undefined), ir.Constant(words, [0] * LANES))

            corner = builder.add(builder.mul(entry(row_index, INT(0)), width), entry(column_index, INT(0)))
            for b, w in zip(best, where):
                builder.store(vector([float("-inf")] * LANES), b)
                builder.store(spread(builder.trunc(corner, ir.IntType(32))), w)
            with cgutils.for_range(builder, rows) as outer:
                line = builder.mul(entry(row_index, outer.index), width)
                with cgutils.for_range(builder, columns) as inner:
                    pixel = builder.add(line, entry(column_index, inner.index))
                    here = spread(builder.trunc(pixel, ir.IntType(32)))
                    for j, (mask, b, w) in enumerate(zip(masked, best, where)):
                        at = vector_pointer(builder, x, vector, builder.mul(pixel, channels), INT(j * LANES))
                        value, before = mask.load(at), builder.load(b)
                        # Of equal ones the first; NaN counts as largest, and no number is larger than it.
                        nan = builder.fcmp_unordered("uno", value, value)
                        better = builder.or_(builder.fcmp_ordered(">", value, before), nan)
                        builder.store(builder.select(better, value, before), b)
                        builder.store(builder.select(better, here, builder.load(w)), w)
            for j, (mask, b, w) in enumerate(zip(masked, best, where)):
                mask.store(builder.load(b), vector_pointer(builder, y, vector, INT(j * LANES)))
                as_floats = builder.bitcast(builder.load(w), vector)
                mask.store(as_floats, vector_pointer(builder, index, vector, INT(j * LANES)))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 10), emit

    return largest


largest = _largest(2)


def _pool_row(call, unit):
    """One row of windows of one image."""
    call = record(call, CALL)
    image, row = unit // call.rows, unit % call.rows
    row_start = array(call.row_start, call.rows + 1, np.int64)
    column_start = array(call.column_start, call.columns + 1, np.int64)
    x = call.x + 4 * image * call.height * call.width * call.channels
    place = 4 * unit * call.columns * call.channels
    row_index, rows = call.row_index + 8 * row_start[row], row_start[row + 1] - row_start[row]
    for q in range(call.columns):
        column_index, columns = call.column_index + 8 * column_start[q], column_start[q + 1] - column_start[q]
        for c in range(0, call.channels, 2 * LANES):
            largest(
                x + 4 * c, row_index, rows, column_index, columns, call.width, call.channels, call.y + place + 4 * c,
                call.index + place + 4 * c, min(call.channels - c, 2 * LANES),
            )  # fmt: skip
        place += 4 * call.channels


def _gather_row(call, unit):
    """What lies at the indices of one row."""
    call = record(call, CALL)
    size = call.height * call.width * call.channels
    x = array(call.x + 4 * (unit // call.rows) * size, size, np.float32)
    shape = (call.columns, call.channels)
    place = 4 * unit * call.columns * call.channels
    # Indices are never below 0: told so, Numba does not look whether one counts from the end.
    y, index = array(call.y + place, shape, np.float32), array(call.index + place, shape, np.uint32)
    for q in range(call.columns):
        for c in range(call.channels):
            y[q, c] = x[np.uint64(index[q, c]) * np.uint64(call.channels) + np.uint64(c)]


def _scatter_block(call, unit):
    """Some channels of one image: zeros, to which each element of y is added at its index."""
    call = record(call, CALL)
    image, first = unit // call.blocks, unit % call.blocks * CHANNELS
    last = min(first + CHANNELS, call.channels)
    size, count = call.height * call.width, call.rows * call.columns
    x = array(call.x + 4 * image * size * call.channels, size * call.channels, np.float32)
    y = array(call.y + 4 * image * count * call.channels, (count, call.channels), np.float32)
    index = array(call.index + 4 * image * count * call.channels, (count, call.channels), np.uint32)
    for i in range(size):
        x[i * call.channels + first : i * call.channels + last] = 0
    for i in range(count):
        for c in range(first, last):
            x[np.uint64(index[i, c]) * np.uint64(call.channels) + np.uint64(c)] += y[i, c]


pool_row = c_function(_pool_row, "pool")
gather_row = c_function(_gather_row, "pool")
scatter_block = c_function(_scatter_block, "pool")


def _pools(x: Any, *, rows: AxisMap, columns: AxisMap) -> bool:
    return x.size >= COMPILED_FROM and rows.complete and columns.complete and _short(x.shape[2:])


def _gathers(x: Any, index: Any) -> bool:
    return x.size >= COMPILED_FROM and index.dtype == np.int32


def _scatters(y: Any, index: Any, *, size: tuple[int, int]) -> bool:
    return y.size >= COMPILED_FROM and index.dtype == np.int32


def _short(size: tuple[int, ...]) -> bool:
    """Whether the indices of such images are 32-bit numbers."""
    return size[0] * size[1] < 1 << 31


@kernel("max_pool2d", impl="numba", device="cpu", dtypes="f4", when=_pools, cost=max_pool2d_cost)
def max_pool2d(x: np.ndarray, *, rows: AxisMap, columns: AxisMap) -> tuple[np.ndarray, np.ndarray]:
    """As the reference."""
    shape = (*x.shape[:2], rows.outputs, columns.outputs)
    last, y, index = channels_last(x), empty_channels_last(shape, x.dtype), empty_channels_last(shape, np.int32)
    (row_start, row_index, _), (column_start, column_index, _) = rows.entries, columns.entries
    call = with_arrays(
        _sizes(x.shape, shape), x=last, y=y, index=index, row_start=row_start, row_index=row_index,
        column_start=column_start, column_index=column_index,
    )  # fmt: skip
    run(pool_row, call, shape[0] * shape[2])
    return y, index


@kernel("pool_gather", impl="numba", device="cpu", dtypes="f4", when=_gathers, cost=pool_gather_cost)
def pool_gather(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """As the reference."""
    last, places = channels_last(x), channels_last(index)
    y = empty_channels_last(index.shape, x.dtype)
    run(gather_row, with_arrays(_sizes(x.shape, index.shape), x=last, y=y, index=places), len(x) * index.shape[2])
    return y


@kernel("pool_scatter", impl="numba", device="cpu", dtypes="f4", when=_scatters, cost=pool_scatter_cost)
def pool_scatter(y: np.ndarray, index: np.ndarray, *, size: tuple[int, int]) -> np.ndarray:
    """As the reference."""
    last, places = channels_last(y), channels_last(index)
    x = empty_channels_last((*y.shape[:2], *size), y.dtype)
    call = with_arrays(_sizes(x.shape, y.shape), x=x, y=last, index=places)
    run(scatter_block, call, len(y) * int(call["blocks"][0]))
    return x


def _sizes(images: tuple[int, ...], outputs: tuple[int, ...]) -> np.ndarray:
    _, channels, height, width = images
    return make(
        CALL,
        {
            "height": height,
            "width": width,
            "channels": channels,
            "rows": outputs[2],
            "columns": outputs[3],
            "blocks": -(-channels // CHANNELS),
        },
    )
