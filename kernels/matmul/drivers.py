"""The packed product over all threads: how one product, or a batch of them, is dealt out.

Nothing here changes a bit of the result: a sum's blocks depend on its depth alone (see ``gemm``), and threads share
out rows, columns or whole products, never a sum.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import numpy as np
from numba import float32, int64, types, void

from ..numba_config import prange, specialise
from .gemm import LINE, PRIVATE, aligned, blocks_of_rows, depth_of_blocks, multiply_part
from .tile import PANEL, ROWS


def _part(a, b, seed, sums, c, top, bottom, left, right, step, space):
    """``c[top:bottom, left:right]``."""
    a_row, a_step, c_row = a.strides[0] // 4, a.strides[1] // 4, c.strides[0] // 4
    b_step, b_column = b.strides[0] // 4, b.strides[1] // 4
    start, start_row = 0, 0
    if seed.size > 0:
        start_row = seed.strides[0] // 4 if seed.shape[0] > 1 else 0
        start = seed.ctypes.data + 4 * (top * start_row + left)
    multiply_part(
        a.ctypes.data + 4 * top * a_row, a_row, a_step, b.ctypes.data + 4 * left * b_column, b_step, b_column,
        start, start_row, sums.ctypes.data + 4 * top if sums.size > 0 and left == 0 else 0,
        c.ctypes.data + 4 * (top * c_row + left), c_row, bottom - top, right - left, a.shape[1], step, space,
    )  # fmt: skip


def _groups(m, n, step, threads):
    """Into how many groups of rows to cut: fewer repeat the packing of A in more threads, more that of B."""
    best, least = 1, 0
    for groups in range(1, threads + 1):
        rows = -(-m // groups)
        packed = 2 * blocks_of_rows(rows, step) * n // (threads // groups) + rows
        if threads % groups == 0 and rows >= ROWS and (least == 0 or packed < least):
            best, least = groups, packed
    return best


def _share(a, b, seed, sums, c, groups, threads, t, space):
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
            a, b, seed, sums, c, above + tile * (below - above) // tiles, above + last_tile * (below - above) // tiles,
            panel * PANEL, min(n, last_panel * PANEL), step, space,
        )  # fmt: skip


def _product(a, b, seed, sums, c, scratch, threads):
    """``c = seed + a b``, and the row sums of ``a`` to ``sums``."""
    rows = groups(a.shape[0], b.shape[1], depth_of_blocks(a.shape[1]), threads)
    private = aligned(scratch)
    for t in prange(threads):
        share(a, b, seed, sums, c, rows, threads, t, private + 4 * t * PRIVATE)


def _one_of_batch(a, b, seed, sums, c, i, j, top, bottom, space):
    x = a[min(i, a.shape[0] - 1), min(j, a.shape[1] - 1)]
    y = b[min(i, b.shape[0] - 1), min(j, b.shape[1] - 1)]
    n, k = y.shape[1], x.shape[1]
    part(x, y, seed, sums, c[i, j], top, bottom, 0, n, depth_of_blocks(k), space)


def _batch(a, b, seed, sums, c, scratch, threads):
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
            one_of_batch(a, b, seed, sums, c, i, j, top, bottom, private + 4 * t * PRIVATE)


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


def _array(ndim: int, readonly: bool = True, layout: str = "A") -> Any:
    return types.Array(float32, ndim, layout, readonly=readonly)


def _compiled(body: Any, dims: int, names: dict[str, Any], parallel: bool) -> Any:
    function = specialise(
        body, "parallel" if parallel else "serial", names, parallel=parallel, error_model="numpy"
    )
    function.compile(
        void(_array(dims), _array(dims), _array(2), _array(1, False), _array(dims, False), _array(1, False), int64)
    )
    function.disable_compile()
    return function


@cache
def product(parallel: bool) -> Any:
    """``f(a, b, seed, sums, c, scratch, threads)``: ``c = seed + a b`` of matrices of any strides, rows of ``c`` contiguous.

    ``seed`` (m, n), (1, n) or without elements. ``sums``: to these the row sums of ``a`` are added, if it is not
    empty; the columns of ``a`` must be contiguous then. ``scratch``: see there.
    """
    names: dict[str, Any] = {"groups": specialise(_groups, "", {}), "part": specialise(_part, "", {})}
    names["share"] = specialise(_share, "", names)
    return _compiled(_product, 2, names, parallel)


@cache
def batch(parallel: bool) -> Any:
    """The same for 4-D arrays, without ``seed`` and ``sums``; the first two dimensions broadcast."""
    names: dict[str, Any] = {"part": specialise(_part, "", {})}
    names["one_of_batch"] = specialise(_one_of_batch, "", names)
    return _compiled(_batch, 4, names, parallel)
