"""Gradients that are there already, added where a kernel makes its own of the same value.

A value that is used twice gets two gradients. Added up afterwards, both are read again and their sum is written. A vjp
kernel whose signature has ``onto`` is given what the first input has got so far, one or two arrays of its shape, and
returns the sum of all: to the bit what ``dx + onto[0]``, or ``dx + (onto[0] + onto[1])``, would be.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .numba_config import specialise
from .simd import FLOAT, INT, machine_width
from .vectors import Masked, vector_pointer

LANES = machine_width().lanes
VECTOR = ir.VectorType(FLOAT, LANES)
VERSION = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]  # for the names of what calls ``add_rows``


def table(onto: tuple[np.ndarray, ...], order: tuple[int, ...], length: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """What ``add_rows`` takes, and what must be kept as long.

    Arrays are rows of ``length`` numbers, evenly apart, once their dimensions are in ``order``; copied if need be. A
    part of the channels of an image is such a view.
    """
    kept = [_rows(a.transpose(order), length) for a in onto]
    return np.array([(a.ctypes.data, a.strides[0] // 4) for a in kept], np.int64).reshape(-1, 2), kept


def _rows(a: np.ndarray, length: int) -> np.ndarray:
    shape = a.size // max(length, 1), length
    if a.strides[-1] == 4:
        try:
            return a.reshape(shape, copy=False)
        except ValueError:  # the rows are not evenly apart
            pass
    return np.ascontiguousarray(a).reshape(shape)


def _sum(others: int) -> Any:
    """Emits y + x, or y + (a + b), into y."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        *bases, count = values

        def places(start: ir.Value) -> list[ir.Value]:
            return [vector_pointer(builder, base, VECTOR, start) for base in bases]

        def total(y: ir.Value, *rest: ir.Value) -> ir.Value:
            return builder.fadd(y, rest[0] if others == 1 else builder.fadd(*rest))

        left = builder.and_(count, INT(LANES - 1))
        end = builder.sub(count, left)
        with cgutils.for_range_slice(builder, INT(0), end, INT(LANES), INT) as (start, _):
            at = places(start)
            builder.store(total(*[builder.load(place, align=4) for place in at]), at[0], align=4)
        with builder.if_then(builder.icmp_signed(">", left, INT(0))):
            at, masked = places(end), Masked(builder, VECTOR, left)
            masked.store(total(*map(masked.load, at)), at[0])
        return context.get_dummy_value()

    return types.void(*[types.int64] * (others + 2)), emit


@intrinsic
def _add(typing, y, x, count):
    """Add the ``count`` numbers at address x to those at y."""
    return _sum(1)


@intrinsic
def _add_sum(typing, y, a, b, count):
    """Add the sums of the ``count`` numbers at a and at b to those at y."""
    return _sum(2)


def _add_rows(y, onto, row, length):
    """Add to y, whole rows in one dimension, the rows from ``row`` on of what is ``onto`` it.

    ``onto``: of each array the address, and the elements from one row to the next.
    """
    here, size = y.ctypes.data, y.size
    packed = True
    for k in range(onto.shape[0]):
        packed = packed and onto[k, 1] == length
    each = size if packed else length
    for a in range(0, size if onto.shape[0] else 0, each):
        one = onto[0, 0] + 4 * onto[0, 1] * (row + a // length)
        if onto.shape[0] == 2:
            _add_sum(here + 4 * a, one, onto[1, 0] + 4 * onto[1, 1] * (row + a // length), each)
        else:
            _add(here + 4 * a, one, each)


add_rows = specialise(_add_rows, VERSION, {}, error_model="numpy")
