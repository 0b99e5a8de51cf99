"""Convolution by Winograd's minimal filtering: 3x3 to 5x5 with stride 1, 3x3 to 6x6 with stride 2 by phases.

The image is cut into tiles of, say, 4x4 outputs. A tile is transformed to 36 points, each of which is one product of
matrices, tiles x channels by channels x channels, and the results are transformed back: 4 times fewer multiplications
than 9 for each output. Convolutions with stride 2 become sums of such with stride 1 first (``winograd_loops``).

Here is the geometry: which tiles, which phases, how large a block, where in memory. All three ops are one of two
products, of tiles with filters or of tiles with tiles.
"""

from __future__ import annotations

from functools import lru_cache
from threading import local
from typing import Any, NamedTuple

import numba
import numpy as np

from ..arrays import empty_channels_last
from ..registry import kernel
from .filtering import transforms
from .reference import conv2d_cost, conv2d_input_cost, conv2d_residual_cost, conv2d_weight_cost
from .winograd_loops import Loops, loops
from .winograd_places import GROUP, LINE, PANEL, Filter, Grid, Layout, Plane, unit_of
from .winograd_tile import LANES

Pair = tuple[int, int]

F4 = np.dtype(np.float32)

TILES = 64  # in a block: then V is read for each panel of outputs as often as U for each block, per multiplication

TRANSFORMED = 1 << 18  # elements of V and G in a block of a weight gradient: half of a second-level cache of 2 MB
IMAGES = 8  # with fewer, tiles are not shared out image by image, so none are short

NOWHERE = Plane(*[0] * len(Plane._fields))  # of what is not there

KNOWN = [((r, r), (1, 1)) for r in (3, 4, 5)] + [((r, r), (2, 2)) for r in (3, 4, 5, 6)]  # filters and strides
TILE_SIZES = {2: (4, 3), 3: (4, 2), 4: (3,), 5: (2,)}  # outputs along an axis, by the taps of a phase


# --- the three ops


def _fits(taps: Pair, stride: Pair, dilation: Pair, groups: int, channels: int, outs: int, size: Pair) -> bool:
    """Whether a kernel is here for these taps, and channels and outputs are enough to fill vectors and tiles."""
    known = (taps, stride) in KNOWN
    return known and dilation == (1, 1) and groups == 1 and min(channels, outs) >= 8 and min(size) >= 2


