"""Products with units that are on or off: sums of the rows of a matrix whose unit is on, added up in registers.

In the layers of a Boltzmann machine one factor holds zeros and ones, and mostly zeros: of the pixels of handwritten
digits one in eight is on. A product multiplies by all of them. Here the units that are on are listed first, and each
row of the result adds up the rows of the other factor that its list names, a panel of columns at a time, of which a
block is near meanwhile.

The order of a sum depends on its list alone, so not on threads or strides. What a zero would multiply is not looked at:
a NaN there does not show.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import float32, int32, int64, types
from numba.extending import intrinsic

from ..numba_config import prange, specialise
from ..simd import INT, _broadcast
from . import cpu
from .drivers import scratch
from .gemm import AREA, PRIVATE, VERSION, _inner, _pack_panel, aligned
from .tile import (
    _I32,
    _VECTOR,
    LANES,
    PANEL,
    WIDTH,
    _at,
    _intrinsic,
    _live,
    _load,
    _store,
    move,
    number_at,
    put_number,
    turn,
)

DEEPEST = 400  # rows of a block of a panel, which is about what L1 holds; blocks of 112 to 800 differ by few percent
TOGETHER = 4  # units of a list that are added at once, to sums of their own
MOST_ON = 0.35  # share of the units; where more are on, to multiply by all of them is as quick
LEAST, MOST = 1 << 20, 1 << 22  # multiplications that pay for lists; units whose lists stay in a cache
LEAST_COLUMNS = 4 * PANEL
TALLEST = (
    AREA - (DEEPEST + LANES) * PANEL
) // PANEL  # rows of a panel of the result that are kept until they are turned
_ODD = 32  # the bit that tells of a number that is neither 0 nor 1
_ZEROS = np.zeros(PANEL, np.float32)
_WORDS, _BITS = ir.VectorType(_I32, LANES), ir.IntType(LANES)


@intrinsic
def _list_some(typing, source, count, first, target):
    """List which of up to ``LANES`` numbers are 1: ``first`` plus their places, int32 at ``target``.

    Returns how many, plus 2^_ODD if any number is neither 0 nor 1.
    """

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        source, count, first, target = values
        x = _load(builder, builder.inttoptr(source, _VECTOR.as_pointer()), _live(builder, count))
        on = builder.fcmp_ordered("==", x, _VECTOR([1.0] * LANES))
        either = builder.or_(on, builder.fcmp_ordered("==", x, _VECTOR([0.0] * LANES)))
        places = builder.add(_broadcast(builder, builder.trunc(first, _I32), _WORDS), _WORDS(list(range(LANES))))
        name = f"llvm.masked.compressstore.v{LANES}i32"
        put = _intrinsic(builder, name, ir.VoidType(), [_WORDS, _I32.as_pointer(), on.type])
        builder.call(put, [places, builder.inttoptr(target, _I32.as_pointer()), on])
        found = builder.zext(builder.ctpop(builder.bitcast(on, _BITS)), INT)
        odd = builder.icmp_unsigned("!=", builder.bitcast(either, _BITS), _BITS(2**LANES - 1))
        return builder.or_(found, builder.shl(builder.zext(odd, INT), INT(_ODD)))

    return types.int64(*[types.int64] * 4), emit


@intrinsic
def _add_rows(typing, units, count, panel, seed, c, columns):
    """``c[j]`` = ``seed[j]`` + the sum of ``panel[u PANEL + j]`` over the ``count`` units u of a list, j < ``columns``.

    All addresses; ``count`` is a multiple of ``TOGETHER``.
    """

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        units, count, panel, seed, c, columns = values
        units, panel, seed, c = (builder.inttoptr(v, ir.IntType(8).as_pointer()) for v in (units, panel, seed, c))
        places = [(i, j) for i in range(TOGETHER) for j in range(WIDTH.vectors)]
        zero = _VECTOR([0.0] * LANES)
        before, body = builder.block, builder.append_basic_block("units.body")
        after = builder.append_basic_block("units.after")
        builder.cbranch(builder.icmp_signed(">", count, INT(0)), body, after)

        builder.position_at_end(body)
        t = builder.phi(INT)
        sums = [builder.phi(_VECTOR) for _ in places]
        pairs = [_at(builder, units, builder.shl(builder.add(t, INT(i)), INT(2)), INT) for i in range(0, TOGETHER, 2)]
        pairs = [builder.load(pair, align=4) for pair in pairs]  # of numbers of 32 bits: half as many loads
        here = [half for pair in pairs for half in (builder.and_(pair, INT(2**32 - 1)), builder.lshr(pair, INT(32)))]
        rows = [builder.mul(unit, INT(4 * PANEL)) for unit in here]
        lines = [_at(builder, panel, builder.add(rows[i], INT(4 * LANES * j)), _VECTOR) for i, j in places]
        nexts = [builder.fadd(total, _load(builder, line)) for total, line in zip(sums, lines)]
        following = builder.add(t, INT(TOGETHER))
        builder.cbranch(builder.icmp_signed("<", following, count), body, after)
        for phi, value in zip((t, *sums), (following, *nexts)):
            phi.add_incoming(INT(0) if phi is t else zero, before)
            phi.add_incoming(value, body)

        builder.position_at_end(after)
        totals = [builder.phi(_VECTOR) for _ in places]
        for phi, value in zip(totals, nexts):
            phi.add_incoming(zero, before)
            phi.add_incoming(value, body)
        for j in range(WIDTH.vectors):
            parts = totals[j :: WIDTH.vectors]
            while len(parts) > 1:
                parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2])]
            offset, mask = INT(4 * LANES * j), _live(builder, builder.sub(columns, INT(j * LANES)))
            begin = _load(builder, _at(builder, seed, offset, _VECTOR), mask)
            _store(builder, builder.fadd(begin, parts[0]), _at(builder, c, offset, _VECTOR), mask)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), emit


# --- lists


class Lists(NamedTuple):
    """Of each row of units, in blocks of ``depth``, which are on: places in the block [rows, blocks, depth + TOGETHER],
    and how many [rows, blocks], up to a multiple of ``TOGETHER`` by the place ``depth``, where nothing is added."""

    places: np.ndarray
    counts: np.ndarray


@_inner
def _list_row(row, k, places, counts):
    """Returns how many units of the ``k`` at address ``row`` are on, or more than 2^_ODD if some are no units."""
    total, depth = 0, places.shape[1] - TOGETHER
    for p in range(counts.size):
        on = 0
        for i in range(p * depth, min(k, (p + 1) * depth), LANES):
            found = _list_some(row + 4 * i, k - i, i - p * depth, places[p].ctypes.data + 4 * on)
            total += found
            on += found & 255
        while on % TOGETHER != 0:
            places[p, on] = depth
            on += 1
        counts[p] = on
    return total


@_inner
def _list_some_rows(v, turned, first, places, counts, totals):
    """Up to ``LANES`` rows from the ``first`` on; of the transpose of ``v``, if ``turned``."""
    rows, row, start, k = counts.shape[0] - first, v.strides[0] // 4, v.ctypes.data, v.shape[1]
    count = min(LANES, rows)
    if turned:
        k = v.shape[0]
        space = np.empty(LANES * (k + LANES), np.float32)
        for r in range(0, k, LANES):
            turn(start + 4 * (r * row + first), row, space.ctypes.data + 4 * r, k + LANES, k - r, rows)
        start, row = space.ctypes.data - 4 * first * (k + LANES), k + LANES
        space[0] += 0  # Numba frees an array after the last line that names it
    for r in range(first, first + count):
        totals[r] = _list_row(start + 4 * r * row, k, places[r], counts[r])


def _list_all(v, turned, places, counts, totals):
    for part in prange(-(-counts.shape[0] // LANES)):
        _list_some_rows(v, turned, part * LANES, places, counts, totals)


# --- sums


@_inner
def _turn_panel(source, target, target_row, rows, columns):
    """``target[j target_row + i] = source[i PANEL + j]``, whole vectors each way where there are."""
    for i in range(0, rows, LANES):
        for j in range(0, columns, LANES):
            if i + LANES <= rows and j + LANES <= columns:
                place = target + 4 * (j * target_row + i)
                turn(source + 4 * (i * PANEL + j), PANEL, place, target_row, LANES, LANES)
            else:
                for y in range(i, min(i + LANES, rows)):
                    for x in range(j, min(j + LANES, columns)):
                        put_number(target + 4 * (x * target_row + y), number_at(source + 4 * (y * PANEL + x)))


@_inner
def _panel(places, counts, top, bottom, b, first, seed, c, turned, space):
    """The ``PANEL`` columns of the result from the ``first`` on, of rows ``top`` to ``bottom``."""
    b_step, b_column, c_row = b.strides[0] // 4, b.strides[1] // 4, c.strides[0] // 4
    columns, depth = min(PANEL, b.shape[1] - first), places.shape[2] - TOGETHER
    kept = space + 4 * (DEEPEST + LANES) * PANEL
    into, row = c.ctypes.data + 4 * (top * c_row + first), c_row
    if turned:
        into, row = kept, PANEL
    for p in range(counts.shape[1]):
        here = b.ctypes.data + 4 * (p * depth * b_step + first * b_column)
        _pack_panel(here, b_step, b_column, space, min(depth, b.shape[0] - p * depth), columns)
        for j in range(0, PANEL, LANES):
            move(_ZEROS.ctypes.data, space + 4 * (depth * PANEL + j), LANES)
        for r in range(top, bottom):
            target = into + 4 * (r - top) * row
            start = seed.ctypes.data + 4 * first if seed.size > 0 else _ZEROS.ctypes.data
            if p > 0:
                start = target
            _add_rows(places[r, p].ctypes.data, counts[r, p], space, start, target, columns)
    if turned:
        _turn_panel(kept, c.ctypes.data + 4 * (first * c_row + top), c_row, bottom - top, columns)


def _sums(places, counts, b, seed, c, turned, scratch, threads):
    panels, rows = -(-b.shape[1] // PANEL), counts.shape[0]
    parts = max(-(-threads // panels), -(-rows // TALLEST))
    private = aligned(scratch)
    for t in prange(threads):
        for item in range(t * panels * parts // threads, (t + 1) * panels * parts // threads):
            j, part = item // parts, item % parts
            top, bottom = part * rows // parts, (part + 1) * rows // parts
            _panel(places, counts, top, bottom, b, j * PANEL, seed, c, turned, private + 4 * t * PRIVATE)


# --- compiled on first use, for arrays of any strides


def _array(kind: Any, ndim: int, layout: str, readonly: bool = False) -> Any:
    return types.Array(kind, ndim, layout, readonly=readonly)


_LISTS = _array(int32, 3, "C"), _array(int64, 2, "C")


def _compiled(body: Any, parallel: bool, *arguments: Any) -> Any:
    variant = f"{'parallel' if parallel else 'serial'}_{VERSION}"
    function = specialise(body, variant, {}, parallel=parallel, error_model="numpy")
    function.compile(types.void(*arguments))
    function.disable_compile()
    return function


@cache
def _lister(parallel: bool) -> Any:
    return _compiled(_list_all, parallel, _array(float32, 2, "A", True), types.boolean, *_LISTS, _array(int64, 1, "C"))


@cache
def _adder(parallel: bool) -> Any:
    matrix, row = _array(float32, 2, "A", True), _array(float32, 1, "C", True)
    others = _array(float32, 2, "A"), types.boolean, _array(float32, 1, "A"), int64
    return _compiled(_sums, parallel, *_LISTS, matrix, row, *others)


# --- what kernels call


def lists_of(v: np.ndarray, columns: int, turned: bool = False) -> Lists | None:
    """Lists of the units ``v`` (rows, k), its rows contiguous, for a product with ``columns`` columns; or None.

    ``turned``: of the transpose of ``v``. None if they would not pay, whatever the number of threads: ``v`` is small or
    very large, too many units are on, or some number is neither 0 nor 1.
    """
    if v.size * columns < LEAST or v.size > MOST or columns < LEAST_COLUMNS:
        return None
    rows, k = v.T.shape if turned else v.shape
    blocks = -(-k // DEEPEST)
    depth = -(-k // (blocks * LANES)) * LANES
    places, counts = np.empty((rows, blocks, depth + TOGETHER), np.int32), np.empty((rows, blocks), np.int64)
    totals = np.empty(rows, np.int64)
    _lister(numba.get_num_threads() > 1)(v, turned, places, counts, totals)
    return Lists(places, counts) if int(totals.sum()) <= MOST_ON * v.size else None


def add_up(lists: Lists, b: np.ndarray, c: np.ndarray, seed: np.ndarray = _ZEROS[:0], turned: bool = False) -> None:
    """``c = seed + v b`` for the units ``v`` listed, ``seed`` one row for all; or its transpose, if ``turned``.

    ``b`` has any strides; rows of ``c`` and ``seed`` are contiguous.
    """
    threads = numba.get_num_threads()
    _adder(threads > 1)(*lists, b, seed, c, turned, scratch(threads), threads)


def linear(v: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """``v weight' + bias`` for units ``v`` [rows, k] and ``weight`` [n, k], by lists of the units if they pay."""
    lists = lists_of(v, len(weight))
    if lists is None:
        return cpu.linear(v, weight, bias)
    c = np.empty((len(v), len(weight)), np.float32)
    add_up(lists, weight.T, c, bias)
    return c
