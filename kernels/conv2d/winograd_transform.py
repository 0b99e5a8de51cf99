"""Small linear transforms of images' tiles, as LLVM IR for Numba: a constant matrix from either side, in registers.

Each element of a tile is a vector of channels. Zeros of the matrices cost nothing, ones an addition, and rows or
columns that differ in signs only share their work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..vectors import fused_multiply_add
from .filtering import Matrix

FLOAT, INT, WORD = ir.FloatType(), ir.IntType(64), ir.IntType(32)

Load = Callable[[int, int], ir.Value]
Store = Callable[[ir.Value, int, int], None]


def sandwich(left: Matrix, right: Matrix, lanes: int) -> Any:
    """An intrinsic that multiplies a block X (q, s) by constant matrices L (p, q) and R (r, s): L X R^T.

        transform(x, x_row, x_column, y, y_row, y_column)

    ``x`` and ``y`` are addresses (int64, of float32), strides count elements.
    """

    @intrinsic
    def transform(typing, x, x_row, x_column, y, y_row, y_column):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            x, x_row, x_column, y, y_row, y_column = values
            block = _Block(builder, lanes)

            def load(i: int, j: int) -> ir.Value:
                return builder.load(block.place(x, x_row, x_column, i, j), align=4)

            def store(value: ir.Value, i: int, j: int) -> None:
                builder.store(value, block.place(y, y_row, y_column, i, j), align=4)

            block.transform(left, right, load, store)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), emit

    return transform


def bounded_sandwich(left: Matrix, right: Matrix, lanes: int, bounds: str) -> Any:
    """``sandwich`` at the edge of an image: an intrinsic that touches only a part of one of its two blocks.

        transform(x, x_row, x_column, y, y_row, y_column, top, bottom, first, last, count)

    ``bounds`` names the block, ``"x"`` or ``"y"``: of its elements only rows from ``top`` to ``bottom``, columns from
    ``first`` to ``last`` and ``count`` channels are in memory. Others are zeros in x, and not written in y.

    Columns have masks, few enough to stay in registers; a mask for each element took as long as half of the arithmetic.
    Rows that are not there lie elsewhere, in a vector of zeros that x is read from or that y is written to in vain.
    """
    rows, columns = (len(matrix[0]) if bounds == "x" else len(matrix) for matrix in (left, right))

    @intrinsic
    def transform(typing, x, x_row, x_column, y, y_row, y_column, top, bottom, first, last, count):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            x, x_row, x_column, y, y_row, y_column, top, bottom, first, last, count = values
            block = _Block(builder, lanes)
            bits, flags = ir.IntType(lanes), ir.VectorType(ir.IntType(1), lanes)

            def inside(low: ir.Value, high: ir.Value, i: int) -> ir.Value:
                return builder.and_(builder.icmp_signed("<=", low, INT(i)), builder.icmp_signed("<", INT(i), high))

            some = builder.sub(builder.shl(INT(1), count), INT(1))
            some = builder.trunc(builder.select(builder.icmp_signed(">=", count, INT(lanes)), INT(-1), some), bits)
            masks = [
                builder.bitcast(builder.select(inside(first, last, j), some, bits(0)), flags) for j in range(columns)
            ]
            elsewhere = cgutils.alloca_once_value(builder, block.zero)
            elsewhere.align = 4 * lanes
            elsewhere = builder.ptrtoint(elsewhere, INT)
            base, row, column = (x, x_row, x_column) if bounds == "x" else (y, y_row, y_column)
            starts, steps = [], []
            for i in range(rows):
                there = inside(top, bottom, i)
                starts.append(builder.select(there, builder.add(base, builder.mul(row, INT(4 * i))), elsewhere))
                steps.append(builder.select(there, builder.shl(column, INT(2)), INT(0)))

            pointer, name = block.vector.as_pointer(), f"v{lanes}f32.p0"
            loading = ir.FunctionType(block.vector, [pointer, WORD, flags, block.vector])
            storing = ir.FunctionType(ir.VoidType(), [block.vector, pointer, WORD, flags])
            masked_load = cgutils.get_or_insert_function(builder.module, loading, f"llvm.masked.load.{name}")
            masked_store = cgutils.get_or_insert_function(builder.module, storing, f"llvm.masked.store.{name}")

            def place(i: int, j: int) -> ir.Value:
                at = starts[i]
                for _ in range(j):
                    at = builder.add(at, steps[i])
                return builder.inttoptr(at, pointer)

            def load(i: int, j: int) -> ir.Value:
                if bounds == "y":
                    return builder.load(block.place(x, x_row, x_column, i, j), align=4)
                return builder.call(masked_load, [place(i, j), WORD(4), masks[j], block.zero])

            def store(value: ir.Value, i: int, j: int) -> None:
                if bounds == "x":
                    builder.store(value, block.place(y, y_row, y_column, i, j), align=4)
                else:
                    builder.call(masked_store, [value, place(i, j), WORD(4), masks[j]])

            block.transform(left, right, load, store)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 11), emit

    return transform


class _Block:
    """The code of a transform; elements are vectors of ``lanes`` channels."""

    def __init__(self, builder: ir.IRBuilder, lanes: int) -> None:
        self.builder, self.vector = builder, ir.VectorType(FLOAT, lanes)
        self.zero = self.vector([0.0] * lanes)

    def place(self, base: ir.Value, row: ir.Value, column: ir.Value, i: int, j: int) -> ir.Value:
        """The address of row ``i`` and column ``j``; ``base`` counts bytes, the strides elements."""
        build = self.builder
        offset = build.add(build.mul(row, INT(i)), build.mul(column, INT(j)))
        return build.inttoptr(build.add(base, build.mul(offset, INT(4))), self.vector.as_pointer())

    def transform(self, left: Matrix, right: Matrix, load: Load, store: Store) -> None:
        """Read each element of X once, and write each of L X R^T once."""
        columns = [
            _times(self.builder, self.vector, left, [load(i, j) for i in range(len(left[0]))])
            for j in range(len(right[0]))
        ]
        for i in range(len(left)):
            for j, value in enumerate(_times(self.builder, self.vector, right, [column[i] for column in columns])):
                store(value, i, j)


def _times(builder: ir.IRBuilder, vector: ir.VectorType, matrix: Matrix, line: list[ir.Value]) -> list[ir.Value]:
    """``matrix @ line`` for a constant matrix and a list of vectors."""
    rows, line = _fold_columns(builder, [list(row) for row in matrix], list(line))
    done: dict[int, ir.Value] = {}
    for i, row in enumerate(rows):
        if i in done:
            continue
        for k in range(i + 1, len(rows)):
            even = [a if a == b else 0.0 for a, b in zip(row, rows[k])]
            odd = [a if a == -b else 0.0 for a, b in zip(row, rows[k])]
            if k not in done and any(even) and any(odd) and [a + b for a, b in zip(even, odd)] == row:
                e, o = _combine(builder, vector, even, line), _combine(builder, vector, odd, line)
                done[i], done[k] = builder.fadd(e, o), builder.fsub(e, o)
                break
        else:
            done[i] = _combine(builder, vector, row, line)
    return [done[i] for i in range(len(rows))]


def _fold_columns(builder: ir.IRBuilder, rows: list[list[float]], line: list[ir.Value]) -> tuple[list, list]:
    """Where two columns are equal up to signs, in every row, use the sum and the difference of their values instead."""
    folded: set[int] = set()
    for k in range(len(line)):
        for other in range(k + 1, len(line)):
            if {k, other} & folded:
                continue
            pairs = [(row[k], row[other]) for row in rows]
            signs = {(a > 0) == (b > 0) for a, b in pairs if a}
            if all(abs(a) == abs(b) for a, b in pairs) and len(signs) == 2:
                folded |= {k, other}
                line[k], line[other] = builder.fadd(line[k], line[other]), builder.fsub(line[k], line[other])
                for row, (a, b) in zip(rows, pairs):
                    row[k], row[other] = (a, 0.0) if a == b else (0.0, a)
    return rows, line


def _combine(builder: ir.IRBuilder, vector: ir.VectorType, weights: list[float], line: list[ir.Value]) -> ir.Value:
    """The weighted sum of vectors; terms of weight 1 come first, so that the others are fused multiply-adds."""
    fma = fused_multiply_add(builder, vector)
    total = None
    for weight, value in sorted(
        ((w, v) for w, v in zip(weights, line) if w), key=lambda term: (abs(term[0]) != 1, term[0] < 0)
    ):
        if total is None:
            total = value if weight == 1 else builder.fmul(value, vector([weight] * vector.count))
        elif weight == 1:
            total = builder.fadd(total, value)
        elif weight == -1:
            total = builder.fsub(total, value)
        else:
            total = builder.call(fma, [value, vector([weight] * vector.count), total])
    return vector([0.0] * vector.count) if total is None else total
