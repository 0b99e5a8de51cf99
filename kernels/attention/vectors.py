"""The steps of attention between its matrix products, on panels: explicit vectors, for Numba.

A *panel* is a block of scores as it lies in scratch memory: rows of ``vectors`` vectors side by side. Along the lanes
run queries in the forward pass and keys in the backward pass, so that what belongs to a query (its maximum, its sum)
or to a key is one lane of a vector, and nothing is ever added up across lanes.

All addresses are int64, of float32. Exponentials are of base 2: the factor log2(e) is part of the scaled queries.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

FLOAT, INT, BITS = ir.FloatType(), ir.IntType(64), ir.IntType(32)
LOWEST = -3.4028234663852886e38  # the lowest finite number, where a maximum starts: -inf - LOWEST is -inf, not NaN

_SMALLEST = -127.0  # 2^x is 0 from here down; float32 has normal numbers to -126
_ROUND = 12582912.0 + 127  # 1.5 * 2^23 + 127: x + _ROUND is x rounded, plus the exponent's bias, in its lowest bits
# (2^r - 1) / r through Chebyshev nodes of [-1/2, 1/2]; the polynomial's own error is 2e-8, and 2^0 is 1 exactly.
_POLYNOMIAL = (0.6931472, 0.2402265, 0.05550327, 0.009618057, 0.0013400428, 0.00015461445)


class Lanes:
    """An IR builder that knows the width of a vector: addresses, constants and 2^x."""

    def __init__(self, builder: ir.IRBuilder, lanes: int) -> None:
        self.ir = builder
        self.lanes = lanes
        self.vector = ir.VectorType(FLOAT, lanes)
        self.bits = ir.VectorType(BITS, lanes)
        self.fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(self.vector, [self.vector] * 3), f"llvm.fma.v{lanes}f32"
        )

    def constant(self, value: float) -> ir.Constant:
        return ir.Constant(self.vector, [value] * self.lanes)

    def place(self, base: ir.Value, row: ir.Value, floats: int, vector: int) -> ir.Value:
        """A pointer to a vector of row ``row`` (of so many ``floats``) at ``base``."""
        offset = self.ir.add(self.ir.mul(row, INT(4 * floats)), INT(4 * vector * self.lanes))
        return self.ir.inttoptr(self.ir.add(base, offset), self.vector.as_pointer())

    def load(self, base: ir.Value, row: ir.Value, floats: int, vector: int) -> ir.Value:
        return self.ir.load(self.place(base, row, floats, vector), align=4)

    def store(self, value: ir.Value, base: ir.Value, row: ir.Value, floats: int, vector: int) -> None:
        self.ir.store(value, self.place(base, row, floats, vector), align=4)

    def everywhere(self, base: ir.Value, index: ir.Value) -> ir.Value:
        """The number ``base[index]`` in all lanes."""
        address = self.ir.add(base, self.ir.mul(index, INT(4)))
        scalar = self.ir.load(self.ir.inttoptr(address, FLOAT.as_pointer()))
        undefined = ir.Constant(self.vector, ir.Undefined)
        zeros = ir.Constant(ir.VectorType(BITS, self.lanes), [0] * self.lanes)
        return self.ir.shuffle_vector(self.ir.insert_element(undefined, scalar, BITS(0)), undefined, zeros)

    def maximum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The larger; ``b`` where either is NaN."""
        return self.ir.select(self.ir.fcmp_ordered(">", a, b), a, b)

    def power_of_two(self, x: ir.Value) -> ir.Value:
        """``2^x`` for ``x`` up to 127, within 1.5 ulp; 0 below 2^-126; NaN of NaN."""
        x = self.maximum(self.constant(_SMALLEST), x)
        shifted = self.ir.fadd(x, self.constant(_ROUND))
        r = self.ir.fsub(x, self.ir.fsub(shifted, self.constant(_ROUND)))
        p = self.constant(_POLYNOMIAL[-1])
        for c in (*_POLYNOMIAL[-2::-1], 1.0):
            p = self.ir.call(self.fma, [p, r, self.constant(c)])
        exponent = self.ir.shl(self.ir.bitcast(shifted, self.bits), ir.Constant(self.bits, [23] * self.lanes))
        return self.ir.fmul(p, self.ir.bitcast(exponent, self.vector))

    def loop(self, count: ir.Value, start: list[ir.Value], body: Callable[[ir.Value, list], list]) -> list[ir.Value]:
        """Run ``body(k, carried) -> carried`` for k from 0 to ``count`` (at least once); returns what it carries."""
        before = self.ir.block
        inside, after = self.ir.append_basic_block("rows"), self.ir.append_basic_block("after")
        self.ir.branch(inside)
        self.ir.position_at_end(inside)
        k = self.ir.phi(INT)
        k.add_incoming(INT(0), before)
        carried = [self.ir.phi(value.type) for value in start]
        for phi, value in zip(carried, start):
            phi.add_incoming(value, before)
        made = body(k, carried)
        following = self.ir.add(k, INT(1))
        for phi, value in zip((k, *carried), (following, *made)):
            phi.add_incoming(value, self.ir.block)
        self.ir.cbranch(self.ir.icmp_signed("<", following, count), inside, after)
        self.ir.position_at_end(after)
        return made


