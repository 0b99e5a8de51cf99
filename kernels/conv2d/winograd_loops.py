"""The compiled loops of Winograd's convolution: transforms of tiles, and the products between them.

A block of tiles is transformed into V (points, tiles, depth), multiplied point by point with the transformed filter
U (points, depth, K), and the products M (points, tiles, K) are transformed back into outputs. The gradient of the
filter transposes that: products over tiles are summed up for each point and pair of channels.

A convolution with stride 2 is one of stride 1 between phases. Even rows of an image meet even taps of the filter only,
odd ones odd ones, likewise columns; so four images of x, each with a filter of R / 2 taps, are convolved and added up.
The sum costs nothing here, because it can be taken before the transform back: phases are further channels of V and U.
In the transposed convolution the phases are on the other side, as further outputs. If R is odd, phase 1 has a tap less
than phase 0: its polynomial is of a lower degree, 0 at infinity, where it needs no product.

Vectors run along channels. A tile that reaches over an edge, or whose channels do not fill vectors, has a transform
that masks off what is not there; the others have one without masks.

What is called from Python takes places and sizes as plain tuples and names their parts itself: Numba's look at a tuple
with names takes 2 us, in every call.

An image whose size is no multiple of a tile's has short tiles, with an output less. The last output is the only one
that the point at infinity has a part in, so a short tile is a whole one without the products there.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..matmul.tile import number_at
from ..numba_config import prange, specialise
from .winograd_functions import VERSION, ZEROS, functions_of, multiply, multiply_outer
from .winograd_places import (
    GROUP,
    KINDS,
    LINE,
    Filter,
    Grid,
    Layout,
    Plane,
    after,
    few_ins,
    kind_of,
    part_of,
    phase_of,
    place_of,
    range_of,
    taps_of,
    unit_of,
    vectors_of,
)
from .winograd_tile import LANES, add_to, fetch, fetch_to_write, tile


class Loops(NamedTuple):
    """The compiled loops of one tile size."""

    convolve: Any
    accumulate: Any
    finish: Any
    weigh: Any


@cache
def loops(outputs: int, taps: int) -> Loops:
    """The loops of F(outputs, taps); Numba compiles each when it is first called, or loads it."""
    n, variant = outputs + taps - 1, f"f{outputs}x{taps}_{VERSION}"
    body: Any
    functions = functions_of(outputs, taps)
    names: dict[str, Any] = {"OUTPUTS": outputs, "TAPS": taps, "N": n, **functions["filter"]}
    for name, reach in (("x", n), ("y", outputs)):
        here = {**names, "REACH": reach, **functions[name]}
        for body in (_transform, _transform_edge, _read_kind):
            here[body.__name__] = specialise(body, f"{variant}_{name}", here)
        names[f"_read_{name}"] = specialise(_read, f"{variant}_{name}", here)
    here = {**names, **functions["result"]}
    for body in (_transform, _transform_edge, _write_kind, _write):
        here[body.__name__] = specialise(body, f"{variant}_result", here)
    names["_write"] = here["_write"]
    for body in _INNER:
        names[body.__name__] = specialise(body, variant, names)  # each calls some of those before it
    return Loops(*[specialise(body, variant, names, parallel=True) for body in _OUTER])


# --- the loops; `loops` gives these names their values

OUTPUTS = TAPS = N = REACH = 0
_LATER: Any = None
gather = transform = transform_columns = transform_rows = transform_both = _LATER
edge = edge_columns = edge_rows = edge_both = transform_w = transform_w_back = _LATER
_read_x = _read_y = _LATER


def _transform(kind, x, x_row, x_column, y, y_row, y_column, channels):
    """All channels of a tile that is wholly there."""
    if kind == 1:
        transform(x, x_row, x_column, y, y_row, y_column, channels)
    elif kind == 0:
        transform_columns(x, x_row, x_column, y, y_row, y_column, channels)
    elif kind == 2:
        transform_rows(x, x_row, x_column, y, y_row, y_column, channels)
    else:
        transform_both(x, x_row, x_column, y, y_row, y_column, channels)


def _transform_edge(kind, x, x_row, x_column, y, y_row, y_column, top, bottom, left, right, channels):
    """All channels of a tile that is there from ``top`` to ``bottom`` and from ``left`` to ``right``."""
    if kind == 1:
        edge(x, x_row, x_column, y, y_row, y_column, top, bottom, left, right, channels)
    elif kind == 0:
        edge_columns(x, x_row, x_column, y, y_row, y_column, top, bottom, left, right, channels)
    elif kind == 2:
        edge_rows(x, x_row, x_column, y, y_row, y_column, top, bottom, left, right, channels)
    else:
        edge_both(x, x_row, x_column, y, y_row, y_column, top, bottom, left, right, channels)


def _read(plane, grid, first, count, v, row, point):
    """Transform ``count`` tiles from ``first`` on, all phases, into rows of v (points, tiles, phases x channels)."""
    for phase in range(plane.step * plane.step):
        target = v + 4 * phase * plane.channels
        for kind in range(KINDS):
            target += 4 * row * _read_kind(plane, grid, kind, phase, first, count, target, row, point)


def _read_kind(plane, grid, kind, phase, first, count, v, row, point):
    """Transform the tiles of a kind and a phase. Returns how many there are."""
    (tiles_down, start_down, by_down), (tiles_across, start_across, by_across) = kind_of(grid, kind, OUTPUTS)
    here, each = tiles_down * tiles_across, grid.down * grid.across
    if here == 0:
        return 0
    first, count = first * here // each, count * here // each
    reach_down, reach_across = by_down + REACH - OUTPUTS, by_across + REACH - OUTPUTS
    step, whole = plane.step, plane.channels % LANES == 0
    down, across = step * plane.by_row, step * plane.by_column
    a, b = phase_of(phase, step)
    top, left = plane.top + a + step * start_down, plane.left + b + step * start_across
    corner = plane.data + 4 * (top * plane.by_row + left * plane.by_column)
    first_row, rows = -(top // step), (plane.height - 1 - top) // step + 1
    first_column, columns = -(left // step), (plane.width - 1 - left) // step + 1
    image, i, j = place_of(first, tiles_down, tiles_across)
    source = corner + 4 * (image * plane.by_image + i * by_down * down + j * by_across * across)
    for t in range(count):
        target = v + 4 * t * row
        low, high = first_row - i * by_down, min(rows - i * by_down, reach_down)
        begin, end = first_column - j * by_across, min(columns - j * by_across, reach_across)
        image, i, j = after(image, i, j, tiles_down, tiles_across)
        ahead = corner + 4 * (image * plane.by_image + i * by_down * down + j * by_across * across)
        if step == 1:  # other phases of the same pixels have fetched them otherwise
            above, before = min(i, 1) * (REACH - OUTPUTS), min(j, 1) * (REACH - OUTPUTS)  # other tiles have read
            for r in range(above, reach_down):
                for element in range(before * across, reach_across * across, LINE):
                    fetch(ahead + 4 * (r * down + element))
        if whole and low <= 0 and high == reach_down and begin <= 0 and end == reach_across:
            _transform(kind, source, down, across, target, N * point, point, plane.channels)
        else:
            _transform_edge(
                kind, source, down, across, target, N * point, point, low, high, begin, end, plane.channels
            )  # fmt: skip
        source = ahead
    return count


def _depths(plane, p, depth):
    """From which depth to which the filter is not 0 at point ``p``."""
    first, last = 0, 4
    if plane.odd and p // N == N - 1:  # row 0 of phases
        first, last = 1, 3
    if plane.odd and p % N == N - 1:  # column 0
        last = 2
    return (first * depth // 4, last * depth // 4) if plane.step == 2 else (0, depth)


def _is_zero(plane, p, phase):
    """Whether the filter of a phase of outputs is 0 at point ``p``."""
    a, b = phase_of(phase, plane.step)
    return plane.odd and ((a and p // N == N - 1) or (b and p % N == N - 1))


def _write(plane, added, grid, first, count, m, wide, point, phase, channel, channels):
    """Transform rows of m (points, tiles, wide) back: ``channels`` outputs of a phase, from ``channel`` on.

    With a tap less, the same inputs are those of outputs that lie one step further up or left. ``added``, if it is
    anywhere, lies in the same way as what is written, and is added to it.
    """
    for kind in range(KINDS):
        m += 4 * wide * _write_kind(plane, added, grid, kind, first, count, m, wide, point, phase, channel, channels)


def _write_kind(plane, added, grid, kind, first, count, m, wide, point, phase, channel, channels):
    """Transform the tiles of a kind back. Returns how many there are."""
    (tiles_down, start_down, by_down), (tiles_across, start_across, by_across) = kind_of(grid, kind, OUTPUTS)
    here, each = tiles_down * tiles_across, grid.down * grid.across
    if here == 0:
        return 0
    first, count = first * here // each, count * here // each
    step, whole = plane.step, channels % LANES == 0
    down, across = step * plane.by_row, step * plane.by_column
    a, b = phase_of(phase, step)
    top, left = plane.top + a - step * plane.odd * a, plane.left + b - step * plane.odd * b
    top, left = top + step * start_down, left + step * start_across
    corner = plane.data + 4 * (top * plane.by_row + left * plane.by_column + channel)
    first_row, rows = -(top // step), (plane.height - 1 - top) // step + 1
    first_column, columns = -(left // step), (plane.width - 1 - left) // step + 1
    image, i, j = place_of(first, tiles_down, tiles_across)
    for t in range(count):
        source = m + 4 * t * wide
        target = corner + 4 * (image * plane.by_image + i * by_down * down + j * by_across * across)
        more = added.data + 4 * (image * added.by_image + channel)
        more += 4 * ((start_down + i * by_down) * added.by_row + (start_across + j * by_across) * added.by_column)
        for r in range(by_down if step == 1 else 0):
            for q in range(by_across, 2 * by_across):  # of the tile to the right
                for element in range(0, channels, LINE):
                    fetch_to_write(target + 4 * (r * down + q * across + element))
                    if added.data:
                        fetch(more + 4 * (r * added.by_row + q * added.by_column + element))
        low, high = first_row - i * by_down, min(rows - i * by_down, by_down)
        begin, end = first_column - j * by_across, min(columns - j * by_across, by_across)
        if whole and low <= 0 and high == by_down and begin <= 0 and end == by_across:
            _transform(kind, source, N * point, point, target, down, across, channels)
        else:
            _transform_edge(kind, source, N * point, point, target, down, across, low, high, begin, end, channels)
        if added.data:
            for r in range(high):
                for q in range(end):
                    place = target + 4 * (r * down + q * across)
                    add_to(place, more + 4 * (r * added.by_row + q * added.by_column), channels)
        image, i, j = after(image, i, j, tiles_down, tiles_across)
    return count


def _filter_slice(w, filter, layout, u, start, stop, depth, out_phase, first, columns):
    """U for one panel of outputs and depths from ``start`` to ``stop``."""
    wide = (filter.outs + LANES - 1) // LANES * LANES
    block = np.empty(TAPS * TAPS * LANES, np.float32)
    block[:] = 0
    for k in range(first, first + columns, LANES):  # a vector at a time: of 64 filters, lines share too few sets
        lanes = min(LANES, filter.outs - k)
        for d in range(start, stop):
            in_phase, c = divmod(d, filter.ins)
            a, b = phase_of(in_phase + out_phase, filter.step)  # one of the two is 0
            down, across = taps_of(filter, a, b)
            row, column = filter.step * filter.by_row, filter.step * filter.by_column
            corner = k * filter.by_out + c * filter.by_in + a * filter.by_row + b * filter.by_column
            if filter.turned:
                corner += (down - 1) * row + (across - 1) * column
                row, column = -row, -column
            gather(w + 4 * corner, row, column, filter.by_out, lanes, down, across, block.ctypes.data)
            target = u + 4 * ((out_phase * wide + first) * depth + d * columns + k - first)
            for p in range(N * N):
                fetch_to_write(target + 4 * (p * layout.u + columns))
            transform_w(block.ctypes.data, TAPS * LANES, LANES, target, N * layout.u, layout.u, LANES)


def _filter_part(w, filter, layout, u, start, stop, depth, phases):
    """The filter at w to U (points, ``phases`` of outputs, panels, depth, columns of a panel), some of the depths."""
    for out_phase in range(phases):
        k = 0
        while k < filter.outs:
            columns = vectors_of(filter.outs - k) * LANES
            _filter_slice(w, filter, layout, u, start, stop, depth, out_phase, k, columns)
            k += columns


def _filter_share(y, layout, w, filter, u, depth, n, slices):
    """One of so many shares of the filter to U."""
    y, layout, filter = Plane(*y), Layout(*layout), Filter(*filter)
    start, stop = n * depth // slices, (n + 1) * depth // slices
    _filter_part(w, filter, layout, u, start, stop, depth, y.step * y.step)


def _convolve_share(x, y, added, grid, layout, w, filter, bias, between, depth, work, m, step, own, thread, threads):
    """Every ``threads``-th block of tiles, from the ``thread``-th on; the bias lies ``between`` elements apart."""
    x, y, added, grid = Plane(*x), Plane(*y), Plane(*added), Grid(*grid)
    layout, filter = Layout(*layout), Filter(*filter)
    v, u = work + 4 * thread * step, work + 4 * threads * step
    m = v + 4 * m
    if own:
        u += 4 * thread * N * N * layout.u
        _filter_part(w, filter, layout, u, 0, depth, depth, y.step * y.step)
    wide = (y.channels + LANES - 1) // LANES * LANES
    for first in range(thread * grid.block, grid.total, threads * grid.block):
        count = min(grid.block, grid.total - first)
        _read_x(x, grid, first, count, v, layout.row, layout.v)
        for phase in range(y.step * y.step):
            k = 0
            while k < y.channels:
                vectors = vectors_of(y.channels - k)
                columns = vectors * LANES
                weights = u + 4 * (phase * wide + k) * depth
                for p in range(N * N):
                    start, stop = _depths(x, p, depth)
                    if _is_zero(y, p, phase):
                        stop = 1  # of zeros
                    tiles, after_tiles = range_of(grid, count, p // N == N - 1, p % N == N - 1)
                    seed, ahead = bias + 4 * (p * between + k), weights + 4 * layout.u
                    values = v + 4 * (p * layout.v + tiles * layout.row + start)
                    sums, now = m + 4 * (p * layout.m + tiles * columns), weights + 4 * start * columns
                    multiply(values, layout.row, now, sums, after_tiles - tiles, vectors, stop - start, seed, ahead)
                    weights = ahead
                _write(y, added, grid, first, count, m, columns, layout.m, phase, k, min(columns, y.channels - k))
                k += columns


def _convolve(x, y, added, grid, layout, w, filter, bias, between, depth, work, m, step, own, threads):
    """Each thread has its V and M ``step`` elements of ``work`` from the next one's, M ``m`` after V; then comes U.

    ``own``: each thread makes a U of its own, which is in its cache then; otherwise all make one together.
    """
    if not own:
        slices = min(threads, depth)
        for n in prange(slices):
            _filter_share(y, layout, w, filter, work + 4 * threads * step, depth, n, slices)
    for thread in prange(threads):
        _convolve_share(
            x, y, added, grid, layout, w, filter, bias, between, depth, work, m, step, own, thread, threads
        )  # fmt: skip


def _accumulate_part(x, y, grid, layout, depth, v, g, sums, totals, ones, start, stop):
    """Sums (groups, panels, points, GROUP, columns) of (A y A^T) * (B^T x B) over tiles from ``start`` to ``stop``.

    And ``totals`` (outputs), to which all y of these tiles are added: ``ones`` weighs A y A^T so that it gives their
    sum. Without ``ones``, which is 0 then, they are left alone.
    """
    wide = (y.channels + LANES - 1) // LANES * LANES
    between = N * N * GROUP * wide
    for first in range(start, stop, grid.block):
        count = min(grid.block, stop - first)
        _read_x(x, grid, first, count, v, layout.row, layout.v)
        _read_y(y, grid, first, count, g, wide, layout.m)
        seed = ZEROS.ctypes.data if first == start else 0
        k = 0
        while k < y.channels:
            vectors = vectors_of(y.channels - k)
            for p in range(N * N):
                tiles, after_tiles = range_of(grid, count, p // N == N - 1, p % N == N - 1)
                values, right = v + 4 * (p * layout.v + tiles * layout.row), g + 4 * (p * layout.m + tiles * wide + k)
                target = sums + 4 * GROUP * (k * N * N + p * vectors * LANES)
                low, high = _depths(x, p, depth)
                rows = after_tiles - tiles
                multiply_outer(values, layout.row, right, wide, target, between, low, high, vectors, rows, seed)
                weight, total = ones + 4 * p, totals + 4 * k
                if ones and number_at(weight):
                    columns = vectors * LANES
                    tile(weight, 0, 0, right, wide, total, 0, total, columns, 1, vectors, count, right)
            k += vectors * LANES


def _accumulate_share(x, y, grid, layout, depth, sums, size, totals, ones, wide, parts, work, g, step, thread, threads):
    """Every ``threads``-th part, from the ``thread``-th on."""
    x, y, grid, layout = Plane(*x), Plane(*y), Grid(*grid), Layout(*layout)
    unit = unit_of(grid)
    units, v = grid.total // unit, work + 4 * thread * step
    for part in range(thread, parts, threads):
        start, stop = units * part // parts * unit, units * (part + 1) // parts * unit
        here, total = sums + 4 * part * size, totals + 4 * part * wide
        _accumulate_part(x, y, grid, layout, depth, v, v + 4 * g, here, total, ones, start, stop)


def _accumulate(x, y, grid, layout, depth, sums, size, totals, ones, wide, parts, work, g, step, threads):
    """The sums of each part of the tiles, ``size`` and ``wide`` elements apart; a thread takes part after part."""
    for thread in prange(threads):
        _accumulate_share(
            x, y, grid, layout, depth, sums, size, totals, ones, wide, parts, work, g, step, thread, threads
        )  # fmt: skip


def _finish_panel(sums, size, parts, w, filter, depth, start, first, columns):
    """Add up the parts, and transform back: a group of depths and a panel of outputs of the filter's gradient."""
    wide = (filter.outs + LANES - 1) // LANES * LANES
    total = N * N * (start * wide + GROUP * first)
    for part in range(1, parts):
        other = total + part * size
        for i in range(N * N * GROUP * columns):
            sums[total + i] += sums[other + i]
    block = np.empty(TAPS * TAPS * LANES, np.float32)
    for d in range(start, min(start + GROUP, depth)):
        phase, c = divmod(d, filter.ins)
        a, b = phase_of(phase, filter.step)
        down, across = taps_of(filter, a, b)
        for k in range(first, min(first + columns, filter.outs), LANES):
            source = sums.ctypes.data + 4 * (total + (d - start) * columns + k - first)
            between = GROUP * columns
            transform_w_back(source, N * between, between, block.ctypes.data, TAPS * LANES, LANES, LANES)
            corner = k * filter.by_out + c * filter.by_in
            for lane in range(min(LANES, filter.outs - k)):
                for i in range(down):
                    for j in range(across):
                        tap = (i * filter.step + a) * filter.by_row + (j * filter.step + b) * filter.by_column
                        w[corner + lane * filter.by_out + tap] = block[(i * TAPS + j) * LANES + lane]


