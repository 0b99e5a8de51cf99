"""A packed product of float32 matrices in Numba, on raw addresses: what runs on one thread.

    gemm_serial(a, a_row, a_step, b, b_step, b_column, c, c_row, m, n, k, accumulate)

        c[i c_row + j]  (+)=  sum over p < k of  a[i a_row + p a_step] * b[p b_step + j b_column]

can be called inside any njit function, for all i < m and j < n. ``a``, ``b`` and ``c`` are addresses (int64, from
``array.ctypes.data``) of float32; strides are in elements and may be anything, zero and negative included, so a
transposed operand is the same call with its strides exchanged. Rows of ``c`` are contiguous. It allocates what it
needs (at most some 500 KB) and frees it.

The order of the sums depends on ``k`` alone: blocks of at most ``DEPTH`` are added up one after another in registers,
and the blocks' sums are added. So the bits of a result do not depend on how the work is dealt out, or on strides.

How it is arranged, after Goto and van de Geijn (2008): a block of A (at most ``AREA``) stays in the L2
cache while all of B passes by, in panels of ``PANEL`` columns that stay in L1 while all tiles of rows pass by.

All this is compiled once, as a C function: what calls it only refers to it by name, and compiles quickly.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from llvmlite import binding
from numba import carray, cfunc, types

from ..numba_config import njit, renamed
from .tile import LANES, PANEL, ROWS, floats_at, move, number_at, put_number, tile, turn

DEPTH = 256  # of a block of sums: a panel of B takes 32 KB of L1
AREA = 448 * DEPTH  # of a block of A: 448 KB of L2
LINE = 16  # floats in a line of the cache
PAGE = 1024  # floats; rows so far apart compete for the same places in L1
_ZEROS = np.zeros(PANEL, np.float32)

_TILE = f"{LANES}_" + hashlib.sha256(Path(__file__).with_name("tile.py").read_bytes()).hexdigest()[:8]


def _inner(body):
    return njit(renamed(body, _TILE), cache=True, nogil=True, error_model="numpy")


@_inner
def depth_of_blocks(k):
    """The depth of a block of sums: all blocks of a product are about equal, and of whole lines."""
    blocks = max(1, -(-k // DEPTH))
    return max(1, -(-k // (blocks * LINE))) * LINE


@_inner
def aligned(scratch):
    """The first address within an array of float32 that begins a line of the cache; it must have a line to spare."""
    return (scratch.ctypes.data + 63) // 64 * 64


@_inner
def blocks_of_rows(m, step):
    """The number of blocks of A in a product of this many rows: for each of them all of B is packed once."""
    return max(1, -(-m // (AREA // step)))


@_inner
def _pack_panel(b, b_step, b_column, target, depth, columns):
    """Up to PANEL columns of B to rows of PANEL at ``target``; there must be space for a depth of whole lines."""
    if b_column == 1:
        for p in range(depth):
            for j in range(0, PANEL, LANES):
                move(b + 4 * (p * b_step + j), target + 4 * (p * PANEL + j), columns - j)
    elif b_step == 1:
        for j in range(0, PANEL, LANES):
            inside = min(j, (columns - 1) // LANES * LANES)  # beyond the last column, anything that is a number
            for p in range(0, depth, LANES):
                source = b + 4 * (inside * b_column + p)
                turn(source, b_column, target + 4 * (p * PANEL + j), PANEL, columns - inside, depth - p)
    else:
        for p in range(depth):
            for j in range(PANEL):
                inside = min(j, columns - 1)
                put_number(target + 4 * (p * PANEL + j), number_at(b + 4 * (p * b_step + inside * b_column)))


@_inner
def _row_space(depth):
    """Floats of a row of ``depth`` that takes an odd number of lines."""
    return (-(-depth // LINE) | 1) * LINE


@_inner
def _pack_tile(a, a_row, a_step, target, rows, depth):
    """What a tile reads of A, in an order in which it takes the fewest lines, and not always the same ones, of L1.

    Of a transposed A the rows lie side by side; others are copied to rows of an odd number of lines.
    """
    if a_row == 1:
        for p in range(depth):
            for i in range(0, rows, LANES):
                move(a + 4 * (p * a_step + i), target + 4 * (p * rows + i), rows - i)
    else:
        for i in range(rows):
            for p in range(0, depth, LANES):
                move(a + 4 * (i * a_row + p), target + 4 * (i * _row_space(depth) + p), depth - p)


@_inner
def _add_columns(g, g_row, rows, totals, partial):
    """Add the sums of the columns of a block of rows to ``totals``."""
    partial[:] = np.float32(0)
    whole = rows // 4 * 4
    columns = partial.size
    for p in range(0, whole, 4):
        g0 = carray(floats_at(g + 4 * p * g_row), columns)
        g1 = carray(floats_at(g + 4 * (p + 1) * g_row), columns)
        g2 = carray(floats_at(g + 4 * (p + 2) * g_row), columns)
        g3 = carray(floats_at(g + 4 * (p + 3) * g_row), columns)
        for j in range(columns):
            partial[j] += (g0[j] + g1[j]) + (g2[j] + g3[j])
    for p in range(whole, rows):
        g0 = carray(floats_at(g + 4 * p * g_row), columns)
        for j in range(columns):
            partial[j] += g0[j]
    into = carray(floats_at(totals), columns)
    for j in range(columns):
        into[j] += partial[j]


def _multiply_part(
    a, a_row, a_step, b, b_step, b_column, seed, seed_row, sums, c, c_row, m, n, k, step, space
):  # fmt: skip
    panels = -(-n // PANEL)
    height = max(1, -(-m // blocks_of_rows(m, step)))
    lying = a_row == 1 and a_step != 1 and n > PANEL and m > 1
    copied = a_step == 1 and a_row % PAGE == 0 and n > 3 * PANEL and m > 1
    b_in_place = b_column == 1 and (m <= 2 * ROWS or k * b_step <= 4096)
    b_size = step * PANEL
    a_size = (height + 1) * _row_space(step) + LINE if lying or copied else 0
    scratch = np.empty(a_size + b_size + LINE if space == 0 else 1, np.float32)
    b_space = aligned(scratch) if space == 0 else space
    a_space = b_space + 4 * b_size
    partial = np.empty(height if sums != 0 else 0, np.float32)
    for top in range(0, m, height):
        rows = min(height, m - top)
        tiles = -(-rows // ROWS)
        for first in range(0, max(k, 1), step):
            depth = min(step, k - first)
            a_block = a + 4 * (top * a_row + first * a_step)
            if sums != 0:
                _add_columns(a_block, a_step, depth, sums + 4 * top, partial[:rows])
            for panel in range(panels):
                j = panel * PANEL
                columns = min(PANEL, n - j)
                right, right_step = b + 4 * (first * b_step + j * b_column), b_step
                if not b_in_place or columns < PANEL:
                    _pack_panel(right, b_step, b_column, b_space, depth, columns)
                    right, right_step = b_space, PANEL
                start, start_row = seed + 4 * (top * seed_row + j), seed_row
                if first > 0:
                    start, start_row = c + 4 * (top * c_row + j), c_row
                elif seed == 0:
                    start, start_row = _ZEROS.ctypes.data, 0
                i = 0
                for t in range(tiles):
                    count = (t + 1) * rows // tiles - i
                    left, left_row, left_step = a_block + 4 * i * a_row, a_row, a_step
                    ahead, ahead_step = 0, 0  # what is packed next, unless it lies as the processor expects
                    if lying and panel == 0:
                        ahead, ahead_step = left + 4 * min(2 * ROWS - 1, rows - i - 1), a_step
                    elif b_column == 1 and t < 2 and panel + 1 < panels:
                        ahead, ahead_step = b + 4 * (first * b_step + min(j + PANEL + t * LINE, n - 1)), b_step
                    if lying or copied:
                        kept = a_space + 4 * i * (depth if lying else _row_space(depth))
                        if panel == 0:
                            _pack_tile(left, a_row, a_step, kept, count, depth)
                        left, left_row, left_step = kept, 1 if lying else _row_space(depth), count if lying else 1
                    tile(
                        left, left_row, left_step, right, right_step, start + 4 * i * start_row, start_row,
                        c + 4 * ((top + i) * c_row + j), c_row, count, columns, depth,
                        ahead, ahead_step,
                    )  # fmt: skip
                    i += count
    if c == 0:  # never; but Numba frees an array after the last line that names it, whoever has its address
        scratch[0] = 0


PRIVATE = DEPTH * PANEL + 2 * AREA + 64 * LINE
_SIGNATURE = types.void(*[types.int64] * 16)
_NAME = f"scratchgen_multiply_{len(_SIGNATURE.args)}"  # another signature is another function
_compiled = cfunc(_SIGNATURE, cache=True, error_model="numpy")(renamed(_multiply_part, _TILE))
binding.add_symbol(_NAME, _compiled.address)

multiply_part = types.ExternalFunction(_NAME, _SIGNATURE)
"""``c = seed + a b`` on one thread: (a, a_row, a_step, b, b_step, b_column, seed, seed_row, sums, c, c_row,
m, n, k, step, space), for njit code.

``step`` is ``depth_of_blocks`` of the whole product's depth; ``seed`` as for ``tile``, or 0 for none.
``sums``, if it is not 0, is the address of ``m`` numbers to which the row sums of ``a`` are added; ``a_row`` must be 1.
``space``: ``PRIVATE`` floats to work in, from the beginning of a line; with 0 it is allocated, and costs page faults.
"""


@_inner
def gemm_serial(a, a_row, a_step, b, b_step, b_column, c, c_row, m, n, k, accumulate):
    """``c`` (m, n) = or += ``a`` (m, k) times ``b`` (k, n); see the top of this file."""
    seed, step = (c if accumulate else 0), depth_of_blocks(k)
    multiply_part(a, a_row, a_step, b, b_step, b_column, seed, c_row, 0, c, c_row, m, n, k, step, 0)
