"""The compiled loops of Winograd's convolution: transforms of tiles, and the products between them.

A block of tiles is transformed into V (points, tiles, depth), multiplied point by point with the transformed filter
U (points, depth, K), and the products M (points, tiles, K) are transformed back into outputs. The gradient of the
filter transposes that: products over tiles are summed up for each point and pair of channels.

A convolution with stride 2 is one of stride 1 between phases. Even rows of an image meet even taps of the filter only,
odd ones odd ones, likewise columns; so four images of x, each with a filter of R / 2 taps, are convolved and added up.
The sum costs nothing here, because it can be taken before the transform back: phases are further channels of V and U.
In the transposed convolution the phases are on the other side, as further outputs. If R is odd, phase 1 has a tap less
than phase 0: its polynomial is of a lower degree, 0 at infinity, where it needs no product.

Memory is given by address, so that neither strides nor flags of arrays make another variant to compile. Vectors run
along channels. A tile that reaches over an edge, or whose channels do not fill vectors, has a transform that masks off
what is not there; the others have one without masks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding
from numba import cfunc, types

from .. import simd
from ..matmul.tile import number_at, put_number
from ..numba_config import njit, prange, renamed, specialise
from . import winograd_tile
from .filtering import transforms, transposed
from .winograd_tile import LANES, SUMS, add_to, fetch, fetch_to_write, tile

LINE = 16  # elements of a cache line
PANEL = 4 * LANES  # output channels that are multiplied, and transformed back, at a time
GROUP = SUMS // 2  # depths whose sums lie together in a weight gradient
SLICE = 32  # depths of the filter that a thread transforms at a time

_TILE = hashlib.sha256(Path(winograd_tile.__file__).read_bytes()).hexdigest()[:8]  # Numba's cache looks not there


class Grid(NamedTuple):
    """The tiles of all images: rows and columns of tiles in one, tiles in all, and how many make a block."""

    down: int
    across: int
    total: int
    block: int


class Plane(NamedTuple):
    """Where images (N, height, width, channels) lie, channels side by side; strides count elements.

    Tile (i, j) of phase (a, b) starts at row ``i OUTPUTS step + top + a`` and takes every ``step``-th, likewise
    columns. That may be beyond the edges. ``odd``: 1 if phase 1 of the filter has a tap less than phase 0.
    """

    data: int
    height: int
    width: int
    channels: int
    by_image: int
    by_row: int
    by_column: int
    step: int
    top: int
    left: int
    odd: int


class Filter(NamedTuple):
    """A filter in any strides, by the roles that its two kinds of channels have in the product.

    Tap t of phase a is row ``t step + a`` of ``rows``; ``turned``: counted from the last tap.
    """

    outs: int
    ins: int
    by_out: int
    by_in: int
    by_row: int
    by_column: int
    rows: int
    columns: int
    step: int
    turned: bool


class Layout(NamedTuple):
    """Elements from one point to the next in V, M and U (for a weight gradient: in V and G), and of a row of V."""

    row: int
    v: int
    m: int
    u: int


class Loops(NamedTuple):
    """The compiled loops of one tile size."""

    transform_filter: Any
    convolve: Any
    accumulate: Any
    finish: Any


def _external(body: Callable[..., None], variant: str = "", constants: dict[str, Any] | None = None) -> Any:
    """``body``, of integers, compiled as a C function; its callers refer to it by name.

    What one compiled function calls by the usual way becomes a part of it, and is optimised over and over again.
    """
    function = renamed(body, f"{variant}_{_TILE}", constants)
    signature = types.void(*[types.int64] * body.__code__.co_argcount)
    compiled = cfunc(signature, cache=True, error_model="numpy")(function)
    name = f"scratchgen_{function.__name__}"
    binding.add_symbol(name, compiled.address)
    _KEPT.append(compiled)
    return types.ExternalFunction(name, signature)


_KEPT: list[Any] = []


@cache
def loops(outputs: int, taps: int) -> Loops:
    """The loops of F(outputs, taps); Numba compiles each when it is first called, or loads it."""
    at, g, bt, _ = transforms(outputs, taps)
    n = outputs + taps - 1
    variant = f"f{outputs}x{taps}"
    names: dict[str, Any] = {"OUTPUTS": outputs, "TAPS": taps, "N": n}

    def transform(name: str, matrix: Any) -> Any:
        return _external(_transform, f"{variant}_{name}", {"sandwich": simd.sandwich(matrix, LANES)})

    def both(name: str, matrix: Any, bounds: str) -> dict[str, Any]:
        bounded = {"sandwich": simd.bounded_sandwich(matrix, LANES, bounds)}
        return {
            "transform": transform(name, matrix),
            "transform_edge": _external(_bounded_transform, f"{variant}_{name}_edge", bounded),
        }

    names["gather"] = _external(_gather, variant, names)
    names["transform_w"] = transform("w", g)
    names["transform_w_back"] = transform("wb", transposed(g))
    names["_read_x"] = specialise(_read, f"{variant}_x", {**names, **both("x", bt, "x")})
    names["_read_y"] = specialise(_read, f"{variant}_y", {**names, **both("yb", transposed(at), "x")})
    names["_write"] = specialise(_write, variant, {**names, **both("y", at, "y")})
    for body in _INNER:
        names[body.__name__] = specialise(body, variant, names)  # each calls some of those before it
    return Loops(*[specialise(body, variant, names, parallel=True) for body in _OUTER])


# --- what is compiled as C functions


def _bounded_transform(x, x_row, x_column, y, y_row, y_column, top, bottom, left, right, channels):
    """All channels of a tile: where its edges are is worked out once for them."""
    for c in range(0, channels, LANES):
        sandwich(x + 4 * c, x_row, x_column, y + 4 * c, y_row, y_column, top, bottom, left, right, channels - c)


def _transform(x, x_row, x_column, y, y_row, y_column, channels):
    for c in range(0, channels, LANES):
        sandwich(x + 4 * c, x_row, x_column, y + 4 * c, y_row, y_column)


def _gather(w, row, column, by_out, lanes, rows, columns, block):
    """The taps of as many outputs as fill a vector, to block (TAPS, TAPS, LANES); zeros beyond rows and columns."""
    for i in range(TAPS):
        for j in range(TAPS):
            present = i < rows and j < columns
            for lane in range(lanes):
                tap = number_at(w + 4 * (lane * by_out + i * row + j * column)) if present else np.float32(0)
                put_number(block + 4 * ((i * TAPS + j) * LANES + lane), tap)


def _multiply(v, row, u, m, count, vectors, depth, seed, ahead):
    """One point: m (tiles, columns) = v (tiles, depth) times u (depth, columns), + seed; fetches as much from ahead."""
    columns = vectors * LANES
    tiles = -(-count * vectors // SUMS) if vectors > 1 else -(-count // GROUP)
    t = 0
    for n in range(tiles):
        rows = (n + 1) * count // tiles - t
        values, lines = v + 4 * t * row, ahead + 64 * n * depth if n < vectors else v
        tile(values, row, 1, u, columns, seed, 0, m + 4 * t * columns, columns, rows, vectors, depth, lines)
        t += rows


def _multiply_outer(v, row, g, wide, sums, between, start, stop, vectors, count, seed):
    """One point: sums (groups, ``between``) = v^T g for v (tiles, depth) and g (tiles, columns of ``wide``), + seed.

    All groups that have depths from ``start`` to ``stop``. ``seed``: a row of zeros, or 0 to add to the sums.
    """
    columns = vectors * LANES
    height = min(SUMS // vectors, GROUP)
    for c in range(start // GROUP * GROUP, stop, GROUP):
        for r in range(c, min(c + GROUP, stop), height):
            target = sums + 4 * (c // GROUP * between + (r - c) * columns)
            added, added_row = (seed, 0) if seed else (target, columns)
            rows, ahead = min(height, stop - r), target + 4 * between
            tile(v + 4 * r, 1, row, g, wide, added, added_row, target, columns, rows, vectors, count, ahead)


multiply = _external(_multiply)
multiply_outer = _external(_multiply_outer)
ZEROS = np.zeros(PANEL, np.float32)


@njit
def vectors_of(channels):
    """The width of the next panel, when so many channels are left."""
    return 4 if channels > 3 * LANES else 2 if channels > LANES else 1


@njit
def place_of(grid, tile):
    """Image, row and column of a tile."""
    image, place = divmod(tile, grid.down * grid.across)
    return image, place // grid.across, place % grid.across


@njit
def after(grid, image, i, j):
    """The place of the next tile. Three divisions would take as long as a transform's arithmetic."""
    j += 1
    if j == grid.across:
        i, j = i + 1, 0
        if i == grid.down:
            image, i = image + 1, 0
    return image, i, j


