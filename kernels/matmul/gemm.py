"""A packed product of float32 matrices in Numba, on raw addresses: what runs on one thread.

    gemm_serial(a, a_row, a_step, b, b_step, b_column, c, c_row, m, n, k, accumulate)

        c[i c_row + j]  (+)=  sum over p < k of  a[i a_row + p a_step] * b[p b_step + j b_column]

can be called inside any njit function, for all i < m and j < n. ``a``, ``b`` and ``c`` are addresses (int64, from
``array.ctypes.data``) of float32; strides are in elements and may be anything, zero and negative included, so a
transposed operand is the same call with its strides exchanged. Rows of ``c`` are contiguous. It allocates what it
needs (some 1.4 MB) and frees it.

The order of the sums depends on ``k`` alone: blocks of at most ``DEPTH`` are added up one after another in registers,
and the blocks' sums are added. So the bits of a result do not depend on how the work is dealt out, or on strides.

How it is arranged: a block of B (at most ``AREA``) is packed once, in panels of ``PANEL`` columns, and stays in the L2
cache while all of A passes by in groups of ``TILES`` tiles. That is the order of Goto and van de Geijn (2008) with A
and B exchanged, since in the products of models A is the long one. A tile's share of A stays in L1. What lies beyond
L2, the lines of C and the next group of A, is asked for a little at a time while a tile is multiplied.

All this is compiled once, as a C function: what calls it only refers to it by name, and compiles quickly.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from llvmlite import binding
from numba import carray, cfunc, types

from ..numba_config import njit, renamed
from .tile import ASKED, LANES, PANEL, ROWS, floats_at, move, number_at, put_number, tile, turn

DEPTH = 512  # of a block of sums
AREA = 512 * DEPTH  # of a block of B: 1 MB of L2
TILES = 4  # of a group of A
HEIGHT = 8 * ROWS  # rows that go through a product and what follows it together
LINE = 16  # floats in a line of the cache
FAR = 1 << 18  # floats: a factor or a result from 1 MB on does not stay in L2
TINY, SPREAD, FEW_ROWS = 1 << 12, 5 << 16, 60 * ROWS  # of B in place: up to 1.25 MB with its gaps, which L2 holds
PAGE = 1024  # floats; rows so far apart compete for the same places in L1
_ZEROS = np.zeros(PANEL, np.float32)


# Numba's disk cache looks only at the file of the function that it caches: names tell the version of what it calls.
def _hash(*names: str) -> str:
    return hashlib.sha256(b"".join(Path(__file__).with_name(name).read_bytes() for name in names)).hexdigest()[:8]


_TILE = f"{LANES}_" + _hash("tile.py")
VERSION = f"{LANES}_" + _hash("tile.py", "gemm.py")


def _inner(body):
    return njit(renamed(body, VERSION), cache=True, nogil=True, error_model="numpy")


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
def columns_of_block(step):
    """How many columns of B are packed at once."""
    return max(1, AREA // (step * PANEL)) * PANEL


@_inner
def parts(size, most):
    """Into how many parts of at most ``most`` to divide; one at least."""
    return max(1, -(-size // most))


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
def _pack_block(b, b_step, b_column, target, size, depth, n):
    """A block of B in panels ``size`` numbers apart; row by row where rows are contiguous, as processors fetch."""
    if b_column == 1:
        for p in range(depth):
            for j in range(0, -(-n // PANEL) * PANEL, LANES):
                panel = j // PANEL
                place = panel * size + p * PANEL + j - panel * PANEL
                move(b + 4 * (p * b_step + j), target + 4 * place, n - j)
    else:
        for j in range(0, n, PANEL):
            place = target + 4 * (j // PANEL * size)
            _pack_panel(b + 4 * j * b_column, b_step, b_column, place, depth, min(PANEL, n - j))


@_inner
def _row_space(depth):
    """Floats of a row of ``depth`` that takes an odd number of lines."""
    return (-(-depth // LINE) | 1) * LINE


@_inner
def _pays_in_place(rows, spread):
    """Whether to read B where it lies: for so many rows of A, and that many floats from its first row to its last."""
    return rows <= 2 * ROWS or spread <= TINY or (rows <= FEW_ROWS and spread <= SPREAD)


@_inner
def _tile_space(depth):
    """Floats of a tile of a transposed A; as vectors are written whole, what follows the last row is not kept."""
    return ROWS * depth + LANES


@_inner
def _pack_rows(a, a_row, target, rows, depth):
    """A group of A, its rows copied to rows of an odd number of lines, which do not compete for places in L1."""
    for i in range(rows):
        for p in range(0, depth, LANES):
            move(a + 4 * (i * a_row + p), target + 4 * (i * _row_space(depth) + p), depth - p)


@_inner
def _pack_columns(a, a_step, target, first, last, m, tiles, depth):
    """The tiles of a group of a transposed A, so that the rows of each lie side by side.

    A few steps of the depth for all tiles, then the next: each step is in other pages of memory.
    """
    low = first * m // tiles
    for top in range(0, depth, LINE):
        i = low
        for t in range(first, last):
            count = (t + 1) * m // tiles - i
            place = target + 4 * (t - first) * _tile_space(depth)
            for p in range(top, min(depth, top + LINE)):
                for r in range(0, count, LANES):
                    move(a + 4 * (p * a_step + i - low + r), place + 4 * (p * count + r), count - r)
            i += count


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


@_inner
def _share_of_next(following, a_row, a_step, here, row, rows, depth, panel, tile, tiles):
    """What a tile asks for of the group of A that is multiplied next: the address of its first lines, and a stride.

    The ``tiles`` of a group share this out, panel by panel, each for ``ROWS`` rows of memory. Nothing left: ``here``.
    """
    if a_step == 1 and ASKED * LINE * panel < depth:
        return following + 4 * (row * a_row + ASKED * LINE * panel), a_row
    if a_row == 1:
        across = parts(rows, ASKED * LINE)
        down, right = divmod(panel * tiles + tile, across)
        if down * ROWS < depth:
            return following + 4 * (down * ROWS * a_step + ASKED * LINE * right), a_step
    return here, 0


def _multiply_block(
    a, a_row, a_step, below, b, b_step, b_column, ready, seed, seed_row, sums, c, c_row, m, n, depth, space
):  # fmt: skip
    lying = a_row == 1 and a_step != 1 and n > PANEL and m > 1
    copied = a_step == 1 and a_row % PAGE == 0 and n > 3 * PANEL and m > 1
    size = -(-depth // LINE) * LINE * PANEL
    whole = 0  # columns of B that are read where they lie
    if b_column == 1 and ready == 0 and _pays_in_place(m + below, depth * b_step):
        whole = n // PANEL * PANEL
    if ready == 0:
        place = space + 4 * (whole // PANEL * size)
        _pack_block(b + 4 * whole * b_column, b_step, b_column, place, size, depth, n - whole)
    a_space = space + 4 * AREA
    every = depth  # steps between two requests
    if depth >= 8 * ROWS and (lying or (m + below) * max(c_row, depth) >= FAR):
        every = depth // ROWS
    partial = np.empty(TILES * ROWS if sums != 0 else 0, np.float32)
    tiles, low = parts(m, ROWS), 0
    for first in range(0, tiles, TILES):
        last = min(tiles, first + TILES)
        high = last * m // tiles
        rows = high - low
        following = a + 4 * (high * a_row if last < tiles else depth * a_step)  # after the last, the next block
        if sums != 0:
            _add_columns(a + 4 * low * a_row, a_step, depth, sums + 4 * low, partial[:rows])
        if lying:
            _pack_columns(a + 4 * low, a_step, a_space, first, last, m, tiles, depth)
        elif copied:
            _pack_rows(a + 4 * low * a_row, a_row, a_space, rows, depth)
        for j in range(0, n, PANEL):
            right, right_step = space + 4 * (j // PANEL * size), PANEL
            if j < whole:
                right, right_step = b + 4 * j, b_step
            i = low
            for t in range(first, last):
                count = (t + 1) * m // tiles - i
                left, left_row, left_step = a + 4 * i * a_row, a_row, a_step
                if lying:
                    left, left_step = a_space + 4 * (t - first) * _tile_space(depth), count
                elif copied:
                    left, left_row = a_space + 4 * (i - low) * _row_space(depth), _row_space(depth)
                start, start_row = seed + 4 * (i * seed_row + j), seed_row
                if seed == 0:
                    start, start_row = _ZEROS.ctypes.data, 0
                next_a, next_row = left, 0
                if every < depth:
                    next_a, next_row = _share_of_next(
                        following, a_row, a_step, left, i - low, rows, depth, j // PANEL, t - first, last - first
                    )
                tile(
                    left, left_row, left_step, right, right_step, start, start_row, c + 4 * (i * c_row + j), c_row,
                    count, min(PANEL, n - j), depth, every, next_a, next_row,
                )  # fmt: skip
                i += count
        low = high


PRIVATE = AREA + DEPTH * PANEL + (HEIGHT + 1) * (DEPTH + 2 * LINE) + 64 * LINE
_SIGNATURE = types.void(*[types.int64] * 17)
_NAME = f"scratchgen_multiply_{len(_SIGNATURE.args)}"  # another signature is another function
_compiled = cfunc(_SIGNATURE, cache=True, error_model="numpy")(renamed(_multiply_block, VERSION))
binding.add_symbol(_NAME, _compiled.address)

multiply_block = types.ExternalFunction(_NAME, _SIGNATURE)
"""``c = seed + a b`` of one block of B, on one thread: (a, a_row, a_step, below, b, b_step, b_column, ready, seed,
seed_row, sums, c, c_row, m, n, depth, space), for njit code.

