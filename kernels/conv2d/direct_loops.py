"""The loops of direct convolution: one tile of accumulators in registers, and bands of rows that stay in cache.

All three ops are sums of products over *runs*: stretches of memory in which the numbers to multiply lie side by side.
For an output pixel of a channels-last convolution there is one run for each row of taps, S*C numbers long; for a
weight there is one for each row of an image. ``reduce_tile`` multiplies the runs of several rows with vectors.
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

FLOAT, INT = ir.FloatType(), ir.IntType(64)
WIDTH = simd.machine_width()
LANES, VECTORS = WIDTH.lanes, WIDTH.vectors
PANEL = VECTORS * LANES  # output channels of one tile
# Rows of a tile: the one that fills the registers, and smaller ones which any number of rows is a sum of.
ROWS = (WIDTH.rows, 5, 4, 3, 2, 1) if WIDTH.rows < 8 else (WIDTH.rows, 8, 7, 4, 2, 1)
NARROW = LANES // 4  # up to so many outputs it is better to run vectors along the depth
LONGEST = 1024  # products added up one by one; more are added in parts, for accuracy


# --- tiles


def _vector_pointer(builder: ir.IRBuilder, base: ir.Value, vector: ir.VectorType, *offsets: ir.Value) -> ir.Value:
    """The address of a vector, ``offsets`` elements after ``base`` (an int64)."""
    address = base
    for offset in offsets:
        address = builder.add(address, builder.shl(offset, INT(2)))
    return builder.inttoptr(address, vector.as_pointer())


class _Masked:
    """Loads and stores of vectors of which only the first ``valid`` elements are there."""

    def __init__(self, builder: ir.IRBuilder, vector: ir.VectorType, valid: ir.Value) -> None:
        lanes = vector.count
        word = ir.IntType(32)
        words = ir.VectorType(word, lanes)
        first = builder.insert_element(ir.Constant(words, ir.Undefined), builder.trunc(valid, word), word(0))
        count = builder.shuffle_vector(first, ir.Constant(words, ir.Undefined), ir.Constant(words, [0] * lanes))
        mask = builder.icmp_signed("<", ir.Constant(words, list(range(lanes))), count)
        pointer, align, flags = vector.as_pointer(), ir.IntType(32), ir.VectorType(ir.IntType(1), lanes)
        load = ir.FunctionType(vector, [pointer, align, flags, vector])
        store = ir.FunctionType(ir.VoidType(), [vector, pointer, align, flags])
        self.builder, self.mask, self.align, self.zero = builder, mask, align(4), vector([0.0] * lanes)
        self.loader = cgutils.get_or_insert_function(builder.module, load, f"llvm.masked.load.v{lanes}f32.p0")
        self.storer = cgutils.get_or_insert_function(builder.module, store, f"llvm.masked.store.v{lanes}f32.p0")

    def load(self, pointer: ir.Value) -> ir.Value:
        return self.builder.call(self.loader, [pointer, self.align, self.mask, self.zero])

    def store(self, value: ir.Value, pointer: ir.Value) -> None:
        self.builder.call(self.storer, [value, pointer, self.align, self.mask])


def _fma(builder: ir.IRBuilder, vector: ir.VectorType) -> Any:
    name = f"llvm.fma.v{vector.count}f32"
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)


@cache
def reduce_tile(rows: int, vectors: int, lanes: int) -> Any:
    """An intrinsic for one tile of a sum of products over runs, kept in registers until all are added up.

        tile(a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs)

    c[i c_row + j] = start[i start_row + j]
                     + sum over run < runs and k < depth of
                       a[a_runs[run] + i a_row + k a_step] * b[run b_run + k b_step + j]

    for ``i < rows`` and ``j < width``, where ``(vectors - 1) lanes < width <= vectors lanes``: nothing beyond is read
    from ``b`` and ``start``, nor written. Addresses and strides as in ``simd.tile_product``; ``a_runs`` is the address
    of int64 offsets. ``start`` may be ``c``.
    """
    vector = ir.VectorType(FLOAT, lanes)
    signature = types.void(*[types.int64] * 14)

    @intrinsic
    def tile(typing, a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs = values
            fma = _fma(builder, vector)
            masked = _Masked(builder, vector, builder.sub(width, INT((vectors - 1) * lanes)))
            sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
            for place in chain(*sums):
                builder.store(masked.zero, place)

            def load(base: ir.Value, j: int, *offsets: ir.Value) -> ir.Value:
                pointer = _vector_pointer(builder, base, vector, *offsets, INT(j * lanes))
                return masked.load(pointer) if j == vectors - 1 else builder.load(pointer, align=4)

            a_runs = builder.inttoptr(a_runs, INT.as_pointer())
            with cgutils.for_range(builder, runs) as outer:
                offset = builder.load(builder.gep(a_runs, [outer.index]))
                a_base = builder.add(a, builder.shl(offset, INT(2)))
                b_base = builder.add(b, builder.shl(builder.mul(outer.index, b_run), INT(2)))
                with cgutils.for_range(builder, depth) as inner:
                    b_at = builder.mul(inner.index, b_step)
                    row_of_b = [load(b_base, j, b_at) for j in range(vectors)]
                    a_at = builder.inttoptr(
                        builder.add(a_base, builder.shl(builder.mul(inner.index, a_step), INT(2))), FLOAT.as_pointer()
                    )
                    for i in range(rows):
                        value = builder.load(builder.gep(a_at, [builder.mul(a_row, INT(i))]))
                        spread = simd._broadcast(builder, value, vector)
                        for place, b_value in zip(sums[i], row_of_b):
                            builder.store(builder.call(fma, [spread, b_value, builder.load(place)]), place)
            for i in range(rows):
                for j, place in enumerate(sums[i]):
                    value = builder.fadd(builder.load(place), load(start, j, builder.mul(start_row, INT(i))))
                    pointer = _vector_pointer(builder, c, vector, builder.mul(c_row, INT(i)), INT(j * lanes))
                    if j == vectors - 1:
                        masked.store(value, pointer)
                    else:
                        builder.store(value, pointer, align=4)
            return context.get_dummy_value()

        return signature, emit

    return tile


@cache
def dot_tile(rows: int, outs: int, lanes: int) -> Any:
    """An intrinsic for as many sums of products over runs whose vectors run along the depth: for few outputs.

        tile(a, a_row, a_runs, b, b_out, start, c, c_row, depth, runs)

    c[i c_row + o] = start[o] + sum over run and k < depth of a[a_runs[run] + i a_row + k] * b[o b_out + run depth + k]
    """
    vector = ir.VectorType(FLOAT, lanes)
    signature = types.void(*[types.int64] * 10)

    @intrinsic
    def tile(typing, a, a_row, a_runs, b, b_out, start, c, c_row, depth, runs):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            a, a_row, a_runs, b, b_out, start, c, c_row, depth, runs = values
            fma = _fma(builder, vector)
            zero = vector([0.0] * lanes)
            sums = [[cgutils.alloca_once(builder, vector) for _ in range(outs)] for _ in range(rows)]
            for place in chain(*sums):
                builder.store(zero, place)
            a_runs = builder.inttoptr(a_runs, INT.as_pointer())
            with cgutils.for_range(builder, runs) as outer:
                offset = builder.load(builder.gep(a_runs, [outer.index]))
                b_at = builder.mul(outer.index, depth)
                steps = builder.udiv(builder.add(depth, INT(lanes - 1)), INT(lanes))
                with cgutils.for_range(builder, steps) as inner:
                    k = builder.mul(inner.index, INT(lanes))
                    masked = _Masked(builder, vector, builder.sub(depth, k))
                    weights = [
                        masked.load(_vector_pointer(builder, b, vector, builder.mul(b_out, INT(o)), b_at, k))
                        for o in range(outs)
                    ]
                    for i in range(rows):
                        value = masked.load(
                            _vector_pointer(builder, a, vector, offset, builder.mul(a_row, INT(i)), k)
                        )
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


def _tile(rows, a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs):
    """The tile of ``rows`` by one or two vectors."""
    if width > LANES:
        if rows == _R0:
            _w0(a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs)
        elif rows == _R1:
            _w1(a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs)
        elif rows == _R2:
            _w2(a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs)
        elif rows == _R3:
            _w3(a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs)
        elif rows == _R4:
            _w4(a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs)
        else:
            _w5(a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs)
    elif rows == _R0:
        _v0(a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs)
    elif rows == _R1:
        _v1(a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs)
    elif rows == _R2:
        _v2(a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs)
    elif rows == _R3:
        _v3(a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs)
    elif rows == _R4:
        _v4(a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs)
    else:
        _v5(a, a_row, a_step, a_runs, b, b_step, b_run, start, start_row, c, c_row, width, depth, runs)


def _dot(rows, outs, a, a_row, a_runs, b, b_out, start, c, c_row, depth, runs):
    """The tile of 1 or 4 pixels by 1 or 3 outputs."""
    if rows == 1 and outs == 1:
        _dot_1x1(a, a_row, a_runs, b, b_out, start, c, c_row, depth, runs)
    elif rows == 1:
        _dot_1x3(a, a_row, a_runs, b, b_out, start, c, c_row, depth, runs)
    elif outs == 1:
        _dot_4x1(a, a_row, a_runs, b, b_out, start, c, c_row, depth, runs)
    else:
        _dot_4x3(a, a_row, a_runs, b, b_out, start, c, c_row, depth, runs)


tile = reference(_tile, 15)
dot = reference(_dot, 12)


# --- bands of rows

# What an op is called with. Arrays are given by their addresses, strides count elements.
CALL = fields(
    # the batch of images that windows are read of
    "x image_step height_step width_step channel_step height width channels "  # channels of one group
    # windows: where the first begins, how many columns all of a row cover, how many rows one has, how far apart
    # they are, and whether they are read in place
    "top left columns reach row_step pixel_step in_place "
    "jobs job_count runs run_count tiles tile_count taps tap_count "
    "w group_apart out_apart in_apart row_apart column_apart packed bias narrow "  # strides of w
    "y images rows size outs groups y_row y_pixel "  # rows and elements of an image of y
    "lines y_lines sums parts down across swapped chunks "
    "band buffers buffer threads"
)

# Outputs that are computed alike: all of them, or with a stride in the gradient those of one phase.
JOB = fields(
    "first rows columns "  # where the first of its outputs lies in y; how many there are
    "tap_rows tap_top tap_step "  # rows of taps, the first one's place in the window and from one to the next
    "first_run runs run depth "  # runs in a row of taps; length of a run; products of the jobs before this
    "first_tile tiles"  # how a row of outputs is cut
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


def _wide_row(call, job, source, begin, end, runs, tiles, w, bias, y, width):
    """One row of outputs in up to PANEL channels: bias + the runs from ``begin`` to ``end`` times w."""
    part = max(1, LONGEST // max(job.run, 1))
    for t in range(job.first_tile, job.first_tile + job.tiles):
        start, start_row = bias, 0
        for run in range(begin, max(end, begin + 1), part):
            tile(
                tiles[t], source, call.pixel_step, 1, runs + 8 * run, w + 4 * run * job.run * PANEL, PANEL,
                job.run * PANEL, start, start_row, y, call.y_pixel, width, job.run, min(part, end - run),
            )  # fmt: skip
            start, start_row = y, call.y_pixel
        source += 4 * tiles[t] * call.pixel_step
        y += 4 * tiles[t] * call.y_pixel


def _narrow_row(call, job, source, begin, end, runs, w, bias, y):
    """One row of outputs in few channels, w (outs, depth)."""
    depth = call.tap_count * call.channels
    runs += 8 * begin
    w += 4 * begin * job.run
    j = 0
    while j < job.columns:
        pixels = 4 if job.columns - j >= 4 else 1
        k = 0
        while k < call.outs:
            count = 3 if call.outs - k >= 3 else 1
            dot(
                pixels, count, source + 4 * j * call.pixel_step, call.pixel_step, runs, w + 4 * k * depth, depth,
                bias + 4 * k, y + 4 * (j * call.y_pixel + k), call.y_pixel, job.run, end - begin,
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
    wide = outs if call.narrow else PANEL
    packed = (outs + wide - 1) // wide * wide * depth  # weights of a group
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
                    begin, end = low * job.runs, high * job.runs
                    source = window + 4 * (i - first) * call.row_step * pitch
                    y, runs = corner + 4 * (i * call.y_row + k), call.runs + 8 * job.first_run
                    if call.narrow:
                        narrow_row(call, job, source, begin, end, runs, w, bias, y)
                    else:
                        width = min(PANEL, outs - k)
                        wide_row(call, job, source, begin, end, runs, tiles, w, bias + 4 * k, y, width)


pack = c_function(_pack, "direct")
convolve = c_function(_convolve, "direct")


# --- weights


def _weigh(call, thread):
    """The products of x and y that belong to a weight, added up over bands of rows of all images.

    sums is (parts, groups, runs, length of a run, outs), or if ``swapped`` (..., outs, length of a run): vectors run
    along the last. Which part a band is added to does not depend on the number of threads.
    """
    call = record(call, CALL)
    job = array(call.jobs, 1, JOB)[0]
    runs, tiles = array(call.runs, call.run_count, np.int64), array(call.tiles, call.tile_count, np.int64)
    outs, down, across = call.outs, call.down, call.across
    width = job.run if call.swapped else outs
    bands = (call.rows + call.band - 1) // call.band
    total = call.images * bands
    for unit in range(thread, call.parts * call.chunks, call.threads):
        part, chunk = unit // call.chunks, unit % call.chunks
        for place in range(part * total // call.parts, (part + 1) * total // call.parts):
            image, first = place // bands, place % bands * call.band
            last = min(first + call.band, call.rows)
            for g in range(call.groups):
                window, pitch = window_of(call, image, g, first, last - first, call.buffers + 4 * thread * call.buffer)
                for k in range(chunk * PANEL, width, call.chunks * PANEL):
                    count = min(PANEL, width - k)
                    for run in range(call.run_count):
                        row = call.top + first * call.row_step + job.tap_top + run // job.runs * job.tap_step
                        low, high = inside(row, call.row_step, last - first, call.height)
                        source = window + 4 * (runs[run] + low * call.row_step * pitch)
                        y = call.y + 4 * (image * call.size + (first + low) * call.y_row + g * outs)
                        target = call.sums + 4 * (
                            ((part * call.groups + g) * call.run_count + run) * down * across + k
                        )
                        for n in range(call.tile_count):
                            if call.swapped:
                                tile(
                                    tiles[n], y, 1, call.y_pixel, call.y_lines, source + 4 * k, call.pixel_step,
                                    call.row_step * pitch, target, across, target, across, count, job.columns,
                                    high - low,
                                )  # fmt: skip
                                y += 4 * tiles[n]
                            else:
                                tile(
                                    tiles[n], source, 1, call.pixel_step, call.lines, y + 4 * k, call.y_pixel,
                                    call.y_row, target, across, target, across, count, job.columns, high - low,
                                )  # fmt: skip
                                source += 4 * tiles[n]
                            target += 4 * tiles[n] * across


def _finish(call, block):
    """Add up the parts of the weights of 16 outputs and write them to w (K, C/G, R, S)."""
    call = record(call, CALL)
    outs, channels, in_run = call.outs, call.channels, call.tap_count // call.run_count
    taps = array(call.taps, (call.tap_count, 2), np.int64)
    w = array(call.w, call.groups * outs * call.out_apart, np.float32)
    sums = array(call.sums, (call.parts, call.groups, call.run_count, call.down, call.across), np.float32)
    for k in range(16 * block, min(16 * block + 16, call.groups * outs)):
        g, o = k // outs, k % outs
        for t in range(call.tap_count):
            run, place = t // in_run, t % in_run * channels
            at = k * call.out_apart + taps[t, 0] * call.row_apart + taps[t, 1]
            for c in range(channels):
                total = np.float32(0)
                for part in range(call.parts):
                    total += sums[part, g, run, o, place + c] if call.swapped else sums[part, g, run, place + c, o]
                w[at + c * call.in_apart] = total


weigh = c_function(_weigh, "direct")
finish = c_function(_finish, "direct")
