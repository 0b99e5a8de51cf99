"""A packed product of float32 matrices in Numba, on raw addresses: what runs on one thread.

    gemm_serial(a, a_row, a_step, b, b_step, b_column, c, c_row, m, n, k, accumulate)

        c[i c_row + j]  (+)=  sum over p < k of  a[i a_row + p a_step] * b[p b_step + j b_column]

can be called inside any njit function, for all i < m and j < n. ``a``, ``b`` and ``c`` are addresses (int64, from
``array.ctypes.data``) of float32; strides are in elements and may be anything, zero and negative included, so a
transposed operand is the same call with its strides exchanged. Rows of ``c`` are contiguous. It allocates what it
needs (at most some 1.2 MB) and frees it.

The order of the sums depends on ``k`` alone: blocks of at most ``DEPTH`` are added up one after another in registers,
and the blocks' sums are added. So the bits of a result do not depend on how the work is dealt out, or on strides.

How it is arranged, after Goto and van de Geijn (2008): a block of A (at most ``HEIGHT`` x ``DEPTH``) stays in the L2
cache while all of B passes by, in panels of ``PANEL`` columns that stay in L1 while all tiles of rows pass by.
"""

from __future__ import annotations

import numpy as np

from ..numba_config import njit
from .tile import LANES, PANEL, ROWS, move, number_at, put_number, tile, turn

DEPTH = 256  # of a block of sums: a panel of B takes 32 KB of L1
HEIGHT = 640  # of a block of A: 640 KB of L2
LINE = 16  # floats in a line of the cache

_inner = njit(cache=True, nogil=True)


@_inner
def depth_of_blocks(k):
    """The depth of a block of sums: all blocks of a product are about equal."""
    return max(1, -(-k // -(-k // DEPTH))) if k > 0 else 1


@_inner
def aligned(scratch):
    """The first address within an array of float32 that begins a line of the cache; it must have a line to spare."""
    return (scratch.ctypes.data + 63) // 64 * 64


@_inner
def pack_panel(b, b_step, b_column, target, depth, columns):
    """Up to PANEL columns of B to rows of PANEL at ``target``; space for ``depth`` + LANES rows must be there."""
    if b_column == 1:
        for p in range(depth):
            for j in range(0, PANEL, LANES):
                move(b + 4 * (p * b_step + j), target + 4 * (p * PANEL + j), columns - j)
    elif b_step == 1:
        for j in range(0, columns, LANES):
            for p in range(0, depth, LANES):
                source = b + 4 * (j * b_column + p)
                turn(source, b_column, target + 4 * (p * PANEL + j), PANEL, columns - j, depth - p)
    else:
        for p in range(depth):
            for j in range(columns):
                put_number(target + 4 * (p * PANEL + j), number_at(b + 4 * (p * b_step + j * b_column)))
    if b_column != 1:  # what the loops above left as it was in memory could be slow to multiply: it may be denormal
        first = -(-columns // LANES) * LANES if b_step == 1 else columns
        for p in range(depth):
            for j in range(first, PANEL):
                put_number(target + 4 * (p * PANEL + j), np.float32(0))


@_inner
def _tiles_of(m):
    return -(-m // ROWS)


@_inner
def _pack_rows(a, a_row, a_step, target, m, depth):
    """A block of A in another order, that the tiles read without two rows falling on the same lines of L1.

    A transposed block becomes panels of as many rows as a tile has. Other rows are copied to rows of an odd number of
    lines. Either has space in ``m`` + 1 rows of ``row_space(depth)``.
    """
    if a_row == 1:
        tiles = _tiles_of(m)
        for t in range(tiles):
            first = t * m // tiles
            rows = (t + 1) * m // tiles - first
            for p in range(depth):
                move(a + 4 * (first + p * a_step), target + 4 * (first * depth + p * rows), rows)
    else:
        space = row_space(depth)
        for i in range(m):
            for p in range(0, depth, LANES):
                move(a + 4 * (i * a_row + p), target + 4 * (i * space + p), depth - p)


@_inner
def row_space(depth):
    """Floats of a row of ``depth`` that takes an odd number of lines."""
    return (-(-depth // LINE) | 1) * LINE


@_inner
def multiply_part(a, a_row, a_step, b, b_step, b_column, packed, seed, seed_row, c, c_row, m, n, k, step):
    """``c = seed + a b`` in blocks of sums of depth ``step``; ``seed`` as for ``tile``.

    ``packed``: B is already in blocks of sums, those in panels, and the panels in ``step`` rows of PANEL each; its
    strides do not matter. Else its panels are packed one after another where they cannot be read in place.
    """
    panels = -(-n // PANEL)
    height = -(-m // max(1, -(-m // HEIGHT)))
    lying = a_row == 1 and a_step != 1
    in_place = not lying and (a_step != 1 or a_row % (2 * LINE) == LINE or n < 3 * PANEL or m == 1)
    if lying and (n <= PANEL or m == 1):
        lying, in_place = False, True
    b_in_place = b_column == 1 and not packed and (m <= 2 * ROWS or k * b_step <= 4096)
    a_scratch = np.empty(LINE if in_place else (height + 1) * row_space(step) + 2 * LINE, np.float32)
    b_scratch = np.empty(LINE if packed else (step + LANES) * PANEL + LINE, np.float32)
    a_space, b_space = aligned(a_scratch), aligned(b_scratch)
    for top in range(0, m, height):
        rows = min(height, m - top)
        tiles = _tiles_of(rows)
        for first in range(0, max(k, 1), step):
            depth = min(step, k - first)
            a_block, row, across = a + 4 * (top * a_row + first * a_step), a_row, a_step
            if not in_place:
                _pack_rows(a_block, a_row, a_step, a_space, rows, depth)
                a_block, row, across = a_space, row_space(depth), 1
            for panel in range(panels):
                j = panel * PANEL
                columns = min(PANEL, n - j)
                right, right_step = b + 4 * (first * b_step + j * b_column), b_step
                if packed:
                    right, right_step = b + 4 * (first * panels + panel * depth) * PANEL, PANEL
                elif not b_in_place or columns < PANEL:
                    pack_panel(right, b_step, b_column, b_space, depth, columns)
                    right, right_step = b_space, PANEL
                start, start_row = seed + 4 * (top * seed_row + j), seed_row
                if first > 0:
                    start, start_row = c + 4 * (top * c_row + j), c_row
                elif seed == 0:
                    start, start_row = 0, 0
                i = 0
                for t in range(tiles):
                    count = (t + 1) * rows // tiles - i
                    left = a_block + 4 * i * row
                    left_row, left_step = row, across
                    if lying:
                        left, left_row, left_step = a_block + 4 * i * depth, 1, count
                    tile(
                        left, left_row, left_step, right, right_step, start + 4 * i * start_row, start_row,
                        c + 4 * ((top + i) * c_row + j), c_row, count, columns, depth,
                    )  # fmt: skip
                    i += count
    if c == 0:  # never: but while the scratch arrays are named below their last address, Numba does not free them
        a_scratch[0] = b_scratch[0]


@_inner
def gemm_serial(a, a_row, a_step, b, b_step, b_column, c, c_row, m, n, k, accumulate):
    """``c`` (m, n) = or += ``a`` (m, k) times ``b`` (k, n); see the top of this file."""
    if accumulate:
        multiply_part(
            a, a_row, a_step, b, b_step, b_column, False, c, c_row, c, c_row, m, n, k, depth_of_blocks(k)
        )
    else:
        multiply_part(a, a_row, a_step, b, b_step, b_column, False, 0, 0, c, c_row, m, n, k, depth_of_blocks(k))
