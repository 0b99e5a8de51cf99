"""Where things lie in Winograd's convolution: images, filters, tiles and the points they are transformed to.

Memory is given by address, so that neither strides nor flags of arrays make another variant of a loop to compile.
"""

from __future__ import annotations

from typing import NamedTuple

from ..numba_config import njit
from .winograd_tile import LANES, SUMS

LINE = 16  # elements of a cache line
PANEL = 4 * LANES  # output channels that are multiplied, and transformed back, at a time
GROUP = SUMS // 2  # depths whose sums lie together in a weight gradient
KINDS = 4  # of tiles: whole, and short in one direction or the other or both


class Grid(NamedTuple):
    """The tiles of all images: rows and columns of tiles in one, tiles in all, and how many make a block.

    The first ``whole_down`` rows and ``whole_across`` columns are of tiles with all outputs, the others of short tiles
    with one less that way. If there are short ones, blocks are of whole images.
    """

    down: int
    across: int
    whole_down: int
    whole_across: int
    total: int
    block: int


class Plane(NamedTuple):
    """Where images (N, height, width, channels) lie, channels side by side; strides count elements.

    Tile 0 of phase (a, b) starts at row ``top + a`` and takes every ``step``-th, the others follow; likewise columns.
    That may be beyond the edges. ``odd``: 1 if phase 1 of the filter has a tap less than phase 0.
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


@njit
def part_of(plane, start, channels):
    """So many channels of the images, from ``start`` on."""
    _, height, width, _, by_image, by_row, by_column, step, top, left, odd = plane
    return Plane(plane.data + 4 * start, height, width, channels, by_image, by_row, by_column, step, top, left, odd)


@njit
def few_ins(filter, ins):
    """The filter's first ``ins`` input channels."""
    outs, _, by_out, by_in, by_row, by_column, rows, columns, step, turned = filter
    return Filter(outs, ins, by_out, by_in, by_row, by_column, rows, columns, step, turned)


@njit
def unit_of(grid):
    """Tiles that stay together: those of an image if some are short, which are in order of their kind then."""
    short = grid.whole_down < grid.down or grid.whole_across < grid.across
    return grid.down * grid.across if short else 1


@njit
def kind_of(grid, kind, outputs):
    """Tiles of one kind. Down, and then across: how many, the first output, and how many outputs each has.

    A block holds tiles with short columns, whole ones, tiles with short rows and those with both, in this order: then
    all tiles that have a product at some point lie side by side.
    """
    down = (grid.down - grid.whole_down, grid.whole_down * outputs, outputs - 1)
    across = (grid.across - grid.whole_across, grid.whole_across * outputs, outputs - 1)
    return (
        down if kind >= 2 else (grid.whole_down, 0, outputs),
        across if kind == 0 or kind == 3 else (grid.whole_across, 0, outputs),
    )


@njit
def range_of(grid, count, last_row, last_column):
    """From which to which of ``count`` tiles there is a product at a point: none at infinity for a short tile."""
    each, short_across = grid.down * grid.across, grid.across - grid.whole_across
    start, stop = 0, count
    if last_row:
        stop = count * grid.whole_down // grid.down
    if last_column:
        start = count * grid.whole_down * short_across // each
        stop = min(stop, count - count * (grid.down - grid.whole_down) * short_across // each)
    return start, stop


@njit
def place_of(first, down, across):
    """Image, row and column of a tile."""
    image, place = divmod(first, down * across)
    return image, place // across, place % across


@njit
def after(image, i, j, down, across):
    """The place of the next tile. Three divisions would take as long as a transform's arithmetic."""
    j += 1
    if j == across:
        i, j = i + 1, 0
        if i == down:
            image, i = image + 1, 0
    return image, i, j


@njit
def vectors_of(channels):
    """The width of the next panel, when so many channels are left."""
    return 4 if channels > 3 * LANES else 2 if channels > LANES else 1


@njit
def phase_of(index, step):
    """Row and column of a phase. Those of row 0 follow one another, and so do those of column 0."""
    return (1 - (index + 1) // 2 % 2, index // 2) if step == 2 else (0, 0)


@njit
def taps_of(filter, a, b):
    """Rows and columns of taps that phase (a, b) has."""
    return (filter.rows - 1 - a) // filter.step + 1, (filter.columns - 1 - b) // filter.step + 1
