"""A generator of register-tiled matrix micro-kernels for Numba: explicit vectors, fused multiply-add, no spills.

LLVM vectorises simple loops, but not a matrix product so that the accumulators stay in registers; that costs a factor
of three. So the inner loop is emitted as LLVM IR through ``numba.extending.intrinsic``: ``rows`` x ``vectors``
accumulators, one broadcast and ``vectors`` fused multiply-adds for each row and step of depth. GEMM, convolution,
Winograd's products and attention are loops around it.

The same source serves every width. IR vectors wider than the machine's are split by LLVM, so all widths compile, and
are tested, everywhere; ``LANES`` is the one that fits this machine.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

FLOAT, INT = ir.FloatType(), ir.IntType(64)


class Width(NamedTuple):
    """A machine's vectors: float32 lanes, registers, and the tile that fills the registers without spilling."""

    lanes: int
    registers: int
    rows: int
    vectors: int


AVX512 = Width(16, 32, 14, 2)
AVX2 = Width(8, 16, 6, 2)
NEON = Width(4, 32, 12, 2)  # also SSE machines, where it spills a little but works
WIDTHS = {"avx512": AVX512, "avx2": AVX2, "neon": NEON}


@cache
def machine_width() -> Width:
    """The widest vectors this CPU has."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return AVX512
    if features.get("avx2") and features.get("fma"):
        return AVX2
    return NEON


@cache
def tile_product(rows: int, vectors: int, lanes: int, accumulate: bool = False) -> Any:
    """An intrinsic that computes one tile of a product in registers and stores it.

        tile(a, a_row, a_step, b, b_step, c, c_row, depth)

        c[i c_row + j]  (+)=  sum over k < depth of  a[i a_row + k a_step] * b[k b_step + j]

    for ``i < rows`` and ``j < vectors * lanes``. ``a``, ``b`` and ``c`` are addresses (int64, of float32), strides
    count elements. ``accumulate`` adds to what ``c`` holds, after the sum over ``depth`` is done: blocks of sums have
    smaller rounding errors than one long row of additions. The caller makes sure that the addresses are in bounds.
    """
    vector = ir.VectorType(FLOAT, lanes)
    signature = types.void(*[types.int64] * 8)

    @intrinsic
    def tile(typing, a, a_row, a_step, b, b_step, c, c_row, depth):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            a, a_row, a_step, b, b_step, c, c_row, depth = values
            a, b, c = (builder.inttoptr(v, FLOAT.as_pointer()) for v in (a, b, c))
            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32"
            )
            places = [(i, j) for i in range(rows) for j in range(vectors)]

            def element(base: ir.Value, *offsets: ir.Value) -> ir.Value:
                total = offsets[0]
                for offset in offsets[1:]:
                    total = builder.add(total, offset)
                return builder.gep(base, [total])

            def c_place(i: int, j: int) -> ir.Value:
                place = element(c, builder.mul(c_row, INT(i)), INT(j * lanes))
                return builder.bitcast(place, vector.as_pointer())

            zero = vector([0.0] * lanes)
            before = builder.block
            body = builder.append_basic_block("tile.body")
            after = builder.append_basic_block("tile.after")
            builder.cbranch(builder.icmp_signed(">", depth, INT(0)), body, after)

            builder.position_at_end(body)
            k = builder.phi(INT)
            k.add_incoming(INT(0), before)
            sums = [builder.phi(vector) for _ in places]
            for phi in sums:
                phi.add_incoming(zero, before)
            b_at = builder.mul(k, b_step)
            b_vectors = [
                builder.load(builder.bitcast(element(b, b_at, INT(j * lanes)), vector.as_pointer()), align=4)
                for j in range(vectors)
            ]
            a_at = builder.mul(k, a_step)
            nexts = []
            for i in range(rows):
                scalar = builder.load(element(a, a_at, builder.mul(a_row, INT(i))))
                broadcast = _broadcast(builder, scalar, vector)
                nexts += [builder.call(fma, [broadcast, b_vectors[j], sums[i * vectors + j]]) for j in range(vectors)]
            end = builder.block
            for phi, value in zip(sums, nexts):
                phi.add_incoming(value, end)
            k_next = builder.add(k, INT(1))
            k.add_incoming(k_next, end)
            builder.cbranch(builder.icmp_signed("<", k_next, depth), body, after)

            builder.position_at_end(after)
            totals = [builder.phi(vector) for _ in places]  # phis come first in their block
            for total, value in zip(totals, nexts):
                total.add_incoming(zero, before)
                total.add_incoming(value, end)
            for total, (i, j) in zip(totals, places):
                place = c_place(i, j)
                if accumulate:
                    total = builder.fadd(builder.load(place, align=4), total)
                builder.store(total, place, align=4)
            return context.get_dummy_value()

        return signature, emit

    return tile


def _broadcast(builder: ir.IRBuilder, scalar: ir.Value, vector: ir.VectorType) -> ir.Value:
    """A vector with ``scalar`` in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, undefined, mask)


# --- small linear transforms, for Winograd


