"""The register tile under Winograd's products, as LLVM IR for Numba: it adds up, and fetches ahead.

The products of one point are small, and there are dozens of them one after another, each with a filter of its own that
comes from the third-level cache. So while a tile is multiplied, lines of the next filter are asked for, one in each
step. Tiles are as wide as there are channels, up to four vectors, because fewer numbers of the left side have to be
spread then; a tile of few rows is compiled as such, and none is filled up.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .. import simd
from ..vectors import Masked, prefetch, vector_pointer

WIDTH = simd.machine_width()
LANES = WIDTH.lanes
SUMS = WIDTH.rows // 6 * 6 * WIDTH.vectors  # vectors of sums that stay in registers beside both factors
VECTORS = (4, 2, 1)  # widths of tiles
ROWS = {vectors: min(SUMS // vectors, SUMS // 2) for vectors in VECTORS}

FLOAT, INT, FLAG = ir.FloatType(), ir.IntType(64), ir.IntType(32)
VECTOR, BYTES = ir.VectorType(FLOAT, LANES), ir.IntType(8).as_pointer()


def _function(module: ir.Module, rows: int, vectors: int) -> ir.Function:
    """The tile of one size, a function of its own in ``module``: inlined side by side they spill registers."""
    name = f"winograd_tile_{rows}x{vectors}"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [INT] * 11), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    start, body, end = (function.append_basic_block(block) for block in ("start", "body", "end"))
    builder = ir.IRBuilder(start)
    a, a_row, a_step, b, b_step, seed, seed_row, c, c_row, depth, ahead = function.args
    a, b, seed, c, ahead = (builder.inttoptr(v, BYTES) for v in (a, b, seed, c, ahead))
    a_row, a_step, b_step, seed_row, c_row = (builder.shl(v, INT(2)) for v in (a_row, a_step, b_step, seed_row, c_row))
    places = [(i, j) for i in range(rows) for j in range(vectors)]

    def place(base: ir.Value, row: ir.Value, i: int, j: int, kind: ir.Type = VECTOR) -> ir.Value:
        offset = builder.add(builder.mul(row, INT(i)), INT(4 * LANES * j))
        return builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())

    builder.branch(body)

    builder.position_at_end(body)
    firsts = [depth, a, b, ahead, *[VECTOR([0.0] * LANES)] * len(places)]
    left, a_now, b_now, line, *sums = phis = [builder.phi(first.type) for first in firsts]
    fetch = cgutils.get_or_insert_function(
        module, ir.FunctionType(ir.VoidType(), [BYTES, FLAG, FLAG, FLAG]), "llvm.prefetch.p0"
    )
    builder.call(fetch, [line, FLAG(0), FLAG(2), FLAG(1)])  # for reading, into the second-level cache
    fma = cgutils.get_or_insert_function(module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{LANES}f32")
    b_vectors = [builder.load(place(b_now, INT(0), 0, j), align=4) for j in range(vectors)]
    nexts = []
    for i in range(rows):
        spread = simd._broadcast(builder, builder.load(place(a_now, a_row, i, 0, FLOAT)), VECTOR)
        nexts += [builder.call(fma, [spread, b_vectors[j], sums[i * vectors + j]]) for j in range(vectors)]
    left_next = builder.sub(left, INT(1))
    steps = [builder.gep(now, [step]) for now, step in ((a_now, a_step), (b_now, b_step), (line, INT(64)))]
    builder.cbranch(builder.icmp_signed(">", left_next, INT(0)), body, end)
    for phi, first, following in zip(phis, firsts, [left_next, *steps, *nexts]):
        phi.add_incoming(first, start)
        phi.add_incoming(following, body)

    builder.position_at_end(end)
    for value, (i, j) in zip(nexts, places):
        added = builder.load(place(seed, seed_row, i, j), align=4)
        builder.store(builder.fadd(value, added), place(c, c_row, i, j), align=4)
    builder.ret_void()
    return function


@intrinsic
def tile(typing, a, a_row, a_step, b, b_step, seed, seed_row, c, c_row, rows, vectors, depth, ahead):
    """One tile of a product, added up in registers, and then to a seed:

        c[i c_row + j]  =  seed[i seed_row + j]  +  sum over k < depth of  a[i a_row + k a_step] * b[k b_step + j]

    for ``i < rows <= ROWS[vectors]``, ``j < vectors LANES`` and ``depth`` of 1 or more. Addresses are int64, of
    float32; strides count elements. ``ahead``: the first of ``depth`` lines of 64 bytes to fetch.
    """

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        rows, vectors = values[9:11]
        arguments = [*values[:9], *values[11:]]
        done = builder.append_basic_block("tile.done")
        most = max(ROWS.values()) + 1
        switch = builder.switch(builder.add(builder.mul(vectors, INT(most)), rows), done)
        for width, height in ROWS.items():
            for count in range(1, height + 1):
                block = builder.append_basic_block(f"tile.{count}x{width}")
                switch.add_case(INT(width * most + count), block)
                with builder.goto_block(block):
                    builder.call(_function(builder.module, count, width), arguments)
                    builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 13), emit


def _fetch(write: int) -> Any:
    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        prefetch(builder, builder.inttoptr(values[0], BYTES), write)
        return context.get_dummy_value()

    return types.void(types.int64), emit


@intrinsic
def fetch(typing, address):
    """Ask for the line at an address, which need not be one."""
    return _fetch(0)


@intrinsic
def fetch_to_write(typing, address):
    """Ask for the line at an address, as the only one to have it."""
    return _fetch(1)


@intrinsic
def add_to(typing, y, x, count):
    """Add ``count`` numbers at x to those at y."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        y, x, count = values
        with cgutils.for_range_slice(builder, INT(0), count, INT(LANES), INT) as (start, _):
            masked = Masked(builder, VECTOR, builder.sub(count, start))
            places = [vector_pointer(builder, base, VECTOR, start) for base in (y, x)]
            masked.store(builder.fadd(*map(masked.load, places)), places[0])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit
