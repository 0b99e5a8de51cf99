"""What the packed product is made of, as LLVM IR for Numba: a register tile, and moves of vectors that feed it.

``tile`` is the only place that multiplies. It takes any number of rows up to ``ROWS`` (a switch to one function for
each, so that the rows of a matrix can be dealt out evenly and none is padded) and any number of columns up to
``PANEL`` (masked stores). It may read A in place by any strides, since A is read number by number; B it reads by
vectors, from a panel: ``PANEL`` neighbouring columns in each row, whole also where the matrix ends.

All addresses are int64, of float32; strides count elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..simd import FLOAT, INT, _broadcast, machine_width

WIDTH = machine_width()
LANES, ROWS = WIDTH.lanes, WIDTH.rows
PANEL = WIDTH.vectors * LANES
FREE_MASKS = LANES == 16  # with AVX-512 a masked move is as quick as a plain one
AHEAD = 8  # rows of the panel of B that are on their way to L1
ASKED = 2  # lines of each row of what is multiplied next that are asked for
_LINE = 64  # bytes

_VECTOR, _BYTES = ir.VectorType(FLOAT, LANES), ir.IntType(8).as_pointer()
_I32 = ir.IntType(32)
_MASK = ir.VectorType(ir.IntType(1), LANES)


def _at(builder: ir.IRBuilder, base: ir.Value, offset: ir.Value, kind: ir.Type) -> ir.Value:
    """A pointer to ``kind``, ``offset`` bytes from the byte pointer ``base``."""
    return builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())


def _intrinsic(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: list[ir.Type]) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def _live(builder: ir.IRBuilder, count: ir.Value) -> ir.Value:
    """A mask of the first ``count`` lanes."""
    lane = ir.Constant(ir.VectorType(INT, LANES), list(range(LANES)))
    return builder.icmp_signed("<", lane, _broadcast(builder, count, lane.type))


def _load(builder: ir.IRBuilder, place: ir.Value, mask: ir.Value | None = None) -> ir.Value:
    """A vector from memory; lanes outside of the ``mask`` are not touched and read as 0."""
    if mask is None:
        return builder.load(place, align=4)
    name = f"llvm.masked.load.v{LANES}f32.p0"
    load = _intrinsic(builder, name, _VECTOR, [_VECTOR.as_pointer(), _I32, _MASK, _VECTOR])
    return builder.call(load, [place, _I32(4), mask, _VECTOR([0.0] * LANES)])


def _store(builder: ir.IRBuilder, value: ir.Value, place: ir.Value, mask: ir.Value | None = None) -> None:
    if mask is None:
        builder.store(value, place, align=4)
        return
    name = f"llvm.masked.store.v{LANES}f32.p0"
    store = _intrinsic(builder, name, ir.VoidType(), [_VECTOR, _VECTOR.as_pointer(), _I32, _MASK])
    builder.call(store, [value, place, _I32(4), mask])


# --- the register tile


def _row_offsets(builder: ir.IRBuilder, stride: ir.Value, rows: int) -> list[ir.Value]:
    """Bytes from row 0 to each row, for the addressing mode "base + 1, 2, 4 or 8 times a register".

    The multiples are hidden from LLVM, which would make a chain of additions of them, as long as the multiply-adds.
    """
    hide = ir.FunctionType(INT, [INT])
    odd = {i: builder.asm(hide, "", "=r,0", [builder.mul(stride, INT(i))], False) for i in range(1, rows, 2)}
    offsets = [INT(0)]
    for i in range(1, rows):
        twos = (i & -i).bit_length() - 1
        offsets.append(builder.shl(odd[i >> twos], INT(twos)))
    return offsets


def _tile_function(module: ir.Module, rows: int) -> ir.Function:
    """The tile of exactly so many rows, as a function of the module it is used in."""
    name = f"scratchgen_tile_{rows}"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [INT] * 14), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("start"))
    a, a_row, a_step, b, b_step, seed, seed_row, c, c_row, columns, depth, every, next_a, next_row = function.args
    vectors = WIDTH.vectors
    places = [(i, j) for i in range(rows) for j in range(vectors)]
    a, b, seed, c, next_a = (builder.inttoptr(v, _BYTES) for v in (a, b, seed, c, next_a))
    strides = a_row, a_step, b_step, seed_row, c_row, next_row
    a_row, a_step, b_step, seed_row, c_row, next_row = (builder.shl(v, INT(2)) for v in strides)

    row_offsets = _row_offsets(builder, a_row, rows)

    def vector_at(base: ir.Value, stride: ir.Value, i: int, j: int) -> ir.Value:
        return _at(builder, base, builder.add(builder.mul(stride, INT(i)), INT(4 * LANES * j)), _VECTOR)

    fma = _intrinsic(builder, f"llvm.fma.v{LANES}f32", _VECTOR, [_VECTOR] * 3)
    fetch = _intrinsic(builder, "llvm.prefetch.p0", ir.VoidType(), [_BYTES, _I32, _I32, _I32])

    def ask(place: ir.Value, lines: int, write: bool, near: int) -> None:
        for line in range(lines):
            here = builder.gep(place, [INT(line * _LINE)])
            builder.call(fetch, [here, _I32(int(write)), _I32(near), _I32(1)])  # near: 3 is L1, 2 is L2; 1: data

    def phis() -> list[ir.Value]:
        return [builder.phi(kind) for kind in (_BYTES, _BYTES, *[_VECTOR] * len(places))]

    zero, lines = _VECTOR([0.0] * LANES), -(-4 * PANEL // _LINE)
    b_ahead = builder.mul(b_step, INT(AHEAD))
    before = builder.block
    piece, body, rest, after = (function.append_basic_block(name) for name in ("piece", "body", "rest", "after"))
    builder.cbranch(builder.icmp_signed(">", depth, INT(0)), piece, after)

    # LLVM unrolls nothing here. Asking within an unrolled loop had it load ahead of itself and spill the sums.
    builder.position_at_end(piece)
    to_do, c_asked, a_asked, begun = builder.phi(INT), builder.phi(_BYTES), builder.phi(_BYTES), phis()
    ask(c_asked, lines, True, 2)
    ask(a_asked, ASKED, False, 2)
    steps = builder.select(builder.icmp_signed("<", every, to_do), every, to_do)
    builder.branch(body)

    builder.position_at_end(body)
    left, now = builder.phi(INT), phis()
    a_now, b_now, *sums = now
    ask(builder.gep(b_now, [b_ahead]), lines, False, 3)
    b_vectors = [_load(builder, _at(builder, b_now, INT(4 * LANES * j), _VECTOR)) for j in range(vectors)]
    nexts = [builder.gep(a_now, [a_step]), builder.gep(b_now, [b_step])]
    for i in range(rows):
        scalar = builder.load(_at(builder, a_now, row_offsets[i], FLOAT), align=4)
        spread = _broadcast(builder, scalar, _VECTOR)
        nexts += [builder.call(fma, [spread, b_vectors[j], sums[i * vectors + j]]) for j in range(vectors)]
    left_next = builder.sub(left, INT(1))
    builder.cbranch(builder.icmp_signed(">", left_next, INT(0)), body, rest)
    for phi, first, following in zip((left, *now), (steps, *begun), (left_next, *nexts)):
        phi.add_incoming(first, piece)
        phi.add_incoming(following, body)

    builder.position_at_end(rest)
    still = builder.sub(to_do, steps), builder.gep(c_asked, [c_row]), builder.gep(a_asked, [next_row])
    builder.cbranch(builder.icmp_signed(">", still[0], INT(0)), piece, after)
    start = depth, c, next_a, a, b, *[zero] * len(places)
    for phi, first, following in zip((to_do, c_asked, a_asked, *begun), start, (*still, *nexts)):
        phi.add_incoming(first, before)
        phi.add_incoming(following, rest)

    builder.position_at_end(after)
    totals = [builder.phi(_VECTOR) for _ in places]
    for phi, following in zip(totals, nexts[2:]):
        phi.add_incoming(zero, before)
        phi.add_incoming(following, rest)

    def finish(masks: list[Any]) -> None:
        seeds = [_load(builder, vector_at(seed, seed_row, i, j), masks[j]) for i, j in places]
        for total, first, (i, j) in zip(totals, seeds, places):
            _store(builder, builder.fadd(total, first), vector_at(c, c_row, i, j), masks[j])
        builder.ret_void()

    if not FREE_MASKS:
        with builder.if_then(builder.icmp_signed(">=", columns, INT(PANEL))):
            finish([None] * vectors)
    finish([_live(builder, builder.sub(columns, INT(j * LANES))) for j in range(vectors)])
    return function


@intrinsic
def tile(
    typing, a, a_row, a_step, b, b_step, seed, seed_row, c, c_row, rows, columns, depth, every, next_a, next_row
):  # fmt: skip
    """One tile of a product, added up in registers, plus a seed:

        c[i c_row + j]  =  seed[i seed_row + j]  +  sum over k < depth of  a[i a_row + k a_step] * b[k b_step + j]

    for ``i < rows <= ROWS`` and ``j < columns <= PANEL``. ``seed`` may be ``c`` itself (to accumulate) or, with
    ``seed_row`` 0, one row for all: a bias, or zeros. Of ``b`` all ``PANEL`` columns are read.

    Before each piece of ``every`` steps it asks the caches for one row of ``c``, and for ``ASKED`` lines of what is
    multiplied next: at ``next_a``, then ``next_row`` further, and so on. With ``every`` as large as ``depth``, that is
    once. Any address may be asked for.
    """

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        rows, arguments = values[9], [*values[:9], *values[10:]]
        done = builder.append_basic_block("tile.done")
        switch = builder.switch(rows, done)
        for case in range(1, ROWS + 1):
            block = builder.append_basic_block(f"tile.{case}")
            switch.add_case(INT(case), block)
            with builder.goto_block(block):
                builder.call(_tile_function(builder.module, case), arguments)
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 15), emit


# --- moves


def _either(builder: ir.IRBuilder, count: ir.Value, do: Callable[[ir.Value | None], None]) -> None:
    """``do`` without a mask for a whole vector, else with one; not every machine has masks."""
    with builder.if_else(builder.icmp_signed(">=", count, INT(LANES))) as (whole, part):
        with whole:
            do(None)
        with part:
            do(_live(builder, count))


@intrinsic
def move(typing, source, target, count):
    """A whole vector to ``target``, of which the first ``count`` numbers come from ``source`` and the rest are 0."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        source, target = (builder.inttoptr(v, _VECTOR.as_pointer()) for v in values[:2])
        _either(builder, values[2], lambda mask: _store(builder, _load(builder, source, mask), target))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


