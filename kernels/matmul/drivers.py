"""The packed product over all threads: how one product, or a batch of them, is dealt out.

Nothing here changes a bit of the result: a sum's blocks depend on its depth alone (see ``gemm``), and threads share
out rows, columns or whole products, never a sum.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import boolean, float32, int64, types, void

from ..numba_config import prange, specialise
from .gemm import HEIGHT, LINE, aligned, depth_of_blocks, multiply_part, pack_panel, up_to_line
from .tile import PANEL, ROWS

SPACE = 1 << 20  # floats of B that are packed at a time: 4 MB
WIDE = 2048  # columns of them at most


def _part(a, b, packed, seed, sums, c, top, bottom, left, right, first, end, step):
    """``c[top:bottom, left:right]``, plus or from the products over ``first`` to ``end`` of the depth."""
    a_row, a_step, c_row = a.strides[0] // 4, a.strides[1] // 4, c.strides[0] // 4
    b_step, b_column = b.strides[0] // 4, b.strides[1] // 4
    target = c.ctypes.data + 4 * (top * c_row + left)
    start, start_row = 0, 0
    if first > 0:
        start, start_row = target, c_row
    elif seed.size > 0:
        start_row = seed.strides[0] // 4 if seed.shape[0] > 1 else 0
        start = seed.ctypes.data + 4 * (top * start_row + left)
    multiply_part(
        a.ctypes.data + 4 * (top * a_row + first * a_step), a_row, a_step,
        packed if packed != 0 else b.ctypes.data + 4 * (first * b_step + left * b_column), b_step, b_column,
        1 if packed != 0 else 0, start, start_row, sums.ctypes.data + 4 * top if sums.size > 0 and left == 0 else 0,
        target, c_row, bottom - top, right - left, end - first, step,
    )  # fmt: skip


def _pack_item(b, packed, item, panels, left, right, first, end, step):
    """One panel of one block of sums: item ``block * panels + panel``."""
    block, panel = divmod(item, panels)
    p, j = first + block * step, left + panel * PANEL
    depth = min(step, end - p)
    b_step, b_column = b.strides[0] // 4, b.strides[1] // 4
    source = b.ctypes.data + 4 * (p * b_step + j * b_column)
    target = packed + 4 * (block * step * panels + panel * up_to_line(depth)) * PANEL
    pack_panel(source, b_step, b_column, target, depth, min(PANEL, right - j))


def _product(a, b, seed, sums, c, threads):
    """``c = seed + a b``, and the row sums of ``a`` to ``sums``."""
    m, n, k = a.shape[0], b.shape[1], a.shape[1]
    step = depth_of_blocks(k)
    panels = -(-n // PANEL)
    if m < 2 * ROWS * threads:  # too few rows to share: each thread takes its columns of all
        for t in prange(threads):
            left, right = t * panels // threads * PANEL, min(n, (t + 1) * panels // threads * PANEL)
            if left < right:
                part(a, b, 0, seed, sums, c, 0, m, left, right, 0, k, step)
    else:
        wide = min(panels, WIDE // PANEL) * PANEL
        deep = max(step, min(SPACE // wide, k + step) // step * step)
        scratch = np.empty(wide * deep + LINE, np.float32)
        packed = aligned(scratch)
        for left in range(0, n, wide):
            right = min(n, left + wide)
            count = -(-(right - left) // PANEL)
            for first in range(0, max(k, 1), deep):
                end = min(k, first + deep)
                for item in prange(count * -(-(end - first) // step)):
                    pack_item(b, packed, item, count, left, right, first, end, step)
                for t in prange(threads):
                    top, bottom = t * m // threads, (t + 1) * m // threads
                    part(a, b, packed, seed, sums, c, top, bottom, left, right, first, end, step)
        scratch[0] = c[0, 0]  # see multiply_part: not freed before


def _product_alone(a, b, seed, sums, c, threads):
    """The same on one thread, which needs no packed copy of all of B."""
    part(a, b, 0, seed, sums, c, 0, a.shape[0], 0, b.shape[1], 0, a.shape[1], depth_of_blocks(a.shape[1]))


def _one_of_batch(a, b, seed, sums, c, i, j, top, bottom):
    x = a[min(i, a.shape[0] - 1), min(j, a.shape[1] - 1)]
    y = b[min(i, b.shape[0] - 1), min(j, b.shape[1] - 1)]
    part(x, y, 0, seed, sums, c[i, j], top, bottom, 0, y.shape[1], 0, x.shape[1], depth_of_blocks(x.shape[1]))


def _batch(a, b, seed, sums, c, threads):
    """``c = a b`` for every place of the first two dimensions; in ``a`` and ``b`` those may be 1 for all places."""
    m = c.shape[2]
    count = c.shape[0] * c.shape[1]
    parts = threads if count % threads and count < 4 * threads and m >= ROWS * threads else 1
    for item in prange(count * parts):
        place, t = divmod(item, parts)
        one_of_batch(
            a, b, seed, sums, c, place // c.shape[1], place % c.shape[1], t * m // parts, (t + 1) * m // parts
        )


# --- compiled on first use, for arrays of any strides

part: Any = None
pack_item: Any = None
one_of_batch: Any = None


def _array(ndim: int, readonly: bool = True, layout: str = "A") -> Any:
    return types.Array(float32, ndim, layout, readonly=readonly)


def _compiled(body: Any, dims: int, names: dict[str, Any], parallel: bool) -> Any:
    function = specialise(
        body, "parallel" if parallel else "serial", names, parallel=parallel, error_model="numpy"
    )
    function.compile(
        void(_array(dims), _array(dims), _array(2), _array(1, False), _array(dims, False), int64)
    )
    function.disable_compile()
    return function


@cache
def product(parallel: bool) -> Any:
    """``f(a, b, seed, sums, c, threads)``: ``c = seed + a b`` of matrices of any strides, rows of ``c`` contiguous.

    ``seed`` (m, n), (1, n) or without elements. ``sums``: to these the row sums of ``a`` are added, if it is not
    empty; the columns of ``a`` must be contiguous then.
    """
    names = {"pack_item": specialise(_pack_item, "", {}), "part": specialise(_part, "", {})}
    return _compiled(_product if parallel else _product_alone, 2, names, parallel)


@cache
def batch(parallel: bool) -> Any:
    """The same for 4-D arrays, without ``seed`` and ``sums``; the first two dimensions broadcast."""
    names: dict[str, Any] = {"part": specialise(_part, "", {})}
    names["one_of_batch"] = specialise(_one_of_batch, "", names)
    return _compiled(_batch, 4, names, parallel)