@cache
def sandwich(matrix: tuple[tuple[float, ...], ...], lanes: int) -> Any:
    """An intrinsic that applies a constant ``matrix`` M (p, q) to both sides of a q x q block: M X M^T.

        transform(x, x_row, x_column, y, y_row, y_column)

    Each element is a vector of ``lanes`` channels; ``x`` and ``y`` are addresses (int64, of float32), strides count
    elements. Zeros cost nothing, ones an addition, and rows or columns that differ in signs only share their work.
    """
    vector = ir.VectorType(FLOAT, lanes)
    signature = types.void(*[types.int64] * 6)
    p, q = len(matrix), len(matrix[0])

    @intrinsic
    def transform(typing, x, x_row, x_column, y, y_row, y_column):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            x, x_row, x_column, y, y_row, y_column = values

            def place(base: ir.Value, row: ir.Value, column: ir.Value, i: int, j: int) -> ir.Value:
                offset = builder.add(builder.mul(row, INT(i)), builder.mul(column, INT(j)))
                address = builder.add(base, builder.mul(offset, INT(4)))
                return builder.inttoptr(address, vector.as_pointer())

            def apply(line: list[ir.Value]) -> list[ir.Value]:
                return _times(builder, vector, matrix, line)

            columns = [
                apply([builder.load(place(x, x_row, x_column, i, j), align=4) for i in range(q)]) for j in range(q)
            ]
            for i in range(p):
                for j, value in enumerate(apply([columns[j][i] for j in range(q)])):
                    builder.store(value, place(y, y_row, y_column, i, j), align=4)
            return context.get_dummy_value()

        return signature, emit

    return transform


def _times(builder: Any, vector: ir.VectorType, matrix: tuple, line: list[ir.Value]) -> list[ir.Value]:
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


def _fold_columns(builder: Any, rows: list[list[float]], line: list[ir.Value]) -> tuple[list, list]:
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


def _combine(builder: Any, vector: ir.VectorType, weights: list[float], line: list[ir.Value]) -> ir.Value:
    """The weighted sum of vectors; terms of weight 1 come first, so that the others are fused multiply-adds."""
    fma = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{vector.count}f32"
    )
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


@cache
def bounded_sandwich(matrix: tuple[tuple[float, ...], ...], lanes: int, bounds: str) -> Any:
    """``sandwich`` at the edge of an image: an intrinsic that touches only a part of one of its two blocks.

        transform(x, x_row, x_column, y, y_row, y_column, top, bottom, left, right, count)

    ``bounds`` names the block, ``"x"`` or ``"y"``: of its elements only rows from ``top`` to ``bottom``, columns from
    ``left`` to ``right`` and the first ``count`` channels are in memory. Others are zeros in x, and not written in y.

    Columns have masks, few enough to stay in registers; a mask for each element took as long as half of the arithmetic.
    Rows that are not there lie elsewhere, in a vector of zeros that x is read from or that y is written to in vain.
    """
    vector = ir.VectorType(FLOAT, lanes)
    signature = types.void(*[types.int64] * 11)
    p, q = len(matrix), len(matrix[0])
    size = q if bounds == "x" else p

    @intrinsic
    def transform(typing, x, x_row, x_column, y, y_row, y_column, top, bottom, left, right, count):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            x, x_row, x_column, y, y_row, y_column, top, bottom, left, right, count = values
            bits, flags, align = ir.IntType(lanes), ir.VectorType(ir.IntType(1), lanes), ir.IntType(32)(4)
            zero = vector([0.0] * lanes)

            def inside(low: ir.Value, high: ir.Value, i: int) -> ir.Value:
                return builder.and_(builder.icmp_signed("<=", low, INT(i)), builder.icmp_signed("<", INT(i), high))

            base, row, column = (x, x_row, x_column) if bounds == "x" else (y, y_row, y_column)
            elsewhere = cgutils.alloca_once_value(builder, zero)
            elsewhere.align = 4 * lanes
            elsewhere = builder.ptrtoint(elsewhere, INT)
            some = builder.sub(builder.shl(INT(1), count), INT(1))
            some = builder.trunc(builder.select(builder.icmp_signed(">=", count, INT(lanes)), INT(-1), some), bits)
            masks = [builder.bitcast(builder.select(inside(left, right, j), some, bits(0)), flags) for j in range(size)]
            places, steps = [], []
            for i in range(size):
                there = inside(top, bottom, i)
                places.append(builder.select(there, builder.add(base, builder.mul(row, INT(4 * i))), elsewhere))
                steps.append(builder.select(there, builder.shl(column, INT(2)), INT(0)))

            def place(i: int, j: int) -> ir.Value:
                at = places[i]
                for _ in range(j):
                    at = builder.add(at, steps[i])
                return builder.inttoptr(at, vector.as_pointer())

            def load(i: int, j: int) -> ir.Value:
                if bounds == "y":
                    return builder.load(_place(builder, vector, x, x_row, x_column, i, j), align=4)
                return builder.call(masked_load, [place(i, j), align, masks[j], zero])

            def store(value: ir.Value, i: int, j: int) -> None:
                if bounds == "x":
                    builder.store(value, _place(builder, vector, y, y_row, y_column, i, j), align=4)
                else:
                    builder.call(masked_store, [value, place(i, j), align, masks[j]])

            masked_load = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(vector, [vector.as_pointer(), align.type, flags, vector]),
                f"llvm.masked.load.v{lanes}f32.p0",
            )
            masked_store = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(ir.VoidType(), [vector, vector.as_pointer(), align.type, flags]),
                f"llvm.masked.store.v{lanes}f32.p0",
            )
            halves = [_times(builder, vector, matrix, [load(i, j) for i in range(q)]) for j in range(q)]
            for i in range(p):
                for j, value in enumerate(_times(builder, vector, matrix, [halves[j][i] for j in range(q)])):
                    store(value, i, j)
            return context.get_dummy_value()

        return signature, emit

    return transform


def _place(
    builder: ir.IRBuilder, vector: ir.VectorType, base: ir.Value, row: ir.Value, column: ir.Value, i: int, j: int
) -> ir.Value:
    """The address of row ``i`` and column ``j``; ``base`` counts bytes, the strides elements."""
    offset = builder.add(builder.mul(row, INT(i)), builder.mul(column, INT(j)))
    return builder.inttoptr(builder.add(base, builder.mul(offset, INT(4))), vector.as_pointer())
