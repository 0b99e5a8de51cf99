"""Kernels as C functions that take one block of arguments, and the one parallel loop that runs them.

Numba's parallel functions are slow to compile, and slow to call with many arguments. So the loops of a kernel are
compiled for one thread, as ``body(call, unit)``: ``call`` is the address of a record of int64 fields (sizes, strides,
addresses of arrays), ``unit`` says which part of the work to do. ``run`` calls that for all units, over all threads.

    CALL = fields("x y count")
    ...
    def _halve(call, unit):
        call = record(call, CALL)
        ...
    halve = c_function(_halve, "halve")
    run(halve, with_arrays(make(CALL, {"count": x.size}), x=x, y=y), units)

A record of sizes can be made once and kept; ``with_arrays`` is all there is to do for each call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import carray, cfunc, types
from numba.extending import intrinsic

from .numba_config import njit, prange, renamed, specialise

__all__ = ["array", "c_function", "fields", "make", "record", "reference", "run", "with_arrays"]


def fields(names: str) -> np.dtype:
    """The type of a record of int64 fields."""
    return np.dtype([(name, np.int64) for name in names.split()])


@intrinsic
def _pointer(typing, address):
    """An address (int64) as a pointer, for ``carray``."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        return builder.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), emit


@njit(inline="always")
def array(address, shape, dtype):
    """The contiguous array at an address, in compiled code."""
    return carray(_pointer(address), shape, dtype)


@njit(inline="always")
def record(address, dtype):
    """The record at an address, in compiled code."""
    return carray(_pointer(address), 1, dtype)[0]


def c_function(body: Callable[..., None], variant: str, constants: dict[str, Any] | None = None) -> Any:
    """``body(call, unit)``, both int64, compiled or loaded from Numba's cache; ``run`` takes it."""
    compiled = cfunc(types.void(types.int64, types.int64), cache=True, error_model="numpy", fastmath={"contract"})
    return compiled(renamed(body, variant, constants))


def reference(body: Callable[..., None], arguments: int) -> Any:
    """``body`` of int64 arguments as a C function that compiled code refers to by name.

    What Numba compiles it otherwise compiles again into every function that calls it, which for tiles of
    accumulators takes longer than all the rest.
    """
    signature = types.void(*[types.int64] * arguments)
    compiled = cfunc(signature, cache=True, error_model="numpy")(renamed(body, "reference"))
    name = f"scratchgen.{body.__module__}.{body.__name__}.{arguments}"  # with other arguments, another function
    binding.add_symbol(name, compiled.address)
    return types.ExternalFunction(name, signature)


@intrinsic
def _call(typing, function, call, unit):
    """``function(call, unit)`` for the address of a C function."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 2)
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


def _run(function, call, units):
    for unit in prange(units):
        _call(function, call, np.int64(unit))


_in_turn = specialise(_run, "in_turn", {})
_in_parallel = specialise(_run, "in_parallel", {}, parallel=True)


def run(function: Any, call: np.ndarray, units: int) -> None:
    """Call a ``c_function`` with the record ``call``, an array of one, for each of ``units``, over all threads."""
    (_in_parallel if units > 1 else _in_turn)(function.address, call.ctypes.data, units)


def make(dtype: np.dtype, values: dict[str, int]) -> np.ndarray:
    """A record as an array of one; fields that are not given are 0."""
    return np.array([tuple([values.get(name, 0) for name in dtype.names or ()])], dtype)


def with_arrays(call: np.ndarray, **arrays: np.ndarray) -> np.ndarray:
    """A copy of a record with the addresses of arrays in it. Whoever runs it keeps the arrays alive."""
    call = call.copy()
    for name, a in arrays.items():
        call[name] = a.ctypes.data
    return call
