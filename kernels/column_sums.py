"""Float64 sums over the rows of float32 matrices, column by column, in registers: the statistics of channels-last data.

LLVM vectorises such a loop along a row, and then loads and stores every sum at every row. Here a strip of columns goes
down all rows with its sums in registers, at the speed at which the matrix arrives. The loops are emitted as IR, like
those of ``simd``.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .numba_config import specialise
from .simd import FLOAT, INT, machine_width

DOUBLE, START = ir.DoubleType(), INT(0)
LANES = machine_width().lanes
STRIP = 4 if machine_width().registers == 32 else 2  # vectors side by side whose sums fit the registers
VERSION = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]  # for the names of what calls the loops


@cache
def strip_sums(vectors: int, paired: bool, lanes: int = LANES) -> Any:
    """An intrinsic that adds up ``vectors * lanes`` columns of x, and a second sum beside each.

        strip(g, x, step, rows, centre, sums, seconds)

    ``paired``: sums of g and of ``g (x - centre)``, with a float32 centre. Otherwise sums of ``d = x - centre`` and of
    ``d^2``, with a float64 centre; g is not read. All but ``step``, the elements from one row to the next, and ``rows``
    are addresses (int64), of float32 for g and x and of float64 for the sums, which are added to.
    """
    single, double = ir.VectorType(FLOAT, lanes), ir.VectorType(DOUBLE, lanes)
    signature = types.void(*[types.int64] * 7)
    strip_range = range(vectors)

    @intrinsic
    def strip(typing, g, x, step, rows, centre, sums, seconds):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            g, x, step, rows, centre, sums, seconds = values
            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(double, [double] * 3), f"llvm.fma.v{lanes}f64"
            )

            def place(base: ir.Value, kind: ir.VectorType, v: int, offset: ir.Value = START) -> ir.Value:
                size = 4 if kind is single else 8
                at = builder.add(base, builder.mul(builder.add(offset, INT(v * lanes)), INT(size)))
                return builder.inttoptr(at, kind.as_pointer())

            def load(base: ir.Value, kind: ir.VectorType, v: int, offset: ir.Value = START) -> ir.Value:
                return builder.load(place(base, kind, v, offset), align=4)

            centres = [load(centre, single if paired else double, v) for v in strip_range]
            start = [load(base, double, v) for base in (sums, seconds) for v in strip_range]
            before = builder.block
            body = builder.append_basic_block("strip.body")
            after = builder.append_basic_block("strip.after")
            builder.cbranch(builder.icmp_signed(">", rows, INT(0)), body, after)

            builder.position_at_end(body)
            i = builder.phi(INT)
            i.add_incoming(INT(0), before)
            totals = [builder.phi(double) for _ in start]
            for phi, value in zip(totals, start):
                phi.add_incoming(value, before)
            offset = builder.mul(i, step)
            nexts: list[ir.Value] = [None] * len(start)
            for v in strip_range:
                element = load(x, single, v, offset)
                if paired:
                    distance = builder.fpext(builder.fsub(element, centres[v]), double)
                    factor = builder.fpext(load(g, single, v, offset), double)
                else:
                    distance = factor = builder.fsub(builder.fpext(element, double), centres[v])
                nexts[v] = builder.fadd(totals[v], factor)
                nexts[vectors + v] = builder.call(fma, [factor, distance, totals[vectors + v]])
            for phi, value in zip(totals, nexts):
                phi.add_incoming(value, body)
            following = builder.add(i, INT(1))
            i.add_incoming(following, body)
            builder.cbranch(builder.icmp_signed("<", following, rows), body, after)

            builder.position_at_end(after)
            results = []
            for first, last in zip(start, nexts):
                phi = builder.phi(double)
                phi.add_incoming(first, before)
                phi.add_incoming(last, body)
                results.append(phi)
            for n, result in enumerate(results):
                builder.store(result, place((sums, seconds)[n // vectors], double, n % vectors), align=8)
            return context.get_dummy_value()

        return signature, emit

    return strip


def _strips(g, x, width, rows, centre, sums, seconds):
    j = 0
    while j + STRIP * LANES <= width:
        wide(g + 4 * j, x + 4 * j, width, rows, centre + CENTRE * j, sums + 8 * j, seconds + 8 * j)
        j += STRIP * LANES
    while j < width:
        narrow(g + 4 * j, x + 4 * j, width, rows, centre + CENTRE * j, sums + 8 * j, seconds + 8 * j)
        j += LANES


wide: Any = None  # `column_sums` gives these their values
narrow: Any = None
CENTRE = 0  # bytes of a number of ``centre``


@cache
def column_sums(paired: bool) -> Any:
    """``strip_sums`` for a whole contiguous matrix (rows, width), compiled: width is a multiple of ``LANES``."""
    names = {"wide": strip_sums(STRIP, paired), "narrow": strip_sums(1, paired), "CENTRE": 4 if paired else 8}
    return specialise(_strips, "paired" if paired else "squares", names)
