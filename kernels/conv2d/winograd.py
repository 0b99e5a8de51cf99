"""3x3 convolution with stride 1, its input gradient and its weight gradient by Winograd's F(4x4) and F(2x2), in Numba.

The image is cut into tiles of 4x4 outputs. A block of tiles is transformed (36 points for each tile and channel),
then each point is one product of matrices, tiles x channels by channels x channels, then the results are transformed
back: 4 times fewer multiplications than 9 for each output. A block is as large as stays in cache between the three
steps. Threads take blocks in turn and share nothing; the weight gradient is summed over threads at the end, so it can
depend on their number in the last bits.

Vectors run along channels. Tiles that reach over an edge, and channels that do not fill a vector, go through a small
copy filled up with zeros.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np

from .. import simd
from ..numba_config import prange, specialise
from ..registry import kernel
from .filtering import transforms, transposed

Pair = tuple[int, int]

WIDTH = simd.machine_width()
LANES, ROWS, VECTORS = WIDTH.lanes, WIDTH.rows, WIDTH.vectors
PANEL = VECTORS * LANES  # output channels of one tile product
DOWN = 4 if LANES % 4 == 0 else LANES  # input channels of one tile product of the weight gradient
TAPS = 3
TILES, TILES_OF_WEIGHT = 48, 96  # in a block; measured, flat between half and double
F4 = np.dtype(np.float32)


class Loops(NamedTuple):
    """The compiled loops of one tile size, and the number of its points along an axis."""

    points: int
    transform_weights: Any
    convolve: Any
    accumulate: Any
    finish_weights: Any


@cache
def loops(outputs: int) -> Loops:
    """The loops for tiles of ``outputs`` x ``outputs``; Numba compiles each when it is first called, or loads it."""
    at, g, bt = transforms(outputs, TAPS)
    n = outputs + TAPS - 1
    names: dict[str, Any] = {
        "OUTPUTS": outputs,
        "N": n,
        # Point 1 of both axes: a constant added to its product is added to every output, which is what a bias is.
        "ONE": n + 1,
        "transform_b": simd.sandwich(bt, LANES),
        "transform_a": simd.sandwich(at, LANES),
        "transform_g": simd.sandwich(g, LANES),
        "transform_a_back": simd.sandwich(transposed(at), LANES),
        "transform_g_back": simd.sandwich(transposed(g), LANES),
        "product": simd.tile_product(ROWS, VECTORS, LANES),
        "product_add": simd.tile_product(ROWS, VECTORS, LANES, accumulate=True),
        "outer_add": simd.tile_product(DOWN, VECTORS, LANES, accumulate=True),
    }
    variant = f"f{outputs}"
    for body in (_gather, _input, _convolve_part, _accumulate_part):  # each calls those before it
        names[body.__name__] = specialise(body, variant, names)
    return Loops(
        n,
        specialise(_transform_weights, variant, names),
        specialise(_convolve, variant, names, parallel=True),
        specialise(_accumulate, variant, names, parallel=True),
        specialise(_finish_weights, variant, names),
    )


# --- the loops; `loops` gives these names their values

OUTPUTS = N = ONE = 0
transform_a: Any = None
transform_b: Any = None
transform_g: Any = None
transform_a_back: Any = None
transform_g_back: Any = None
product: Any = None
product_add: Any = None
outer_add: Any = None


def _transform_weights(w, u):
    """w (3, 3, C, K) to u (points, K / PANEL, C, PANEL)."""
    channels, outs = w.shape[2], w.shape[3]
    between = u.shape[1] * channels * PANEL
    for c in range(channels):
        for k in range(0, outs, LANES):
            transform_g(
                w.ctypes.data + 4 * (c * outs + k),
                TAPS * channels * outs,
                channels * outs,
                u.ctypes.data + 4 * (((k // PANEL) * channels + c) * PANEL + k % PANEL),
                N * between,
                between,
            )


def _gather(x, image, top, left, tile):
    """What a tile reads, zero beyond the edges of the image; channels that ``x`` has not stay as they are."""
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    for i in range(tile.shape[0]):
        for j in range(tile.shape[1]):
            if 0 <= top + i < height and 0 <= left + j < width:
                for c in range(channels):
                    tile[i, j, c] = x[image, top + i, left + j, c]
            else:
                for c in range(channels):
                    tile[i, j, c] = np.float32(0)


def _input(x, image, top, left, tile, v, t):
    """B^T x B of the tile with this corner, into row ``t`` of v (points, tiles, C)."""
    block, channels = v.shape[1], v.shape[2]
    target = v.ctypes.data + 4 * t * channels
    inside = top >= 0 and left >= 0 and top + N <= x.shape[1] and left + N <= x.shape[2]
    if inside and channels == x.shape[3]:
        row, column = x.strides[1] // 4, x.strides[2] // 4
        source = x.ctypes.data + image * x.strides[0] + top * x.strides[1] + left * x.strides[2]
    else:
        _gather(x, image, top, left, tile)
        row, column, source = N * channels, channels, tile.ctypes.data
    for c in range(0, channels, LANES):
        transform_b(source + 4 * c, row, column, target + 4 * c, N * block * channels, block * channels)


def _convolve_part(x, u, bias, y, pad_top, pad_left, block, thread, threads):
    """Every ``threads``-th block of tiles, from the ``thread``-th on."""
    height, width, outs = y.shape[1], y.shape[2], y.shape[3]
    panels, channels = u.shape[1], u.shape[2]
    wide = panels * PANEL
    down, across = (height + OUTPUTS - 1) // OUTPUTS, (width + OUTPUTS - 1) // OUTPUTS
    total = x.shape[0] * down * across
    v = np.empty((N * N, block, channels), np.float32)
    m = np.empty((N * N, block, wide), np.float32)
    tile = np.zeros((N, N, channels), np.float32)
    edge = np.empty((OUTPUTS, OUTPUTS, wide), np.float32)
    for first in range(thread * block, total, threads * block):
        count = min(block, total - first)
        for t in range(count):
            image, place = divmod(first + t, down * across)
            i, j = divmod(place, across)
            _input(x, image, i * OUTPUTS - pad_top, j * OUTPUTS - pad_left, tile, v, t)
            for k in range(wide):
                m[ONE, t, k] = bias[k]
        for point in range(N * N):
            for panel in range(panels):
                weights = u.ctypes.data + 4 * (point * panels + panel) * channels * PANEL
                for t in range(0, count, ROWS):
                    values = v.ctypes.data + 4 * (point * block + t) * channels
                    sums = m.ctypes.data + 4 * ((point * block + t) * wide + panel * PANEL)
                    if point == ONE:
                        product_add(values, channels, 1, weights, PANEL, sums, wide, channels)
                    else:
                        product(values, channels, 1, weights, PANEL, sums, wide, channels)
        for t in range(count):
            image, place = divmod(first + t, down * across)
            i, j = divmod(place, across)
            top, left = i * OUTPUTS, j * OUTPUTS
            fits = top + OUTPUTS <= height and left + OUTPUTS <= width and outs % LANES == 0
            row, column, target, last = OUTPUTS * wide, wide, edge.ctypes.data, wide
            if fits:
                row, column, last = width * outs, outs, outs
                target = y.ctypes.data + 4 * ((image * height + top) * width + left) * outs
            sums = m.ctypes.data + 4 * t * wide
            for k in range(0, last, LANES):
                transform_a(sums + 4 * k, N * block * wide, block * wide, target + 4 * k, row, column)
            if not fits:
                for a in range(min(OUTPUTS, height - top)):
                    for b in range(min(OUTPUTS, width - left)):
                        for k in range(outs):
                            y[image, top + a, left + b, k] = edge[a, b, k]


def _convolve(x, u, bias, y, pad_top, pad_left, block, threads):
    """x (N, H, W, C) and transformed weights to y (N, P, Q, K), contiguous."""
    for thread in prange(threads):
        _convolve_part(x, u, bias, y, pad_top, pad_left, block, thread, threads)


def _accumulate_part(x, y, sums, pad_top, pad_left, block, thread, threads):
    """Add (A y A^T) * (B^T x B) of every ``threads``-th block to sums (points, C, K)."""
    height, width = y.shape[1], y.shape[2]
    channels, wide = sums.shape[1], sums.shape[2]
    down, across = (height + OUTPUTS - 1) // OUTPUTS, (width + OUTPUTS - 1) // OUTPUTS
    total = x.shape[0] * down * across
    v = np.empty((N * N, block, channels), np.float32)
    g = np.empty((N * N, block, wide), np.float32)
    tile = np.zeros((N, N, channels), np.float32)
    edge = np.zeros((OUTPUTS, OUTPUTS, wide), np.float32)
    for first in range(thread * block, total, threads * block):
        count = min(block, total - first)
        for t in range(count):
            image, place = divmod(first + t, down * across)
            i, j = divmod(place, across)
            top, left = i * OUTPUTS, j * OUTPUTS
            _input(x, image, top - pad_top, left - pad_left, tile, v, t)
            if top + OUTPUTS <= height and left + OUTPUTS <= width and wide == y.shape[3]:
                row, column = y.strides[1] // 4, y.strides[2] // 4
                source = y.ctypes.data + image * y.strides[0] + top * y.strides[1] + left * y.strides[2]
            else:
                _gather(y, image, top, left, edge)
                row, column, source = OUTPUTS * wide, wide, edge.ctypes.data
            target = g.ctypes.data + 4 * t * wide
            for k in range(0, wide, LANES):
                transform_a_back(source + 4 * k, row, column, target + 4 * k, N * block * wide, block * wide)
        for point in range(N * N):
            for k in range(0, wide, PANEL):
                right = g.ctypes.data + 4 * (point * block * wide + k)
                for c in range(0, channels, DOWN):
                    values = v.ctypes.data + 4 * (point * block * channels + c)
                    target = sums.ctypes.data + 4 * ((point * channels + c) * wide + k)
                    outer_add(values, 1, channels, right, wide, target, wide, count)


def _accumulate(x, y, sums, pad_top, pad_left, block):
    """Each thread adds to its own part of sums (threads, points, C, K)."""
    for thread in prange(sums.shape[0]):
        _accumulate_part(x, y, sums[thread], pad_top, pad_left, block, thread, sums.shape[0])


def _finish_weights(m, w):
    """G^T m G from m (points, C, K) to w (3, 3, C, K)."""
    channels, wide = m.shape[1], m.shape[2]
    between = channels * wide
    for c in range(channels):
        for k in range(0, wide, LANES):
            offset = 4 * (c * wide + k)
            transform_g_back(
                m.ctypes.data + offset, N * between, between, w.ctypes.data + offset, TAPS * between, between
            )


# --- the three ops


def _fits(taps: Pair, stride: Pair, dilation: Pair, groups: int, channels: int, outs: int, size: Pair) -> bool:
    """3x3 at stride 1, enough channels to fill vectors, and enough work to pay for the transforms."""
    plain = taps == (TAPS, TAPS) and stride == (1, 1) and dilation == (1, 1) and groups == 1
    return plain and min(channels, outs) >= 8 and min(size) >= 2


def _outputs(size: Pair) -> int:
    """The tile size: 4, unless most of such a tile would lie beyond the edge."""
    return 4 if min(size) > 2 else 2


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _last(x: np.ndarray) -> np.ndarray:
    """(N, C, H, W) as (N, H, W, C) with neighbouring channels side by side; a view of channels-last arrays."""
    moved = x.transpose(0, 2, 3, 1)
    return moved if moved.strides[3] == 4 and min(moved.strides) >= 0 else np.ascontiguousarray(moved)


def _conv2d_when(
    x: Any, w: Any, b: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> bool:
    return x.size > 0 and _fits(w.shape[2:], stride, dilation, groups, x.shape[1], w.shape[0], size)


@kernel("conv2d", impl="winograd", device="cpu", dtypes="f4", when=_conv2d_when, looseness=4)
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
    k, c = w.shape[:2]
    channels, wide = _up(c, LANES), _up(k, PANEL)
    made = loops(_outputs(size))
    by_tap = np.zeros((TAPS, TAPS, channels, wide), F4)
    by_tap[:, :, :c, :k] = w.transpose(2, 3, 1, 0)
    u = np.empty((made.points**2, wide // PANEL, channels, PANEL), F4)
    made.transform_weights(by_tap, u)
    bias = np.zeros(wide, F4)
    if b is not None:
        bias[:k] = b
    y = np.empty((x.shape[0], *size, k), F4)
    made.convolve(_last(x), u, bias, y, *padding, _up(TILES, ROWS), numba.get_num_threads())
    return y.transpose(0, 3, 1, 2)


def _conv2d_input_when(
    y: Any, w: Any, b: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> bool:
    return y.size > 0 and _fits(w.shape[2:], stride, dilation, groups, y.shape[1], w.shape[1], size)


@kernel("conv2d_input", impl="winograd", device="cpu", dtypes="f4", when=_conv2d_input_when, looseness=4)
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
    """With stride 1 the gradient in the input is a convolution by the weights turned around."""
    turned = w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    around = (TAPS - 1 - padding[0], TAPS - 1 - padding[1])
    return conv2d(y, turned, b, size=size, stride=stride, padding=around, dilation=dilation, groups=groups)


def _conv2d_weight_when(
    x: Any, y: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> bool:
    return x.size > 0 and y.size > 0 and _fits(size, stride, dilation, groups, x.shape[1], y.shape[1], y.shape[2:])


@kernel("conv2d_weight", impl="winograd", device="cpu", dtypes="f4", when=_conv2d_weight_when, looseness=4)
def conv2d_weight(
    x: np.ndarray, y: np.ndarray, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> np.ndarray:
    c, k = x.shape[1], y.shape[1]
    channels, wide = _up(c, LANES), _up(k, PANEL)
    made = loops(_outputs(y.shape[2:]))
    sums = np.zeros((numba.get_num_threads(), made.points**2, channels, wide), F4)
    made.accumulate(_last(x), _last(y), sums, *padding, TILES_OF_WEIGHT)
    w = np.empty((TAPS, TAPS, channels, wide), F4)
    made.finish_weights(sums.sum(0) if len(sums) > 1 else sums[0], w)
    return np.ascontiguousarray(w[:, :, :c, :k].transpose(3, 2, 0, 1))