@cache
def weigh(vectors: int, rows: int, lanes: int) -> Any:
    """An intrinsic for the softmax of one more block of keys, lanes being queries.

        step(scores, groups, top, total, change)

    ``scores``: a panel of ``groups * rows`` keys, at least one group (``rows`` a power of 2); each score becomes
    2^(score - top). ``top`` and ``total``, a row each, are the maximum and the sum so far, and are brought up to date;
    what was added up before is worth ``change`` = 2^(old top - top) of what it was.
    """
    signature = types.void(*[types.int64] * 5)
    width = vectors * lanes

    @intrinsic
    def step(typing, scores, groups, top, total, change):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            scores, groups, top, total, change = values
            lane = Lanes(builder, lanes)
            columns = range(vectors)

            def highest(group: ir.Value, tops: list) -> list:  # a tree, so that no maximum waits for all before it
                found = []
                for j in columns:
                    first = builder.mul(group, INT(rows))
                    level = [lane.load(scores, builder.add(first, INT(i)), width, j) for i in range(rows)]
                    while len(level) > 1:
                        level = [lane.maximum(a, b) for a, b in zip(level[::2], level[1::2])]
                    found.append(lane.maximum(level[0], tops[j]))
                return found

            old = [lane.load(top, INT(0), width, j) for j in columns]
            new = lane.loop(groups, old, highest)

            def powers(row: ir.Value, sums: list) -> list:
                made = []
                for j in columns:
                    weight = lane.power_of_two(builder.fsub(lane.load(scores, row, width, j), new[j]))
                    lane.store(weight, scores, row, width, j)
                    made.append(builder.fadd(sums[j], weight))
                return made

            count = builder.mul(groups, INT(rows))
            sums = lane.loop(count, [lane.constant(0.0)] * vectors, powers)
            for j in columns:
                worth = lane.power_of_two(builder.fsub(old[j], new[j]))
                before = lane.load(total, INT(0), width, j)
                lane.store(builder.call(lane.fma, [before, worth, sums[j]]), total, INT(0), width, j)
                lane.store(new[j], top, INT(0), width, j)
                lane.store(worth, change, INT(0), width, j)
            return context.get_dummy_value()

        return signature, emit

    return step


