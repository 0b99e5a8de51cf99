"""The packed product over all threads: how one product, or a batch of them, is dealt out.

Nothing here changes a bit of the result: a sum's blocks depend on its depth alone (see ``gemm``), and threads share
out rows, columns or whole products, never a sum.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import numpy as np
from numba import carray, float32, int64, types, void

from ..activation.reference import GELU_CUBIC, GELU_SLOPE
from ..numba_config import njit, prange, specialise
from ..vecmath import ONE, ZERO, normal_cdf, sigmoid, vector
from .gemm import (
    HEIGHT,
    LINE,
    PRIVATE,
    VERSION,
    aligned,
    columns_of_block,
    depth_of_blocks,
    multiply_block,
    multiply_part,
    parts,
)
from .tile import PANEL, ROWS, floats_at

OWN_ROWS = 64  # that make it worth packing B in each thread
NONE, RELU, SILU, GELU, GELU_TANH = range(5)  # what may follow a product

_SLOPE, _CUBIC = np.float32(GELU_SLOPE), np.float32(GELU_CUBIC)


@vector
def activate_row(z, y, activation):
    """y = the activation of z, numbers side by side."""
    if activation == RELU:
        for j in range(z.size):
            y[j] = ZERO if z[j] <= ZERO else z[j]
    elif activation == SILU:
        for j in range(z.size):
            y[j] = z[j] * sigmoid(z[j])
    elif activation == GELU:
        for j in range(z.size):
            y[j] = z[j] * normal_cdf(z[j])[0]
    elif activation == GELU_TANH:
        for j in range(z.size):
            y[j] = z[j] * sigmoid(_SLOPE * z[j] * (ONE + _CUBIC * z[j] * z[j]))
    else:
        for j in range(z.size):
            y[j] = z[j]


@vector
def _add_row(x, y):
    for j in range(x.size):
        y[j] += x[j]


@njit
def _run(x, i, left, right):
    """Part of a row that is contiguous, told so: the loops over it are vectorised for no stride but this."""
    return carray(floats_at(x.ctypes.data + i * x.strides[0] + 4 * left), (int64(right - left),))


def _part(a, b, seed, sums, c, y, residual, activation, top, bottom, left, right, step, space):
    """``c[top:bottom, left:right]`` and, if there is a ``y``, that of ``y`` while ``c`` is in the cache."""
    a_row, a_step, c_row = a.strides[0] // 4, a.strides[1] // 4, c.strides[0] // 4
    b_step, b_column = b.strides[0] // 4, b.strides[1] // 4
    start_row = seed.strides[0] // 4 if seed.shape[0] > 1 else 0
    width, k = columns_of_block(step), a.shape[1]
    for j in range(left, right, width):
        edge = min(right, j + width)
        for p in range(0, max(k, 1), step):
            finishing = y.size > 0 and p + step >= k
            count = parts(bottom - top, HEIGHT) if finishing else 1
            for block in range(count):
                low, high = top + block * (bottom - top) // count, top + (block + 1) * (bottom - top) // count
                place = c.ctypes.data + 4 * (low * c_row + j)
                start, begin_row = place, c_row
                if p == 0:
                    start, begin_row = seed.ctypes.data + 4 * (low * start_row + j) if seed.size > 0 else 0, start_row
                multiply_block(
                    a.ctypes.data + 4 * (low * a_row + p * a_step), a_row, a_step, bottom - high,
                    b.ctypes.data + 4 * (p * b_step + j * b_column), b_step, b_column, int64(block > 0),
                    start, begin_row, sums.ctypes.data + 4 * low if sums.size > 0 and j == 0 else 0,
                    place, c_row, high - low, edge - j, min(step, k - p), space,
                )  # fmt: skip
                if finishing:
                    for i in range(low, high):
                        z, out = _run(c, i, j, edge), _run(y, i, j, edge)
                        activate_row(z, out, activation)
                        if residual.size > 0:
                            _add_row(_run(residual, i, j, edge), out)


def _groups(m, n, threads):
    """Into how many groups of rows to cut: fewer fetch A in more threads, more pack B in more.

    With many rows each thread has its own: what one op wrote of them in its cache, the next finds there. To fetch
    lines that another core has written takes longer than to pack B once more (a step of a small GPT: 4 %).
    """
    if m >= OWN_ROWS * threads and m >= n:
        return threads
    best, least = 1, 0
    for groups in range(1, threads + 1):
        rows = -(-m // groups)
        moved = 2 * n // (threads // groups) + rows
        if threads % groups == 0 and rows >= ROWS and (least == 0 or moved < least):
            best, least = groups, moved
    return best


def _share(a, b, seed, sums, c, y, residual, activation, groups, threads, t, space):
    """What thread ``t`` does: an equal share of the tiles of its group of rows, panel by panel.

    Its first and its last panel may be begun and ended by its neighbours.
    """
    m, n, step = a.shape[0], b.shape[1], depth_of_blocks(a.shape[1])
    sharing = threads // groups
    group, place = divmod(t, sharing)
    above, below = group * m // groups, (group + 1) * m // groups
    tiles, panels = -(-(below - above) // ROWS), -(-n // PANEL)
    now, end = place * tiles * panels // sharing, (place + 1) * tiles * panels // sharing
    while now < end:
        panel, tile = divmod(now, tiles)
        last_panel, last_tile = panel + 1, min(tiles, tile + end - now)
        if tile == 0 and end - now >= tiles:
            last_panel = end // tiles
        now += (last_panel - panel) * (last_tile - tile)
        part(
            a, b, seed, sums, c, y, residual, activation,
            above + tile * (below - above) // tiles, above + last_tile * (below - above) // tiles,
            panel * PANEL, min(n, last_panel * PANEL), step, space,
        )  # fmt: skip


def _product(a, b, seed, sums, c, y, residual, activation, scratch, threads):
    """``c = seed + a b``, the row sums of ``a`` to ``sums``, and ``y`` = activation(c) + ``residual``."""
    rows = groups(a.shape[0], b.shape[1], threads)
    private = aligned(scratch)
    for t in prange(threads):
        share(a, b, seed, sums, c, y, residual, activation, rows, threads, t, private + 4 * t * PRIVATE)


def _one_of_batch(a, b, c, i, j, top, bottom, space):
    x = a[min(i, a.shape[0] - 1), min(j, a.shape[1] - 1)]
    y = b[min(i, b.shape[0] - 1), min(j, b.shape[1] - 1)]
    z = c[i, j]
    z_row, x_row = z.strides[0] // 4, x.strides[0] // 4
    multiply_part(
        x.ctypes.data + 4 * top * x_row, x_row, x.strides[1] // 4, y.ctypes.data, y.strides[0] // 4,
        y.strides[1] // 4, 0, 0, z.ctypes.data + 4 * top * z_row, z_row, bottom - top, y.shape[1], x.shape[1], space,
    )  # fmt: skip


def _batch(a, b, c, scratch, threads):
    """``c = a b`` for every place of the first two dimensions; in ``a`` and ``b`` those may be 1 for all places."""
    m = c.shape[2]
    count = c.shape[0] * c.shape[1]
    parts = threads if count % threads and count < 4 * threads and m >= ROWS * threads else 1
    private = aligned(scratch)
    for t in prange(threads):
        for item in range(t * count * parts // threads, (t + 1) * count * parts // threads):
            place, share = divmod(item, parts)
            i, j = divmod(place, c.shape[1])
            top, bottom = share * m // parts, (share + 1) * m // parts
            one_of_batch(a, b, c, i, j, top, bottom, private + 4 * t * PRIVATE)


# --- compiled on first use, for arrays of any strides

_local = threading.local()


def scratch(threads: int) -> np.ndarray:
    """Memory to work in, the same again for each call of a Python thread: new pages would cost more than they hold."""
    size = threads * PRIVATE + LINE
    kept = getattr(_local, "scratch", None)
    if kept is None or kept.size < size:
        kept = _local.scratch = np.empty(size, np.float32)
    return kept


part: Any = None
groups: Any = None
share: Any = None
one_of_batch: Any = None


def _array(ndim: int, readonly: bool = True) -> Any:
    return types.Array(float32, ndim, "A", readonly=readonly)


def _compiled(body: Any, names: dict[str, Any], parallel: bool, *arguments: Any) -> Any:
    variant = f"{'parallel' if parallel else 'serial'}_{VERSION}"
    function = specialise(body, variant, names, parallel=parallel, error_model="numpy")
    function.compile(void(*arguments, _array(1, False), int64))
    function.disable_compile()
    return function


@cache
def product(parallel: bool) -> Any:
    """``f(a, b, seed, sums, c, y, residual, activation, scratch, threads)`` for matrices of any strides.

    ``c = seed + a b``; rows of ``c`` and ``y`` are contiguous. ``seed`` (m, n), (1, n) or without elements. ``sums``:
    to these the row sums of ``a`` are added, if it is not empty; the columns of ``a`` must be contiguous then.
    ``y = activation(c) + residual``, if ``y`` is not empty; ``residual``, its rows contiguous, may be. ``scratch``: see
    there.
    """
    names: dict[str, Any] = {"groups": specialise(_groups, VERSION, {}), "part": specialise(_part, VERSION, {})}
    names["share"] = specialise(_share, VERSION, names)
    inputs, output = _array(2), _array(2, False)
    return _compiled(_product, names, parallel, inputs, inputs, inputs, _array(1, False), output, output, inputs, int64)


@cache
def batch(parallel: bool) -> Any:
    """``f(a, b, c, scratch, threads)``: ``c = a b`` for 4-D arrays of which the first two dimensions broadcast."""
    names = {"one_of_batch": specialise(_one_of_batch, VERSION, {})}
    return _compiled(_batch, names, parallel, _array(4), _array(4), _array(4, False))