@njit
def phase_of(index, step):
    """Row and column of a phase. Those of row 0 follow one another, and so do those of column 0."""
    return (1 - (index + 1) // 2 % 2, index // 2) if step == 2 else (0, 0)


@njit
def taps_of(filter, a, b):
    """Rows and columns of taps that phase (a, b) has."""
    return (filter.rows - 1 - a) // filter.step + 1, (filter.columns - 1 - b) // filter.step + 1


# --- the loops; `loops` gives these names their values

OUTPUTS = TAPS = N = 0
sandwich: Any = None
gather: Any = None
transform: Any = None
transform_edge: Any = None
transform_w: Any = None
transform_w_back: Any = None
_read_x: Any = None
_read_y: Any = None


def _read(plane, grid, first, count, v, row, point):
    """Transform ``count`` tiles from ``first`` on, all phases, into rows of v (points, tiles, phases x channels)."""
    step, whole = plane.step, plane.channels % LANES == 0
    down, across = step * plane.by_row, step * plane.by_column
    for phase in range(step * step):
        a, b = phase_of(phase, step)
        top, left = plane.top + a, plane.left + b
        corner = plane.data + 4 * (top * plane.by_row + left * plane.by_column)
        first_row, rows = -(top // step), (plane.height - 1 - top) // step + 1
        first_column, columns = -(left // step), (plane.width - 1 - left) // step + 1
        image, i, j = place_of(grid, first)
        source = corner + 4 * (image * plane.by_image + OUTPUTS * (i * down + j * across))
        for t in range(count):
            target = v + 4 * (t * row + phase * plane.channels)
            low, high = first_row - i * OUTPUTS, rows - i * OUTPUTS
            begin, end = first_column - j * OUTPUTS, columns - j * OUTPUTS
            image, i, j = after(grid, image, i, j)
            ahead = corner + 4 * (image * plane.by_image + OUTPUTS * (i * down + j * across))
            if step == 1:  # other phases of the same pixels have fetched them otherwise
                known = (TAPS - 1) * across if j else 0  # what the tile to the left has read
                for r in range(N):
                    for element in range(known, N * across, LINE):
                        fetch(ahead + 4 * (r * down + element))
            if whole and low <= 0 and high >= N and begin <= 0 and end >= N:
                transform(source, down, across, target, N * point, point, plane.channels)
            else:
                transform_edge(
                    source, down, across, target, N * point, point, low, high, begin, end, plane.channels
                )  # fmt: skip
            source = ahead


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
    step, whole = plane.step, channels % LANES == 0
    down, across = step * plane.by_row, step * plane.by_column
    a, b = phase_of(phase, step)
    top, left = plane.top + a - step * plane.odd * a, plane.left + b - step * plane.odd * b
    corner = plane.data + 4 * (top * plane.by_row + left * plane.by_column + channel)
    first_row, rows = -(top // step), (plane.height - 1 - top) // step + 1
    first_column, columns = -(left // step), (plane.width - 1 - left) // step + 1
    image, i, j = place_of(grid, first)
    for t in range(count):
        source = m + 4 * t * wide
        target = corner + 4 * (image * plane.by_image + OUTPUTS * (i * down + j * across))
        for r in range(OUTPUTS if step == 1 else 0):
            for q in range(OUTPUTS, 2 * OUTPUTS):  # of the tile to the right
                for element in range(0, channels, LINE):
                    fetch_to_write(target + 4 * (r * down + q * across + element))
        low, high = first_row - i * OUTPUTS, rows - i * OUTPUTS
        begin, end = first_column - j * OUTPUTS, columns - j * OUTPUTS
        if whole and low <= 0 and high >= OUTPUTS and begin <= 0 and end >= OUTPUTS:
            transform(source, N * point, point, target, down, across, channels)
        else:
            transform_edge(source, N * point, point, target, down, across, low, high, begin, end, channels)
        if added.data:
            corner_added = added.data + 4 * (image * added.by_image + channel)
            for r in range(i * OUTPUTS, min((i + 1) * OUTPUTS, added.height)):
                for q in range(j * OUTPUTS, min((j + 1) * OUTPUTS, added.width)):
                    place = plane.data + 4 * (image * plane.by_image + r * plane.by_row + q * plane.by_column + channel)
                    add_to(place, corner_added + 4 * (r * added.by_row + q * added.by_column), channels)
        image, i, j = after(grid, image, i, j)


def _convolve_part(x, y, added, grid, layout, u, bias, between, depth, v, m, thread, threads):
    """Every ``threads``-th block of tiles, from the ``thread``-th on; the bias lies ``between`` elements apart."""
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
                    seed, ahead = bias + 4 * (p * between + k), weights + 4 * layout.u
                    values, sums = v + 4 * (p * layout.v + start), m + 4 * p * layout.m
                    now = weights + 4 * start * columns
                    multiply(values, layout.row, now, sums, count, vectors, stop - start, seed, ahead)
                    weights = ahead
                _write(y, added, grid, first, count, m, columns, layout.m, phase, k, min(columns, y.channels - k))
                k += columns


def _convolve(x, y, added, grid, layout, u, bias, between, depth, work, m, step, threads):
    """Each thread has its V and M ``step`` elements of ``work`` from the next one's; M comes ``m`` after V."""
    for thread in prange(threads):
        v = work + 4 * thread * step
        _convolve_part(x, y, added, grid, layout, u, bias, between, depth, v, v + 4 * m, thread, threads)


def _filter_slice(w, filter, layout, u, depth, start, out_phase, first, columns):
    """U for one panel of outputs and up to SLICE depths."""
    wide = (filter.outs + LANES - 1) // LANES * LANES
    block = np.empty(TAPS * TAPS * LANES, np.float32)
    block[:] = 0
    for d in range(start, min(start + SLICE, depth)):
        in_phase, c = divmod(d, filter.ins)
        a, b = phase_of(in_phase + out_phase, filter.step)  # one of the two is 0
        down, across = taps_of(filter, a, b)
        row, column = filter.step * filter.by_row, filter.step * filter.by_column
        corner = c * filter.by_in + a * filter.by_row + b * filter.by_column
        if filter.turned:
            corner += (down - 1) * row + (across - 1) * column
            row, column = -row, -column
        for k in range(first, first + columns, LANES):
            place, lanes = w + 4 * (corner + k * filter.by_out), min(LANES, filter.outs - k)
            gather(place, row, column, filter.by_out, lanes, down, across, block.ctypes.data)
            target = u + 4 * ((out_phase * wide + first) * depth + d * columns + k - first)
            transform_w(block.ctypes.data, TAPS * LANES, LANES, target, N * layout.u, layout.u, LANES)


def _filter_part(w, filter, layout, u, depth, phases, start):
    """U for up to SLICE depths and all outputs."""
    for out_phase in range(phases):
        k = 0
        while k < filter.outs:
            columns = vectors_of(filter.outs - k) * LANES
            _filter_slice(w, filter, layout, u, depth, start, out_phase, k, columns)
            k += columns


def _transform_filter(w, filter, layout, u, depth, phases):
    """The filter at w to U (points, ``phases`` of outputs, panels, depth, columns of a panel)."""
    for n in prange((depth + SLICE - 1) // SLICE):
        _filter_part(w, filter, layout, u, depth, phases, n * SLICE)


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
                values, right = v + 4 * p * layout.v, g + 4 * (p * layout.m + k)
                target = sums + 4 * GROUP * (k * N * N + p * vectors * LANES)
                low, high = _depths(x, p, depth)
                multiply_outer(values, layout.row, right, wide, target, between, low, high, vectors, count, seed)
                weight, total = ones + 4 * p, totals + 4 * k
                if ones and number_at(weight):
                    columns = vectors * LANES
                    tile(weight, 0, 0, right, wide, total, 0, total, columns, 1, vectors, count, right)
            k += vectors * LANES


def _accumulate(x, y, grid, layout, depth, sums, size, totals, wide, ones, parts, work, g, step, threads):
    """The sums of each part of the tiles, ``size`` and ``wide`` elements apart; a thread takes part after part."""
    for thread in prange(threads):
        v = work + 4 * thread * step
        for part in range(thread, parts, threads):
            start, stop = grid.total * part // parts, grid.total * (part + 1) // parts
            here, total = sums + 4 * part * size, totals + 4 * part * wide
            _accumulate_part(x, y, grid, layout, depth, v, v + 4 * g, here, total, ones, start, stop)


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
    k = 0
    while k < filter.outs:
        columns = vectors_of(filter.outs - k) * LANES
        _finish_panel(sums, size, parts, w, filter, depth, start, k, columns)
        k += columns


def _finish(sums, size, parts, w, filter, depth):
    """G^T m G of the sums (parts, groups, panels, points, GROUP, columns), into the flat filter w."""
    for n in prange((depth + GROUP - 1) // GROUP):
        _finish_group(sums, size, parts, w, filter, depth, n * GROUP)


_INNER = (
    _depths,
    _is_zero,
    _filter_slice,
    _filter_part,
    _convolve_part,
    _accumulate_part,
    _finish_panel,
    _finish_group,
)
_OUTER = (_transform_filter, _convolve, _accumulate, _finish)