@cache
def slope(vectors: int, lanes: int) -> Any:
    """An intrinsic for the derivative of the softmax, rows being queries.

        step(scores, slopes, rows, lse, mean)

    For each of ``rows`` > 0 queries i: ``scores`` become the weights 2^(score - lse[i]), and ``slopes``, on entry the
    derivatives in the weights, become those in the scores: weight * (slope - mean[i]).
    """
    signature = types.void(*[types.int64] * 5)
    width = vectors * lanes

    @intrinsic
    def step(typing, scores, slopes, rows, lse, mean):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            scores, slopes, rows, lse, mean = values
            lane = Lanes(builder, lanes)
            zero = lane.constant(0.0)

            def row(i: ir.Value, _: list) -> list:
                log_sum, average = lane.everywhere(lse, i), lane.everywhere(mean, i)
                for j in range(vectors):
                    # No score exceeds its row's lse but by rounding, which is large where scores are.
                    below = builder.fsub(lane.load(scores, i, width, j), log_sum)
                    below = builder.select(builder.fcmp_ordered(">", below, zero), zero, below)
                    weight = lane.power_of_two(below)
                    lane.store(weight, scores, i, width, j)
                    difference = builder.fsub(lane.load(slopes, i, width, j), average)
                    lane.store(builder.fmul(weight, difference), slopes, i, width, j)
                return []

            lane.loop(rows, [], row)
            return context.get_dummy_value()

        return signature, emit

    return step


@cache
def times(vectors: int, lanes: int) -> Any:
    """An intrinsic ``scale(panel, rows, factor)``: every one of ``rows`` > 0 rows times the row ``factor``."""
    signature = types.void(*[types.int64] * 3)
    width = vectors * lanes

    @intrinsic
    def scale(typing, panel, rows, factor):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            panel, rows, factor = values
            lane = Lanes(builder, lanes)
            factors = [lane.load(factor, INT(0), width, j) for j in range(vectors)]

            def row(i: ir.Value, _: list) -> list:
                for j in range(vectors):
                    lane.store(builder.fmul(lane.load(panel, i, width, j), factors[j]), panel, i, width, j)
                return []

            lane.loop(rows, [], row)
            return context.get_dummy_value()

        return signature, emit

    return scale


@cache
def transpose(lanes: int) -> Any:
    """An intrinsic ``turn(x, x_row, y, y_row)``: a square of ``lanes`` x ``lanes`` numbers, transposed in registers.

    Rows are ``x_row`` and ``y_row`` elements apart. Stage by stage, squares off the diagonal change places: first of
    half the size, at last of single numbers.
    """
    signature = types.void(*[types.int64] * 4)

    @intrinsic
    def turn(typing, x, x_row, y, y_row):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            x, x_row, y, y_row = values
            lane = Lanes(builder, lanes)

            def place(base: ir.Value, row: ir.Value, i: int) -> ir.Value:
                address = builder.add(base, builder.mul(row, INT(4 * i)))
                return builder.inttoptr(address, lane.vector.as_pointer())

            square = [builder.load(place(x, x_row, i), align=4) for i in range(lanes)]
            half = lanes // 2
            while half:
                low = [j if not j & half else lanes + j - half for j in range(lanes)]
                high = [j + half if not j & half else lanes + j for j in range(lanes)]
                for i in range(lanes):
                    if not i & half:
                        pair = square[i], square[i + half]
                        for row, picks in ((i, low), (i + half, high)):
                            square[row] = builder.shuffle_vector(*pair, ir.Constant(lane.bits, picks))
                half //= 2
            for i in range(lanes):
                builder.store(square[i], place(y, y_row, i), align=4)
            return context.get_dummy_value()

        return signature, emit

    return turn


@intrinsic
def floats(typing, address):
    """The float32 numbers at ``address``, to be indexed."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        return builder.inttoptr(values[0], FLOAT.as_pointer())

    return types.CPointer(types.float32)(types.int64), emit


@intrinsic
def flag(typing, address):
    """The byte at ``address``, 0 or 1."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        return builder.load(builder.inttoptr(values[0], ir.IntType(8).as_pointer()))

    return types.uint8(types.int64), emit


@intrinsic
def take(typing, counter):
    """The int64 at address ``counter``, which grows by 1: what it was belongs to this thread alone."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        return builder.atomic_rmw("add", builder.inttoptr(values[0], INT.as_pointer()), INT(1), "monotonic")

    return types.int64(types.int64), emit
