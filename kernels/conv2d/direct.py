"""Direct convolution in Numba: every tap is multiplied where the numbers lie, with accumulators in registers.

The windows of a row of outputs are strided views of a band of rows, which is copied with its padding to a buffer that
stays in cache (or read in place where there is none). Taps that lie side by side are one run of the sum, so C = 1 and
C = 3 waste nothing. The gradient in the input with a stride is split by phase: the outputs whose row and column leave
the same remainders use the same taps, and each phase is a convolution with stride 1 by its own few, so that nothing is
multiplied by the zeros in between. The gradient in the weight is the same tile with pixels as depth.

This runs what Winograd's algorithm does not take: other kernels and strides, few channels, dilation, groups.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np

from ..arrays import channels_last, empty_channels_last
from ..parallel import make, run, with_arrays
from ..registry import kernel
from .direct_loops import CALL, JOB, LANES, NARROW, PANEL, ROWS, convolve, finish, pack, weigh
from .reference import Pair, conv2d_cost, conv2d_input_cost, conv2d_weight_cost

BAND_BYTES = 384 << 10  # of input and output in work; with the weights they fit a second-level cache
BAND_PIXELS = 512  # of the weight gradient; also what is added up one by one
UNITS = 8  # of work, at least where there are as many rows: for as many threads
SUMS_BYTES = 1 << 20  # of the weight gradient's partial sums
LEAST_WORK = 1 << 16  # multiplications; below, the reference in NumPy is as quick
F4 = np.dtype(np.float32)


class Axis(NamedTuple):
    """One phase of an axis: its outputs and its taps, each with the first input it reads."""

    first: int
    outputs: int
    taps: tuple[tuple[int, int], ...]  # (input of output 0, tap), ascending


class Plan(NamedTuple):
    """A convolution's geometry as the loops take it: see ``CALL`` and ``JOB``."""

    top: int
    left: int
    columns: int
    reach: int
    rows: int
    taps: np.ndarray
    jobs: np.ndarray
    table: np.ndarray  # where a tap's channel lies in the window
    stretches: np.ndarray  # where what lies side by side begins
    tiles: np.ndarray


def correlation(size: int, taps: int, stride: int, padding: int, dilation: int) -> list[Axis]:
    """The axis of a convolution: one phase."""
    return [Axis(0, size, tuple((t * dilation - padding, t) for t in range(taps)))]