``depth`` is at most ``depth_of_blocks`` of the whole product's, ``n`` at most ``columns_of_block`` of that; ``seed`` as
for ``tile``, or 0 for none. ``below``: how many rows follow after these ``m``, in the next call. ``ready``: the
block of B is in ``space`` from a call before. ``sums``, if it is not 0, is the address of ``m`` numbers to which the
row sums of ``a`` are added; ``a_row`` must be 1. ``space``: ``PRIVATE`` floats from the beginning of a line.
"""


@_inner
def multiply_part(a, a_row, a_step, b, b_step, b_column, seed, seed_row, c, c_row, m, n, k, space):
    """``c`` (m, n) = ``seed`` + ``a`` (m, k) times ``b`` (k, n) on one thread, block by block."""
    step = depth_of_blocks(k)
    width = columns_of_block(step)
    for j in range(0, n, width):
        for p in range(0, max(k, 1), step):
            start, start_row = seed + 4 * j if seed != 0 else 0, seed_row
            if p > 0:
                start, start_row = c + 4 * j, c_row
            multiply_block(
                a + 4 * p * a_step, a_row, a_step, 0, b + 4 * (p * b_step + j * b_column), b_step, b_column, 0,
                start, start_row, 0, c + 4 * j, c_row, m, min(width, n - j), min(step, k - p), space,
            )  # fmt: skip


@_inner
def gemm_serial(a, a_row, a_step, b, b_step, b_column, c, c_row, m, n, k, accumulate):
    """``c`` (m, n) = or += ``a`` (m, k) times ``b`` (k, n); see the top of this file."""
    scratch = np.empty(PRIVATE + LINE, np.float32)
    seed = c if accumulate else 0
    multiply_part(a, a_row, a_step, b, b_step, b_column, seed, c_row, c, c_row, m, n, k, aligned(scratch))
    scratch[0] = 0  # Numba frees an array after the last line that names it