def _conv2d_when(
    x: Any, w: Any, b: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> bool:
    return x.size > 0 and _fits(w.shape[2:], stride, dilation, groups, x.shape[1], w.shape[0], size)


@kernel("conv2d", impl="winograd", device="cpu", dtypes="f4", when=_conv2d_when, cost=conv2d_cost, looseness=4)
def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    *,
    size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    step = stride[0]
    filter = filter_of(w, step)
    y = empty_channels_last((len(x), len(w), *size), F4)
    image = channels_last(x)
    source = plane(image, step, -padding[0], -padding[1], filter.rows % step)
    _convolve(source, plane(channels_last(y), 1, 0, 0), size, len(x), w, filter, b)
    return y


def _conv2d_residual_when(x: Any, w: Any, b: Any, residual: Any, **how: Any) -> bool:
    return _conv2d_when(x, w, b, **how)


@kernel(
    "conv2d_residual",
    impl="winograd",
    device="cpu",
    dtypes="f4",
    when=_conv2d_residual_when,
    cost=conv2d_residual_cost,
    looseness=4,
)
def conv2d_residual(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    residual: np.ndarray,
    *,
    size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """The residual is added to a tile that has just been written. To the bit what two passes make."""
    step = stride[0]
    filter = filter_of(w, step)
    y = empty_channels_last((len(x), len(w), *size), F4)
    image, more = channels_last(x), channels_last(residual)
    source = plane(image, step, -padding[0], -padding[1], filter.rows % step)
    _convolve(source, plane(channels_last(y), 1, 0, 0), size, len(x), w, filter, b, added=plane(more, 1, 0, 0))
    return y


def _smaller_when(
    x: Any, w: Any, b: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> bool:
    fits = _fits(w.shape[2:], stride, dilation, groups, x.shape[1], w.shape[0], size)
    return x.size > 0 and w.shape[2:] == (3, 3) and stride == (1, 1) and fits


@kernel("conv2d", impl="winograd_f2", device="cpu", dtypes="f4", when=_smaller_when, cost=conv2d_cost, study=True)
def conv2d_f2(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    *,
    size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Tiles of 2x2 outputs whatever the size: 2.25 times fewer multiplications, and the direct product's accuracy."""
    y = empty_channels_last((len(x), len(w), *size), F4)
    image = channels_last(x)  # a plane holds an address only
    source = plane(image, 1, -padding[0], -padding[1])
    _convolve(source, plane(channels_last(y), 1, 0, 0), size, len(x), w, filter_of(w, 1), b, 2)
    return y


def _conv2d_input_when(
    y: Any, w: Any, b: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> bool:
    return y.size > 0 and _fits(w.shape[2:], stride, dilation, groups, y.shape[1], w.shape[1], size)


@kernel(
    "conv2d_input",
    impl="winograd",
    device="cpu",
    dtypes="f4",
    when=_conv2d_input_when,
    cost=conv2d_input_cost,
    looseness=4,
)
def conv2d_input(
    y: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    *,
    size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Row h of x takes part in row m of phase a of the padded image, h + padding = m stride + a.

    Phase a is a convolution of y with the taps of this phase turned round: x[m] = sum of w[t stride + a] y[m - t].
    If phase 1 has a tap less, it is by one row ahead.
    """
    step = stride[0]
    rows = w.shape[2]
    filter = filter_of(w.swapaxes(0, 1), step, turned=True)
    x = empty_channels_last((len(y), w.shape[1], *size), F4)
    image = channels_last(y)
    odd = rows % step
    reach = -(-rows // step) - 1
    first = [(p + odd) // step for p in padding]
    height, width = ((n - 1 + p + odd) // step - f + 1 for n, p, f in zip(size, padding, first))
    source = plane(image, 1, first[0] - reach, first[1] - reach)
    target = plane(channels_last(x), step, first[0] * step - padding[0], first[1] * step - padding[1], odd)
    _convolve(source, target, (height, width), len(y), w, filter, b)
    return x


def _conv2d_weight_when(
    x: Any, y: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> bool:
    return x.size > 0 and y.size > 0 and _fits(size, stride, dilation, groups, x.shape[1], y.shape[1], y.shape[2:])


@kernel(
    "conv2d_weight",
    impl="winograd",
    device="cpu",
    dtypes="f4",
    when=_conv2d_weight_when,
    cost=conv2d_weight_cost,
    looseness=4,
)
def conv2d_weight(
    x: np.ndarray, y: np.ndarray, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> np.ndarray:
    return _weigh(x, y, size, stride, padding, False)[0]


@kernel(
    "conv2d_weight_bias",
    impl="winograd",
    device="cpu",
    dtypes="f4",
    when=_conv2d_weight_when,
    cost=conv2d_weight_cost,
    looseness=4,
)
def conv2d_weight_bias(
    x: np.ndarray, y: np.ndarray, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """The sums of y come from what it is transformed to, while that is in the cache."""
    return _weigh(x, y, size, stride, padding, True)


def _weigh(
    x: np.ndarray, y: np.ndarray, size: Pair, stride: Pair, padding: Pair, both: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The gradient in the weight and, if ``both``, in the bias."""
    step, outs, ins, threads = stride[0], y.shape[1], x.shape[1], numba.get_num_threads()
    w = np.empty((outs, ins, *size), F4)
    plan = _plan_of_weight(len(x), y.shape[2:], -(-size[0] // step), step, ins, outs, threads)
    work = workspace(plan.jobs * (plan.scratch + plan.sums))
    sums = work[plan.jobs * plan.scratch :]
    totals, first, last = np.zeros((plan.parts, plan.wide), F4), channels_last(x), channels_last(y)
    source, target = plane(first, step, -padding[0], -padding[1], size[0] % step), plane(last, 1, 0, 0)
    filter, flat = tuple(filter_of(w, step)), w.reshape(-1)
    bias = totals.ctypes.data, plan.ones.ctypes.data if both else 0
    memory = (work.ctypes.data, plan.second, plan.scratch)
    problem = tuple(source), tuple(target), tuple(plan.grid), tuple(plan.layout)
    if plan.share:
        plan.loops.weigh(*problem, sums, plan.sums, *bias, flat, filter, plan.share, -(-ins // plan.share), *memory)
    else:
        how = plan.depth, sums.ctypes.data, plan.sums, *bias, plan.wide, plan.parts
        plan.loops.accumulate(*problem, *how, *memory, threads)
        plan.loops.finish(sums, plan.sums, plan.parts, flat, filter, plan.depth)
    return w, totals[:, :outs].sum(0)


def _convolve(
    source: Plane,
    target: Plane,
    size: Pair,
    images: int,
    w: np.ndarray,
    filter: Filter,
    b: np.ndarray | None,
    outputs: int = 0,
    added: Plane | None = None,
) -> None:
    """``size`` outputs of each phase from ``source`` to ``target``, in tiles of ``outputs`` if that is not 0.

    ``added``: images like those of ``target``, to be added to them.
    """
    taps, threads = -(-filter.rows // filter.step), numba.get_num_threads()
    plan = _plan(images, size, taps, outputs, source.step, target.step, filter.ins, filter.outs, threads)
    bias = np.zeros((1 if b is None else len(plan.ones), plan.wide), F4)
    if b is not None:  # part of the products at all points, so that it is transformed to itself
        np.multiply(plan.ones[:, None], b, out=bias[:, : filter.outs])
    own = plan.grid.total >= TILES * threads  # with less to do, to transform the filter for itself delays a thread
    elements = threads * plan.scratch + (threads if own else 1) * len(plan.ones) * plan.layout.u
    plan.loops.convolve(
        tuple(source),
        tuple(target),
        tuple(added or NOWHERE),
        tuple(plan.grid),
        tuple(plan.layout),
        w.ctypes.data,
        tuple(filter),
        bias.ctypes.data,
        0 if b is None else plan.wide,
        plan.depth,
        workspace(elements).ctypes.data,
        plan.second,
        plan.scratch,
        own,
        threads,
    )


class Plan(NamedTuple):
    """How a product is done: by which loops, in which tiles, and the memory for it, in elements.

    A thread has ``scratch``, of which M (for a weight gradient G) begins at ``second``. ``ones``: for each point, what
    all ones are the transform of. A weight gradient is made by so many ``jobs``, each with ``sums`` of its own: for
    ``parts`` of the tiles, or by shares of so many input channels.
    """

    loops: Loops
    grid: Grid
    layout: Layout
    depth: int
    wide: int
    ones: np.ndarray
    second: int
    scratch: int
    jobs: int = 0
    sums: int = 0
    parts: int = 1
    share: int = 0


@lru_cache(maxsize=1024)
def _plan(
    images: int, size: Pair, taps: int, outputs: int, phases_in: int, phases_out: int, ins: int, outs: int, threads: int
) -> Plan:
    outputs, grid = tiles_of(images, size, taps, outputs)
    ones = _ones(outputs, taps)
    depth, row, wide = phases_in**2 * ins, row_of(ins, phases_in), up(outs, LANES)
    grid = in_blocks(grid, grid.total, threads, TILES)
    layout = Layout(row, spread(grid.block * row), spread(grid.block * PANEL), spread(depth * wide * phases_out**2))
    second = len(ones) * layout.v
    return Plan(loops(outputs, taps), grid, layout, depth, wide, ones, second, second + len(ones) * layout.m)


@lru_cache(maxsize=1024)
def _plan_of_weight(images: int, size: Pair, taps: int, phases: int, ins: int, outs: int, threads: int) -> Plan:
    outputs, grid = tiles_of(images, size, taps)
    ones = _ones(outputs, taps)
    depth, row, wide = phases**2 * ins, row_of(ins, phases), up(outs, LANES)
    unit = unit_of.py_func(grid)
    most = min(max(TRANSFORMED // (len(ones) * (depth + outs)), 32), 96)
    if 4 * grid.total < depth * len(ones) and ins >= 2 * LANES * max(2, threads):
        # To transform y in each thread is less than to add up sums of both; and their order is always the same.
        jobs, parts, share = threads, 1, up(-(-ins // threads), LANES)
        depth, row = phases**2 * share, row_of(share, phases)
    else:
        parts, share = min(max(2, threads), grid.total // unit), 0  # two, so that one thread adds up as two do
        jobs = max(threads, parts)
    grid = in_blocks(grid, -(-grid.total // unit // parts) * unit, 1, most)
    layout = Layout(row, spread(grid.block * row), spread(grid.block * wide), 0)
    second = len(ones) * layout.v
    scratch, sums = second + len(ones) * layout.m, len(ones) * up(depth, GROUP) * wide
    return Plan(loops(outputs, taps), grid, layout, depth, wide, ones, second, scratch, jobs, sums, parts, share)


def _ones(outputs: int, taps: int) -> np.ndarray:
    """For each point of a tile: what all ones are the transform of."""
    ones = transforms(outputs, taps).ones
    return np.multiply.outer(ones, ones).astype(F4).ravel()


# --- tiles


def tiles_of(images: int, size: Pair, taps: int, outputs: int = 0) -> tuple[int, Grid]:
    """How images of ``size`` outputs are cut: outputs along an axis of a tile, and the tiles.

    What takes the fewest multiplications, unless ``outputs`` are given.
    """

    def cut(outputs: int) -> tuple[int, Grid]:
        down, across = whole_down, whole_across = [-(-n // outputs) for n in size]
        if images >= IMAGES and down * across <= 2 * TILES:
            whole_down, whole_across = (max(1, n - tiles * (outputs - 1)) for n, tiles in zip(size, (down, across)))
        return outputs, Grid(down, across, whole_down, whole_across, images * down * across, 0)

    def multiplications(tiles: tuple[int, Grid]) -> int:
        n, grid = tiles[0] + taps - 1, tiles[1]
        return (grid.down * (n - 1) + grid.whole_down) * (grid.across * (n - 1) + grid.whole_across)

    return min(map(cut, (outputs,) if outputs else TILE_SIZES[taps]), key=multiplications)


def in_blocks(grid: Grid, part: int, threads: int, most: int) -> Grid:
    """Blocks of about ``most`` tiles, so that threads get equally many of ``part`` tiles."""
    unit = unit_of.py_func(grid)
    rounds = -(-part // unit // (threads * max(1, most // unit)))
    return grid._replace(block=-(-part // unit // (threads * rounds)) * unit)


def row_of(channels: int, step: int) -> int:
    """Elements of a row of V: phases side by side, the last one filled up to whole vectors."""
    return up((step * step - 1) * channels + up(channels, LANES), LANES)


# --- memory


def plane(x: np.ndarray, step: int, top: int, left: int, odd: int = 0) -> Plane:
    """A channels-last array as the loops take it."""
    image, row, column, _ = (stride // 4 for stride in x.strides)
    _, height, width, channels = x.shape
    return Plane(x.ctypes.data, height, width, channels, image, row, column, step, top, left, odd)


def filter_of(w: np.ndarray, step: int, turned: bool = False) -> Filter:
    """The filter w (outs, ins, rows, columns) as the loops take it."""
    outs, ins, rows, columns = w.shape
    by_out, by_in, by_row, by_column = (stride // 4 for stride in w.strides)
    return Filter(outs, ins, by_out, by_in, by_row, by_column, rows, columns, step, turned)


def channels_last(x: np.ndarray) -> np.ndarray:
    """(N, C, H, W) as (N, H, W, C) with neighbouring channels side by side; a view of channels-last arrays."""
    moved = x.transpose(0, 2, 3, 1)
    return moved if moved.strides[3] == 4 and min(moved.strides) >= 0 else np.ascontiguousarray(moved)


def up(count: int, multiple: int) -> int:
    """``count`` rounded up."""
    return -(-count // multiple) * multiple


def spread(count: int) -> int:
    """At least ``count`` elements, an odd number of cache lines.

    The transforms go through all points of a tile at once. A distance of many lines with a common factor of 64 would
    put them all in the same few sets of the first-level cache.
    """
    return (up(-(-count // LINE), 8) + 5) * LINE


def _align(x: np.ndarray) -> np.ndarray:
    return x[-(x.ctypes.data // 4) % LINE :]


_memory = local()


def workspace(size: int) -> np.ndarray:
    """``size`` elements of scratch memory, kept for the next call: fresh pages cost as much as the arithmetic."""
    if getattr(_memory, "work", np.empty(0)).size < size:
        _memory.work = None  # let go of the old one first
        _memory.work = _align(np.empty(size + LINE, F4))
    return _memory.work