def transposed(size: int, taps: int, stride: int, padding: int, dilation: int) -> list[Axis]:
    """The axis of its gradient: x at h is reached by y at p if ``h = p stride - padding + tap dilation``."""
    phases = []
    for phase in range(min(stride, size)):
        reached = [(phase + padding - t * dilation, t) for t in range(taps)]
        places = sorted((p // stride, t) for p, t in reached if p % stride == 0)
        phases.append(Axis(phase, (size - phase + stride - 1) // stride, tuple(places)))
    return phases


@lru_cache(maxsize=256)
def plan(
    axes: Any, size: Pair, taps: Pair, stride: Pair, padding: Pair, dilation: Pair, channels: int, outs: int, pitch: int
) -> Plan:
    """``axes`` is ``correlation`` or ``transposed``; ``pitch``: elements between rows of the window, 0: as gathered.

    ``outs``: channels of the image that is made.
    """
    rows, columns = (axes(*along) for along in zip(size, taps, stride, padding, dilation))
    step = stride if axes is correlation else (1, 1)
    (top, deep, _), (left, _, wide) = (_extent(phases, s) for phases, s in zip((rows, columns), step))
    pitch = pitch or wide * channels
    jobs: list[tuple] = []
    order: list[Pair] = []
    table: list[int] = []
    stretches: list[int] = []
    tiles: list[int] = []
    for r in rows:
        for c in columns:
            starts = [place - left for place, _ in c.taps]
            depth, cut = len(table) * channels, split(c.outputs)
            taps_of_row = [(place - top) * pitch for place, _ in r.taps]
            table += [row + start * channels for row in taps_of_row for start in starts]
            order += [(i, j) for _, i in r.taps for _, j in c.taps]
            together = starts == list(range(len(starts)))
            stretches += [row + start * channels for row in taps_of_row for start in starts[: 1 if together else None]]
            jobs.append(
                (
                    (r.first * size[1] + c.first) * outs,
                    r.outputs,
                    c.outputs,
                    len(r.taps) if starts else 0,
                    r.taps[0][0] - top if r.taps else 0,
                    r.taps[1][0] - r.taps[0][0] if len(r.taps) > 1 else 1,
                    len(starts) * channels,
                    depth,
                    len(tiles),
                    len(cut),
                    1 if together else len(starts),
                )
            )
            tiles += cut
    by_channel = np.array(table).reshape(-1, 1) + np.arange(channels)
    return Plan(
        top,
        left,
        wide,
        deep,
        max(phase.outputs for phase in rows),
        np.array(order, np.int64).reshape(-1, 2),
        np.array(jobs, JOB),
        _table(by_channel),
        np.array(stretches, np.int64),
        np.array(tiles, np.int64),
    )


def _table(places: np.ndarray) -> np.ndarray:
    """``places`` as a table for tiles, which read one entry more."""
    return np.append(places.reshape(-1), 0).astype(np.int32)


def _extent(phases: list[Axis], step: int) -> tuple[int, int, int]:
    """Along an axis: the first input that is read, how many a window holds, and how many all of them together."""
    used = [phase.taps for phase in phases if phase.taps] or [((0, 0),)]  # with none, all outputs are zeros
    first = min(taps[0][0] for taps in used)
    deep = max(taps[-1][0] for taps in used) - first + 1
    return first, deep, max((phase.outputs - 1) * step for phase in phases) + deep


@cache
def split(count: int, exact: bool = True) -> list[int]:
    """``count`` rows as the sizes of tiles that take the least time; not ``exact``: the last may reach beyond."""
    whole = max(0, count - 4 * ROWS[0]) // ROWS[0]  # of a long row, all but the end
    best: list[tuple[int, list[int]]] = [(0, [])]
    for n in range(1, count - whole * ROWS[0] + 1):
        choices = []
        for rows in ROWS:
            if rows <= n or not exact:
                cost, cut = best[max(n - rows, 0)]
                choices.append((cost + rows + 7, [*cut, rows]))  # measured: a tile costs as much as 7 rows more
        best.append(min(choices))
    return [ROWS[0]] * whole + sorted(best[-1][1], reverse=True)


# --- the three ops


def _image(shape: tuple, strides: tuple, p: Plan, groups: int, step: Pair) -> dict[str, int]:
    """An image (N, C, H, W) in any strides and its windows, as the loops are told."""
    _, c, height, width = shape
    image_step, channel_step, height_step, width_step = (s // 4 for s in strides)
    channel_step = channel_step if c > 1 else 1
    inside = p.top >= 0 and p.left >= 0 and p.left + p.columns <= width
    inside = inside and p.top + (p.rows - 1) * step[0] + p.reach <= height
    return {
        "image_step": image_step,
        "height_step": height_step,
        "width_step": width_step,
        "channel_step": channel_step,
        "height": height,
        "width": width,
        "channels": c // groups,
        "top": p.top,
        "left": p.left,
        "columns": p.columns,
        "reach": p.reach,
        "row_step": step[0],
        "pixel_step": step[1] * (c // groups),
        "in_place": inside and groups == 1 and channel_step == 1 and width_step == c,
        "images": shape[0],
        "groups": groups,
    }


def _band(images: int, rows: int, row_bytes: int) -> int:
    """Rows of outputs of a band: few enough for the cache and for all threads to have some."""
    fitting = max(1, BAND_BYTES // row_bytes)
    return min(rows, fitting, max(1, rows * images // UNITS))


def _window_size(image: dict[str, int], band: int) -> int:
    """Numbers in the window of one band, and a few that a tile may read beyond it."""
    rows = 0 if image["in_place"] else (band - 1) * image["row_step"] + image["reach"]
    return rows * image["columns"] * image["channels"] + ROWS[0]


class Prepared(NamedTuple):
    """What an op needs besides its arrays: the record, what its addresses point to, and sizes of what to allocate."""

    call: np.ndarray
    plan: Plan
    panels: int
    packed: int
    buffer: int


@lru_cache(maxsize=256)
def _prepare(
    axes: Any, x_shape: tuple, x_strides: tuple, w_shape: tuple, w_strides: tuple, size: Pair, how: tuple, groups: int
) -> Prepared:
    """For an image every pixel of which is a sum over taps that ``axes`` gives; ``w`` as in the op."""
    forward = axes is correlation
    first, second = w_shape[0] // groups, w_shape[1]
    outs, channels = (first, second) if forward else (second, first)
    stride = how[0]
    step, apart = (stride, (1, 1)) if forward else ((1, 1), stride)
    about = (axes, size, w_shape[2:], *how, channels, outs * groups)
    p = plan(*about, 0)
    image = _image(x_shape, x_strides, p, groups, step)
    if image["in_place"]:
        p = plan(*about, image["height_step"])
    narrow = outs <= NARROW and channels >= 4 * NARROW
    panels, wide = (outs, 1) if narrow else (-(-outs // PANEL), PANEL)
    out_apart, in_apart, row_apart, column_apart = (s // 4 for s in w_strides)
    band = _band(x_shape[0] * groups, p.rows, 4 * size[1] * outs + 4 * image["columns"] * channels * step[0])
    buffer = _window_size(image, band)
    numbers = image | {
        "job_count": len(p.jobs),
        "tile_count": len(p.tiles),
        "tap_count": len(p.taps),
        "group_apart": first * out_apart,
        "out_apart": out_apart if forward else in_apart,
        "in_apart": in_apart if forward else out_apart,
        "row_apart": row_apart,
        "column_apart": column_apart,
        "narrow": narrow,
        "rows": p.rows,
        "size": size[0] * size[1] * outs * groups,
        "outs": outs,
        "y_row": apart[0] * size[1] * outs * groups,
        "y_pixel": apart[1] * outs * groups,
        "band": band,
        "buffer": buffer,
    }
    call = with_arrays(make(CALL, numbers), jobs=p.jobs, tables=p.table, tiles=p.tiles, taps=p.taps)
    return Prepared(call, p, panels, groups * panels * len(p.taps) * channels * wide, buffer)


def _gather(
    axes: Any, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, size: Pair, *how: Pair, groups: int
) -> np.ndarray:
    """``conv2d`` or ``conv2d_input``, by ``axes``; ``how`` is stride, padding and dilation."""
    k = len(w) if axes is correlation else w.shape[1] * groups
    y = empty_channels_last((len(x), k, *size), F4)
    if _is_product(w.shape[2:], how, groups) and lies_channels_last(x):
        x, size = _folded(x), _rectangle(len(x) * math.prod(size))
    ready = _prepare(axes, x.shape, x.strides, w.shape, w.strides, size, how, groups)
    packed, buffers = np.empty(ready.packed, F4), np.empty((numba.get_num_threads(), ready.buffer), F4)
    bias = np.zeros(k, F4) if b is None else np.ascontiguousarray(b)
    call = with_arrays(ready.call, x=x, w=w, packed=packed, bias=bias, y=y, buffers=buffers)
    call["threads"] = len(buffers)
    run(pack, call, ready.panels)
    run(convolve, call, len(buffers))
    return y


def _conv2d_when(x: Any, w: Any, b: Any, *, size: Pair, groups: int, **_: Any) -> bool:
    return w.shape[:2] != (groups, 1) and len(x) * math.prod(size) * w.size >= LEAST_WORK


@kernel("conv2d", impl="direct", device="cpu", dtypes="f4", when=_conv2d_when, cost=conv2d_cost, priority=5)
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
    """As the reference."""
    return _gather(correlation, x, w, b, size, stride, padding, dilation, groups=groups)


def _conv2d_input_when(y: Any, w: Any, b: Any, *, groups: int, **_: Any) -> bool:
    return w.shape[:2] != (groups, 1) and y.size // max(y.shape[1], 1) * w.size >= LEAST_WORK


@kernel(
    "conv2d_input",
    impl="direct",
    device="cpu",
    dtypes="f4",
    when=_conv2d_input_when,
    cost=conv2d_input_cost,
    priority=5,
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
    """As the reference."""
    return _gather(transposed, y, w, b, size, stride, padding, dilation, groups=groups)


def _conv2d_weight_when(x: Any, y: Any, *, size: Pair, groups: int, **_: Any) -> bool:
    depthwise = groups > 1 and x.shape[1] == y.shape[1] == groups
    return not depthwise and y.size * (x.shape[1] // groups) * math.prod(size) >= LEAST_WORK


@kernel(
    "conv2d_weight",
    impl="direct",
    device="cpu",
    dtypes="f4",
    when=_conv2d_weight_when,
    cost=conv2d_weight_cost,
    priority=5,
)
def conv2d_weight(
    x: np.ndarray, y: np.ndarray, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> np.ndarray:
    """As the reference."""
    return _weigh(x, y, size, stride, padding, dilation, groups=groups)[0]


@kernel(
    "conv2d_weight_bias",
    impl="direct",
    device="cpu",
    dtypes="f4",
    when=_conv2d_weight_when,
    cost=conv2d_weight_cost,
    priority=5,
)
def conv2d_weight_bias(
    x: np.ndarray, y: np.ndarray, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """As the reference; y is read once."""
    return _weigh(x, y, size, stride, padding, dilation, groups=groups)


class PreparedWeight(NamedTuple):
    """As ``Prepared``: also the shape of the partial sums."""

    call: np.ndarray
    plan: Plan
    tables: tuple[np.ndarray, np.ndarray]
    sums: tuple[int, ...]
    buffer: int


@lru_cache(maxsize=256)
def _prepare_weight(x_shape: tuple, x_strides: tuple, y_shape: tuple, size: Pair, how: tuple, groups: int) -> Any:
    """For the gradient in the weight."""
    channels, outs = x_shape[1] // groups, y_shape[1] // groups
    rows, columns = y_shape[2:]
    stride = how[0]
    about = (correlation, (rows, columns), size, *how, channels, 0)
    p = plan(*about, 0)
    length = len(p.taps) * channels // len(p.stretches)
    swapped = outs <= NARROW and length > NARROW
    tiles = split(outs) if swapped else split(length, exact=False)
    image = _image(x_shape, x_strides, p, groups, stride)
    image["in_place"] = image["in_place"] and sum(tiles) == (outs if swapped else length)  # reads nothing beyond
    if image["in_place"]:
        p = plan(*about, image["height_step"])
    pitch = image["height_step"] if image["in_place"] else image["columns"] * channels
    band = max(1, min(rows, BAND_PIXELS // columns))
    block = (groups, len(p.stretches), *((outs, length) if swapped else (sum(tiles), -(-outs // LANES) * LANES)))
    parts = max(1, min(x_shape[0] * -(-rows // band), UNITS, SUMS_BYTES // (4 * math.prod(block))))
    parts = 1 << parts.bit_length() - 1  # so that two or four threads have equal shares
    panel = 0 if swapped else (band * columns + 1) * PANEL  # and its sums
    line = columns * outs * groups
    buffer = panel + _window_size(image, band)
    numbers = image | {
        "panel": panel,
        "stretch_count": len(p.stretches),
        "tile_count": len(tiles),
        "tap_count": len(p.taps),
        "out_apart": channels * math.prod(size),
        "in_apart": math.prod(size),
        "row_apart": size[1],
        "rows": rows,
        "size": rows * line,
        "outs": outs,
        "y_row": line,
        "y_pixel": outs * groups,
        "parts": parts,
        "down": block[2],
        "across": block[3],
        "swapped": swapped,
        "band": band,
        "buffer": buffer,
    }
    if swapped:
        pixels = np.arange(columns) * (outs * groups)
    else:
        pixels = np.arange(band)[:, None] * (stride[0] * pitch) + np.arange(columns) * image["pixel_step"]
    tables = _table(pixels), np.array(tiles)
    call = with_arrays(
        make(CALL, numbers), jobs=p.jobs, stretches=p.stretches, taps=p.taps, tables=tables[0], tiles=tables[1]
    )
    return PreparedWeight(call, p, tables, (parts, *block), buffer)


def _weigh(x: np.ndarray, y: np.ndarray, size: Pair, *how: Pair, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """``conv2d_weight`` and the sums of y."""
    w = np.empty((y.shape[1], x.shape[1] // groups, *size), F4)
    bias = np.empty(len(w), F4)
    y = y if lies_channels_last(y) else channels_last(y).transpose(0, 3, 1, 2)
    if _is_product(size, how, groups) and lies_channels_last(x):
        x, y = _folded(x), _folded(y)
    ready = _prepare_weight(x.shape, x.strides, y.shape, size, how, groups)
    threads = numba.get_num_threads()
    sums, totals = np.zeros(ready.sums, F4), np.zeros((ready.sums[0], len(w)), F4)
    buffers = np.empty((threads, ready.buffer), F4)
    call = with_arrays(ready.call, x=x, y=y, w=w, bias=bias, sums=sums, totals=totals, buffers=buffers)
    call["threads"] = threads
    # Panels of one part can be done by several threads; which part a band belongs to never depends on these.
    call["chunks"] = min(-(-threads // ready.sums[0]), -(-ready.sums[-1] // PANEL))
    run(weigh, call, threads)
    run(finish, call, groups * -(-len(w) // groups // LANES))
    return w, bias


# --- 1x1: pixels are the rows of a matrix, whatever image they belong to


def _is_product(taps: Pair, how: tuple[Pair, ...], groups: int) -> bool:
    """Whether a convolution is a product of matrices; ``how`` is stride, padding and dilation."""
    return taps == how[0] == (1, 1) and how[1] == (0, 0) and groups == 1


def lies_channels_last(x: np.ndarray) -> bool:
    """Whether x (N, C, H, W) lies in memory as (N, H, W, C)."""
    return bool(x.transpose(0, 2, 3, 1).flags.c_contiguous)


def _folded(x: np.ndarray) -> np.ndarray:
    """All pixels of a channels-last batch as one image."""
    c = x.shape[1]
    return x.transpose(0, 2, 3, 1).reshape(1, *_rectangle(x.size // c), c).transpose(0, 3, 1, 2)


@cache
def _rectangle(pixels: int) -> Pair:
    """Height and width of an image of so many pixels whose rows are not too long."""
    width = next(m for m in range(min(pixels, 256), 0, -1) if pixels % m == 0)
    return pixels // width, width