@intrinsic
def turn(typing, source, source_row, target, target_row, rows, columns):
    """Transpose a block of up to ``LANES`` x ``LANES`` numbers in registers.

    ``target[j target_row + i] = source[i source_row + j]``; the target is written whole, with anything in it where the
    source has no row ``i < rows`` or no column ``j < columns``.
    """

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        source, source_row, target, target_row, rows, columns = values
        source, target = builder.inttoptr(source, _BYTES), builder.inttoptr(target, _BYTES)
        last = builder.sub(rows, INT(1))

        def transpose(mask: ir.Value | None) -> None:
            lines = []
            for i in range(LANES):
                row = builder.select(builder.icmp_signed("<", INT(i), rows), INT(i), last)
                offset = builder.shl(builder.mul(row, source_row), INT(2))
                lines.append(_load(builder, _at(builder, source, offset, _VECTOR), mask))
            half = LANES // 2
            # One perfect shuffle moves the top bit of the row number to the bottom of the column number and all
            # others up by one; after log2(LANES) of them, rows and columns have changed places.
            for _ in range(LANES.bit_length() - 1):
                lines = [
                    builder.shuffle_vector(
                        lines[i // 2],
                        lines[i // 2 + half],
                        ir.Constant(
                            ir.VectorType(_I32, LANES),
                            [LANES * (j % 2) + j // 2 + half * (i % 2) for j in range(LANES)],
                        ),
                    )
                    for i in range(LANES)
                ]
            for j, line in enumerate(lines):
                offset = builder.shl(builder.mul(target_row, INT(j)), INT(2))
                _store(builder, line, _at(builder, target, offset, _VECTOR))

        _either(builder, columns, transpose)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), emit


@intrinsic
def number_at(typing, address):
    """The float32 at an address."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        return builder.load(builder.inttoptr(values[0], FLOAT.as_pointer()), align=4)

    return types.float32(types.int64), emit


@intrinsic
def put_number(typing, address, value):
    """Write a float32 to an address."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        builder.store(values[1], builder.inttoptr(values[0], FLOAT.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), emit


@intrinsic
def floats_at(typing, address):
    """A pointer to float32 at an address, for ``numba.carray``."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        return builder.inttoptr(values[0], FLOAT.as_pointer())

    return types.CPointer(types.float32)(types.int64), emit
