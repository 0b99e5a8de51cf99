"""The loops of direct convolution: one tile of accumulators in registers, and bands of rows that stay in cache.

All three ops are products of matrices, of which one is made of windows of an image and does not exist: where its
numbers lie is the sum of a place for the row and a place for the column, and the latter are looked up in a table. So
one tile product does all strides and dilations, and its inner loop has no branch at the ends of rows of pixels or taps.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .. import simd
from ..numba_config import specialise
from ..parallel import array, c_function, fields, record, reference
from ..vectors import FLOAT, INT, Masked, fused_multiply_add, prefetch, vector_pointer

WIDTH = simd.machine_width()
LANES, VECTORS = WIDTH.lanes, WIDTH.vectors
PANEL = VECTORS * LANES  # output channels of one tile
# Rows of a tile: the one that fills the registers, and smaller ones which any number of rows is a sum of.
ROWS = (WIDTH.rows, 5, 4, 3, 2, 1) if WIDTH.rows < 8 else (WIDTH.rows, 8, 7, 4, 2, 1)
NARROW = LANES // 4  # up to so many outputs it is better to run vectors along the depth
AHEAD = 8  # steps of depth that vectors are fetched before they are used: weights come from the second-level cache
NEAREST = 32 << 10  # bytes of the first-level cache to count on
LONGEST = 512  # products added up one by one; more are added in parts, for accuracy


# --- tiles


def _table(builder: ir.IRBuilder, address: ir.Value, index: ir.Value) -> ir.Value:
    """An int32 of a table, as int64."""
    entries = builder.inttoptr(address, ir.IntType(32).as_pointer())
    return builder.sext(builder.load(builder.gep(entries, [index])), INT)


@cache
def reduce_tile(rows: int, vectors: int, lanes: int) -> Any:
    """An intrinsic for one tile of a product, kept in registers until it is done.

        tile(a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth)

    c[i c_row + j] = start[i start_row + j] + sum over k < depth of a[table[k] + i a_row] * b[k b_step + j]

    for ``i < rows`` and ``j < width``, where ``(vectors - 1) lanes < width <= vectors lanes``: nothing beyond is read
    from ``b`` and ``start``, nor written. All but sizes and strides (in elements) are addresses; ``table`` is one of
    int32, with an entry more than is used. ``start`` may be ``c``.
    """
    vector = ir.VectorType(FLOAT, lanes)
    signature = types.void(*[types.int64] * 11)

    @intrinsic
    def tile(typing, a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth = values
            fma = fused_multiply_add(builder, vector)
            masked = Masked(builder, vector, builder.sub(width, INT((vectors - 1) * lanes)))
            sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
            for place in chain(*sums):
                builder.store(masked.zero, place)

            def load(base: ir.Value, j: int, offset: ir.Value) -> ir.Value:
                pointer = vector_pointer(builder, base, vector, offset, INT(j * lanes))
                return masked.load(pointer) if j == vectors - 1 else builder.load(pointer, align=4)

            for i in range(rows):  # what is written to; it may come from far
                for j in range(vectors):
                    pointer = vector_pointer(builder, c, vector, builder.mul(c_row, INT(i)), INT(j * lanes))
                    prefetch(builder, pointer, write=1)
            # The table is read one step ahead: where LLVM waits for an address, it moves all loads to the front.
            following = cgutils.alloca_once_value(builder, _table(builder, table, INT(0)))
            with cgutils.for_range(builder, depth) as loop:
                offset = builder.shl(builder.load(following), INT(2))
                builder.store(_table(builder, table, builder.add(loop.index, INT(1))), following)
                row_of_b = [load(b, j, builder.mul(loop.index, b_step)) for j in range(vectors)]
                ahead = builder.mul(builder.add(loop.index, INT(AHEAD)), b_step)
                for j in range(vectors):
                    prefetch(builder, vector_pointer(builder, b, vector, ahead, INT(j * lanes)))
                a_at = builder.inttoptr(builder.add(a, offset), FLOAT.as_pointer())
                for i in range(rows):
                    value = builder.load(builder.gep(a_at, [builder.mul(a_row, INT(i))]))
                    spread = simd._broadcast(builder, value, vector)
                    for place, b_value in zip(sums[i], row_of_b):
                        builder.store(builder.call(fma, [spread, b_value, builder.load(place)]), place)
            for i in range(rows):
                for j, place in enumerate(sums[i]):
                    value = builder.fadd(builder.load(place), load(start, j, builder.mul(start_row, INT(i))))
                    pointer = vector_pointer(builder, c, vector, builder.mul(c_row, INT(i)), INT(j * lanes))
                    if j == vectors - 1:
                        masked.store(value, pointer)
                    else:
                        builder.store(value, pointer, align=4)
            return context.get_dummy_value()

        return signature, emit

    return tile


@cache
def dot_tile(rows: int, outs: int, lanes: int) -> Any:
    """An intrinsic for a product of few columns: vectors run along runs of the depth, which lie side by side in a.

        tile(a, a_row, table, b, b_out, start, c, c_row, run, runs)

    c[i c_row + o] = start[o] + sum over r < runs and k < run of a[table[r run] + i a_row + k] * b[o b_out + r run + k]
    """
    vector = ir.VectorType(FLOAT, lanes)
    signature = types.void(*[types.int64] * 10)

    @intrinsic
    def tile(typing, a, a_row, table, b, b_out, start, c, c_row, run, runs):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            a, a_row, table, b, b_out, start, c, c_row, run, runs = values
            fma = fused_multiply_add(builder, vector)
            zero = vector([0.0] * lanes)
            sums = [[cgutils.alloca_once(builder, vector) for _ in range(outs)] for _ in range(rows)]
            for place in chain(*sums):
                builder.store(zero, place)
            steps = builder.udiv(builder.add(run, INT(lanes - 1)), INT(lanes))
            with cgutils.for_range(builder, runs) as outer:
                b_at = builder.mul(outer.index, run)
                offset = _table(builder, table, b_at)
                with cgutils.for_range(builder, steps) as inner:
                    k = builder.mul(inner.index, INT(lanes))
                    masked = Masked(builder, vector, builder.sub(run, k))
                    weights = [
                        masked.load(vector_pointer(builder, b, vector, builder.mul(b_out, INT(o)), b_at, k))
                        for o in range(outs)
                    ]
                    for i in range(rows):
                        at = builder.mul(a_row, INT(i))
                        value = masked.load(vector_pointer(builder, a, vector, offset, at, k))
                        for place, weight in zip(sums[i], weights):
                            builder.store(builder.call(fma, [value, weight, builder.load(place)]), place)
            scalar = ir.FunctionType(FLOAT, [FLOAT, vector])
            add_up = cgutils.get_or_insert_function(builder.module, scalar, f"llvm.vector.reduce.fadd.v{lanes}f32")
            starts, c = (builder.inttoptr(v, FLOAT.as_pointer()) for v in (start, c))
            for i in range(rows):
                for o, place in enumerate(sums[i]):
                    first = builder.load(builder.gep(starts, [INT(o)]))
                    total = builder.call(add_up, [first, builder.load(place)], fastmath=("reassoc",))
                    builder.store(total, builder.gep(c, [builder.add(builder.mul(c_row, INT(i)), INT(o))]))
            return context.get_dummy_value()

        return signature, emit

    return tile


@intrinsic
def copy_panel(typing, source, source_row, target, sums, width, rows):
    """Copy ``rows`` rows of ``width`` <= PANEL floats to rows of PANEL, filled up with zeros, and their sums to sums.

    Rows of a large power of two bytes would fall on few lines of the first-level cache; these do not.
    """

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        source, source_row, target, sums, width, rows = values
        vector = ir.VectorType(FLOAT, LANES)
        masks = [Masked(builder, vector, builder.sub(width, INT(j * LANES))) for j in range(VECTORS)]
        totals = [cgutils.alloca_once(builder, vector) for _ in masks]
        for total in totals:
            builder.store(masks[0].zero, total)
        with cgutils.for_range(builder, rows) as loop:
            for j, (masked, total) in enumerate(zip(masks, totals)):
                at, to = builder.mul(loop.index, source_row), builder.mul(loop.index, INT(PANEL))
                value = masked.load(vector_pointer(builder, source, vector, at, INT(j * LANES)))
                builder.store(value, vector_pointer(builder, target, vector, to, INT(j * LANES)), align=4)
                builder.store(builder.fadd(builder.load(total), value), total)
        for j, total in enumerate(totals):
            builder.store(builder.load(total), vector_pointer(builder, sums, vector, INT(j * LANES)), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), emit


@intrinsic
def copy_floats(typing, target, source, count):
    """Copy ``count`` floats between addresses (int64)."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        target, source = (builder.inttoptr(v, ir.IntType(8).as_pointer()) for v in values[:2])
        cgutils.raw_memcpy(builder, target, source, values[2], 4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def zero_floats(typing, target, count):
    """Set ``count`` floats at an address (int64) to zero."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        target = builder.inttoptr(values[0], ir.IntType(8).as_pointer())
        cgutils.memset(builder, target, builder.shl(values[1], INT(2)), 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def copy_float(typing, target, source):
    """Copy one float between addresses (int64)."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        target, source = (builder.inttoptr(v, FLOAT.as_pointer()) for v in values)
        builder.store(builder.load(source), target)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


_w0, _w1, _w2, _w3, _w4, _w5 = (reduce_tile(rows, 2, LANES) for rows in ROWS)
_v0, _v1, _v2, _v3, _v4, _v5 = (reduce_tile(rows, 1, LANES) for rows in ROWS)
_R0, _R1, _R2, _R3, _R4, _R5 = ROWS
_dot_1x1, _dot_1x3, _dot_4x1, _dot_4x3 = (dot_tile(rows, outs, LANES) for rows in (1, 4) for outs in (1, 3))


def _tile(rows, a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth):
    """The tile of ``rows`` by one or two vectors."""
    if width > LANES:
        if rows == _R0:
            _w0(a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth)
        elif rows == _R1:
            _w1(a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth)
        elif rows == _R2:
            _w2(a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth)
        elif rows == _R3:
            _w3(a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth)
        elif rows == _R4:
            _w4(a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth)
        else:
            _w5(a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth)
    elif rows == _R0:
        _v0(a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth)
    elif rows == _R1:
        _v1(a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth)
    elif rows == _R2:
        _v2(a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth)
    elif rows == _R3:
        _v3(a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth)
    elif rows == _R4:
        _v4(a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth)
    else:
        _v5(a, a_row, table, b, b_step, start, start_row, c, c_row, width, depth)


def _dot(rows, outs, a, a_row, table, b, b_out, start, c, c_row, run, runs):
    """The tile of 1 or 4 pixels by 1 or 3 outputs."""
    if rows == 1 and outs == 1:
        _dot_1x1(a, a_row, table, b, b_out, start, c, c_row, run, runs)
    elif rows == 1:
        _dot_1x3(a, a_row, table, b, b_out, start, c, c_row, run, runs)
    elif outs == 1:
        _dot_4x1(a, a_row, table, b, b_out, start, c, c_row, run, runs)
    else:
        _dot_4x3(a, a_row, table, b, b_out, start, c, c_row, run, runs)


tile = reference(_tile, 12)
dot = reference(_dot, 12)


# --- bands of rows

# What an op is called with. Arrays are given by their addresses, strides count elements.
CALL = fields(
    # the batch of images that windows are read of
    "x image_step height_step width_step channel_step height width channels "  # channels of one group
    # windows: where the first begins, how many columns all of a row cover, how many rows one has, how far apart
    # they are, and whether they are read in place
    "top left columns reach row_step pixel_step in_place "
    "jobs job_count tables tiles tile_count taps tap_count "
    "w group_apart out_apart in_apart row_apart column_apart packed bias narrow "  # strides of w
    "y images rows size outs groups y_row y_pixel "  # rows and elements of an image of y
    "stretches stretch_count sums totals parts down across swapped chunks panel "
    "band buffers buffer threads"
)

# Outputs that are computed alike: all of them, or with a stride in the gradient those of one phase.
JOB = fields(
    "first rows columns "  # where the first of its outputs lies in y; how many there are
    "tap_rows tap_top tap_step "  # rows of taps, the first one's place in the window and from one to the next
    "row_depth depth "  # products in a row of taps; products of the jobs before this
    "first_tile tiles "  # how a row of outputs is cut
    "stretches"  # in a row of taps
)


def _gather(call, image, group, top, rows, target):
    """Copy ``rows`` rows of the window to (rows, columns, channels) at ``target``, zeros beyond the edges."""
    channels = call.channels
    left = min(max(-call.left, 0), call.columns)
    right = max(min(call.columns, call.width - call.left), left)
    count = right - left
    corner = image * call.image_step + group * channels * call.channel_step + (call.left + left) * call.width_step
    for i in range(rows):
        place = target + 4 * i * call.columns * channels
        if top + i < 0 or top + i >= call.height:
            zero_floats(place, call.columns * channels)
            continue
        source = call.x + 4 * (corner + (top + i) * call.height_step)
        zero_floats(place, left * channels)
        zero_floats(place + 4 * right * channels, (call.columns - right) * channels)
        place += 4 * left * channels
        if call.channel_step == 1 and call.width_step == channels:
            copy_floats(place, source, count * channels)
        elif call.channel_step == 1:
            for j in range(count):
                copy_floats(place + 4 * j * channels, source + 4 * j * call.width_step, channels)
        else:
            for c in range(channels):
                for j in range(count):
                    at = source + 4 * (j * call.width_step + c * call.channel_step)
                    copy_float(place + 4 * (j * channels + c), at)


gather = specialise(_gather, "direct", {})


def _window(call, image, group, first, rows, buffer):
    """The address of the window of output rows from ``first`` on, and the elements from one row of it to the next."""
    top = call.top + first * call.row_step
    if call.in_place:
        corner = image * call.image_step + top * call.height_step + call.left * call.width_step
        return call.x + 4 * corner, call.height_step
    gather(call, image, group, top, (rows - 1) * call.row_step + call.reach, buffer)
    return buffer, call.columns * call.channels


def _inside(row, step, count, height):
    """Which of ``count`` rows from ``row`` on, ``step`` apart, lie in the image: from, to."""
    low, high = 0, count
    while low < high and row + low * step < 0:
        low += 1
    while low < high and row + (high - 1) * step >= height:
        high -= 1
    return low, high


window_of = specialise(_window, "direct", {})
inside = specialise(_inside, "direct", {})


# --- images


def _wide_row(call, job, source, begin, end, table, tiles, w, bias, y, outs):
    """One row of outputs in some panels of channels: bias + products ``begin`` to ``end`` of the windows and w."""
    panel = PANEL * call.tap_count * call.channels
    parts = max(1, (end - begin + LONGEST - 1) // LONGEST)
    part = max(1, (end - begin + parts - 1) // parts)
    for t in range(job.first_tile, job.first_tile + job.tiles):
        for k in range(0, outs, PANEL):
            start, start_row, target, weights = bias + 4 * k, 0, y + 4 * k, w + 4 * (k // PANEL * panel)
            for d in range(begin, max(end, begin + 1), part):
                tile(
                    tiles[t], source, call.pixel_step, table + 4 * d, weights + 4 * d * PANEL, PANEL, start, start_row,
                    target, call.y_pixel, min(PANEL, outs - k), min(part, end - d),
                )  # fmt: skip
                start, start_row = target, call.y_pixel
        source += 4 * tiles[t] * call.pixel_step
        y += 4 * tiles[t] * call.y_pixel


def _narrow_row(call, job, source, begin, end, table, w, bias, y):
    """One row of outputs in few channels, w (outs, depth)."""
    depth = call.tap_count * call.channels
    j = 0
    while j < job.columns:
        pixels = 4 if job.columns - j >= 4 else 1
        k = 0
        while k < call.outs:
            count = 3 if call.outs - k >= 3 else 1
            dot(
                pixels, count, source + 4 * j * call.pixel_step, call.pixel_step, table + 4 * begin,
                w + 4 * (k * depth + begin), depth, bias + 4 * k, y + 4 * (j * call.y_pixel + k), call.y_pixel,
                call.channels, (end - begin) // call.channels,
            )  # fmt: skip
            k += count
        j += pixels


wide_row = specialise(_wide_row, "direct", {})
narrow_row = specialise(_narrow_row, "direct", {})


def _pack(call, panel):
    """One panel of weights of all groups to (groups, panels, taps, channels, PANEL), zeros beyond the last output.

    For few outputs a panel is one of them.
    """
    call = record(call, CALL)
    taps = array(call.taps, (call.tap_count, 2), np.int64)
    wide = 1 if call.narrow else PANEL
    panels = (call.outs + wide - 1) // wide
    count = min(wide, call.outs - panel * wide)
    for g in range(call.groups):
        place = call.packed + 4 * (g * panels + panel) * call.tap_count * call.channels * wide
        source = call.w + 4 * (g * call.group_apart + panel * wide * call.out_apart)
        for t in range(call.tap_count):
            for c in range(call.channels):
                at = source + 4 * (taps[t, 0] * call.row_apart + taps[t, 1] * call.column_apart + c * call.in_apart)
                for k in range(count):
                    copy_float(place + 4 * k, at + 4 * k * call.out_apart)
                zero_floats(place + 4 * count, wide - count)
                place += 4 * wide


def _convolve(call, thread):
    """Every ``threads``-th band of outputs of an image and group: bias + windows of x times w, for all jobs."""
    call = record(call, CALL)
    jobs, tiles = array(call.jobs, call.job_count, JOB), array(call.tiles, call.tile_count, np.int64)
    outs, depth = call.outs, call.tap_count * call.channels
    panel = outs if call.narrow else PANEL
    packed = (outs + panel - 1) // panel * panel * depth  # weights of a group
    # As many panels at a time as have weights that stay in the first-level cache.
    wide = outs if call.narrow else max(1, NEAREST // (4 * PANEL * depth)) * PANEL
    bands = (call.rows + call.band - 1) // call.band
    for unit in range(thread, call.images * bands * call.groups, call.threads):
        image, place = unit // (bands * call.groups), unit % (bands * call.groups)
        first, group = place // call.groups * call.band, place % call.groups
        last = min(first + call.band, call.rows)
        window, pitch = window_of(call, image, group, first, last - first, call.buffers + 4 * thread * call.buffer)
        bias = call.bias + 4 * group * outs
        for n in range(call.job_count):
            job = jobs[n]
            corner = call.y + 4 * (image * call.size + job.first + group * outs)
            for k in range(0, outs, wide):
                w = call.packed + 4 * (group * packed + k * depth + job.depth * (1 if call.narrow else PANEL))
                for i in range(first, min(last, job.rows)):
                    row = call.top + i * call.row_step + job.tap_top
                    low, high = inside(row, job.tap_step, job.tap_rows, call.height)
                    begin, end = low * job.row_depth, high * job.row_depth
                    source = window + 4 * (i - first) * call.row_step * pitch
                    y, table = corner + 4 * (i * call.y_row + k), call.tables + 4 * job.depth
                    if call.narrow:
                        narrow_row(call, job, source, begin, end, table, w, bias, y)
                    else:
                        wide_row(call, job, source, begin, end, table, tiles, w, bias + 4 * k, y, min(wide, outs - k))


pack = c_function(_pack, "direct")
convolve = c_function(_convolve, "direct")


# --- weights


def _add_columns(y, y_row, totals, rows):
    """Add ``rows`` rows of ``y``, ``y_row`` apart, to ``totals``."""
    columns = totals.size
    for k in range(columns):
        total = np.float32(0)
        for i in range(rows):
            total += array(y + 4 * i * y_row, columns, np.float32)[k]
        totals[k] += total


def _weigh_panel(call, job, part, group, first, last, window, pitch, k, y):
    """One panel of outputs' weights from a band: windows of x, transposed, times the panel of y, (pixels, PANEL)."""
    tiles = array(call.tiles, call.tile_count, np.int64)
    stretches = array(call.stretches, call.stretch_count, np.int64)
    width = min(PANEL, call.outs - k)
    for n in range(call.stretch_count):
        row = call.top + first * call.row_step + job.tap_top + n // job.stretches * job.tap_step
        low, high = inside(row, call.row_step, last - first, call.height)
        source = window + 4 * stretches[n]
        place = (part * call.groups + group) * call.stretch_count + n
        target = call.sums + 4 * (place * call.down * call.across + k)
        skipped = low * job.columns
        for rows in tiles:
            tile(
                rows, source, 1, call.tables + 4 * skipped, y + 4 * skipped * PANEL, PANEL, target, call.across,
                target, call.across, width, (high - low) * job.columns,
            )  # fmt: skip
            source += 4 * rows
            target += 4 * rows * call.across


def _weigh_swapped(call, job, part, group, first, last, window, pitch, k, y):
    """For few outputs: a panel of a stretch of weights, from the y of all outputs times rows of windows."""
    tiles = array(call.tiles, call.tile_count, np.int64)
    stretches = array(call.stretches, call.stretch_count, np.int64)
    width = min(PANEL, call.across - k)
    for n in range(call.stretch_count):
        row = call.top + first * call.row_step + job.tap_top + n // job.stretches * job.tap_step
        low, high = inside(row, call.row_step, last - first, call.height)
        place = (part * call.groups + group) * call.stretch_count + n
        for i in range(low, high):
            b = window + 4 * (stretches[n] + i * call.row_step * pitch + k)
            source = y + 4 * i * call.y_row
            target = call.sums + 4 * (place * call.down * call.across + k)
            for rows in tiles:
                tile(
                    rows, source, 1, call.tables, b, call.pixel_step, target, call.across, target, call.across, width,
                    job.columns,
                )  # fmt: skip
                source += 4 * rows
                target += 4 * rows * call.across


add_columns = specialise(_add_columns, "direct", {})
weigh_panel = specialise(_weigh_panel, "direct", {})
weigh_swapped = specialise(_weigh_swapped, "direct", {})


def _weigh(call, thread):
    """The products of x and y that belong to a weight, and sums of y, added up over bands of rows of all images.

    sums is (parts, groups, stretches, length of a stretch, outs in whole vectors), or if ``swapped`` (..., outs, length
    of a stretch): vectors run along the last. A stretch is what of a window lies side by side: a row of taps, or one
    tap. Which part a band is added to does not depend on the number of threads.
    """
    call = record(call, CALL)
    job = array(call.jobs, 1, JOB)[0]
    buffer = call.buffers + 4 * thread * call.buffer
    images, bands = call.images, (call.rows + call.band - 1) // call.band
    width = call.across if call.swapped else call.outs
    for unit in range(thread, call.parts * call.chunks, call.threads):
        part, chunk = unit // call.chunks, unit % call.chunks
        for place in range(part * images * bands // call.parts, (part + 1) * images * bands // call.parts):
            image, first = place // bands, place % bands * call.band
            last = min(first + call.band, call.rows)
            for g in range(call.groups):
                window, pitch = window_of(call, image, g, first, last - first, buffer + 4 * call.panel)
                y = call.y + 4 * (image * call.size + first * call.y_row + g * call.outs)
                totals = array(call.totals + 4 * (part * call.groups + g) * call.outs, call.outs, np.float32)
                for k in range(chunk * PANEL, width, call.chunks * PANEL):
                    if call.swapped:
                        if k == 0:
                            add_columns(y, call.y_pixel, totals, (last - first) * job.columns)
                        weigh_swapped(call, job, part, g, first, last, window, pitch, k, y)
                        continue
                    sums = buffer + 4 * (call.panel - PANEL)
                    copy_panel(
                        y + 4 * k, call.y_pixel, buffer, sums, min(PANEL, width - k), (last - first) * job.columns
                    )
                    add_columns(sums, PANEL, totals[k : k + PANEL], 1)
                    weigh_panel(call, job, part, g, first, last, window, pitch, k, buffer)


def _finish(call, block):
    """Add up the parts of LANES weights and of their bias; write those to w (K, C/G, R, S)."""
    call = record(call, CALL)
    outs, channels, together = call.outs, call.channels, call.tap_count // call.stretch_count
    blocks = (outs + LANES - 1) // LANES
    g, first = block // blocks, block % blocks * LANES
    count = min(LANES, outs - first)
    taps = array(call.taps, (call.tap_count, 2), np.int64)
    sums = array(call.sums, (call.parts, call.groups, call.stretch_count, call.down, call.across), np.float32)
    w = array(call.w, (call.groups * outs, call.out_apart), np.float32)
    totals = np.empty(LANES, np.float32)
    for t in range(call.tap_count):
        stretch, place = t // together, t % together * channels
        at = taps[t, 0] * call.row_apart + taps[t, 1]
        for c in range(channels):
            if call.swapped:
                for k in range(count):
                    totals[k] = sums[:, g, stretch, first + k, place + c].sum()
            else:
                for k in range(LANES):
                    totals[k] = sums[0, g, stretch, place + c, first + k]
                for part in range(1, call.parts):
                    for k in range(LANES):
                        totals[k] += sums[part, g, stretch, place + c, first + k]
            for k in range(count):
                w[g * outs + first + k, at + c * call.in_apart] = totals[k]
    bias = array(call.bias, call.groups * outs, np.float32)
    parts = array(call.totals, (call.parts, call.groups * outs), np.float32)
    for k in range(g * outs + first, g * outs + first + count):
        bias[k] = parts[:, k].sum()


weigh = c_function(_weigh, "direct")
finish = c_function(_finish, "direct")
