"""Pieces of vector code that intrinsics are put together from: addresses, masked moves, fused multiply-add."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

FLOAT, INT = ir.FloatType(), ir.IntType(64)


def vector_pointer(builder: ir.IRBuilder, base: ir.Value, vector: ir.VectorType, *offsets: ir.Value) -> ir.Value:
    """The address of a vector, ``offsets`` elements after ``base`` (an int64)."""
    address = base
    for offset in offsets:
        address = builder.add(address, builder.shl(offset, INT(2)))
    return builder.inttoptr(address, vector.as_pointer())


class Masked:
    """Loads and stores of vectors of which only the first ``valid`` elements are there."""

    def __init__(self, builder: ir.IRBuilder, vector: ir.VectorType, valid: ir.Value) -> None:
        lanes = vector.count
        word = ir.IntType(32)
        words = ir.VectorType(word, lanes)
        first = builder.insert_element(ir.Constant(words, ir.Undefined), builder.trunc(valid, word), word(0))
        count = builder.shuffle_vector(first, ir.Constant(words, ir.Undefined), ir.Constant(words, [0] * lanes))
        mask = builder.icmp_signed("<", ir.Constant(words, list(range(lanes))), count)
        pointer, align, flags = vector.as_pointer(), ir.IntType(32), ir.VectorType(ir.IntType(1), lanes)
        load = ir.FunctionType(vector, [pointer, align, flags, vector])
        store = ir.FunctionType(ir.VoidType(), [vector, pointer, align, flags])
        self.builder, self.mask, self.align, self.zero = builder, mask, align(4), vector([0.0] * lanes)
        self.loader = cgutils.get_or_insert_function(builder.module, load, f"llvm.masked.load.v{lanes}f32.p0")
        self.storer = cgutils.get_or_insert_function(builder.module, store, f"llvm.masked.store.v{lanes}f32.p0")

    def load(self, pointer: ir.Value) -> ir.Value:
        return self.builder.call(self.loader, [pointer, self.align, self.mask, self.zero])

    def store(self, value: ir.Value, pointer: ir.Value) -> None:
        self.builder.call(self.storer, [value, pointer, self.align, self.mask])


def fused_multiply_add(builder: ir.IRBuilder, vector: ir.VectorType) -> Any:
    """The function a * b + c of three vectors, rounded once."""
    name = f"llvm.fma.v{vector.count}f32"
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)


def prefetch(builder: ir.IRBuilder, pointer: ir.Value, write: int = 0) -> None:
    """Fetch a line into the first-level cache, whatever the pointer points to."""
    byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(fetch, [builder.bitcast(pointer, byte), word(write), word(3), word(1)])
