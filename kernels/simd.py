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