def _finish_group(sums, size, parts, w, filter, depth, start):
    """All outputs of a group of depths."""
    filter = Filter(*filter)
    k = 0
    while k < filter.outs:
        columns = vectors_of(filter.outs - k) * LANES
        _finish_panel(sums, size, parts, w, filter, depth, start, k, columns)
        k += columns


def _finish(sums, size, parts, w, filter, depth):
    """G^T m G of the sums (parts, groups, panels, points, GROUP, columns), into the flat filter w."""
    for n in prange((depth + GROUP - 1) // GROUP):
        _finish_group(sums, size, parts, w, filter, depth, n * GROUP)


def _weigh_share(x, y, grid, layout, sums, totals, ones, w, filter, each, share, v, g):
    """The filter's gradient for one share of the channels of x: all tiles, and at once transformed back."""
    x, y, grid, layout, filter = Plane(*x), Plane(*y), Grid(*grid), Layout(*layout), Filter(*filter)
    start = share * each
    channels = min(each, x.channels - start)
    depth = x.step * x.step * channels
    part, here = part_of(x, start, channels), few_ins(filter, channels)
    weights = ones if share == 0 else 0
    _accumulate_part(part, y, grid, layout, depth, v, g, sums.ctypes.data, totals, weights, 0, grid.total)
    for first in range(0, depth, GROUP):
        _finish_group(sums, 0, 1, w[start * filter.by_in :], here, depth, first)


def _weigh(x, y, grid, layout, sums, size, totals, ones, w, filter, each, shares, work, g, step):
    """The filter's gradient into the flat w, by so many shares, of ``each`` of the channels of x.

    All shares transform all of y. The first adds up ``totals``.
    """
    for share in prange(shares):
        v, own = work + 4 * share * step, sums[share * size : (share + 1) * size]
        _weigh_share(x, y, grid, layout, own, totals, ones, w, filter, each, share, v, v + 4 * g)


_INNER = (
    _depths,
    _is_zero,
    _filter_slice,
    _filter_part,
    _filter_share,
    _convolve_share,
    _accumulate_part,
    _accumulate_share,
    _finish_panel,
    _finish_group,
    _weigh_share,
)
_OUTER = (_convolve, _accumulate, _finish, _weigh)
