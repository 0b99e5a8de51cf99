"""Addition in Numba, for arrays that are large enough for two threads: NumPy's has one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import LARGE
from ..layout import flat, middle, read_only
from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..vecmath import vector
from .reference import add_cost

BLOCK = 1 << 12  # elements that a thread takes at a time


@vector
def _run(a, b, y):
    for j in range(y.size):
        y[j] = a[j] + b[j]


def _add(a, b, y):
    for i in prange(-(-y.size // BLOCK)):
        run = slice(i * BLOCK, (i + 1) * BLOCK)
        _run(a[run], b[run], y[run])


def _add_spread(a, b, y):
    """Matrices [before, middle, after], of which ``b`` has but one row each."""
    for i in prange(y.shape[0] * y.shape[1]):
        _run(a[i // y.shape[1], i % y.shape[1]], b[i // y.shape[1], 0], y[i // y.shape[1], i % y.shape[1]])


_compiled = {body: serial_and_parallel(body)[True] for body in (_add, _add_spread)}


def _is_worth_it(a: Any, b: Any) -> bool:
    return isinstance(b, np.ndarray) and a.dtype == b.dtype and max(a.size, b.size) >= LARGE


@kernel("add", impl="numba", device="cpu", dtypes="f4", when=_is_worth_it, cost=add_cost)
def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.shape == b.shape:
        out = np.empty_like(a)
        y, flat_a, flat_b = flat(out, a, b)
        _compiled[_add](*read_only(flat_a, flat_b), y)
        return out
    if a.size < b.size:
        a, b = b, a
    out = np.empty_like(a)
    spread = middle(out, b.shape)
    if spread is None:
        return np.add(a, b)
    order, shape, row = spread
    matrices, sums = (np.ascontiguousarray(x.transpose(order)).reshape(shape) for x in (a, out))
    rows = b.reshape((1,) * (a.ndim - b.ndim) + b.shape).transpose(order)
    _compiled[_add_spread](*read_only(matrices, np.ascontiguousarray(rows).reshape(row)), sums)
    return out


def _in_one_order(a: Any, b: Any) -> bool:
    return _is_worth_it(a, b) and a.strides == b.strides and a.flags.forc


@kernel("accumulate", impl="numba", device="cpu", dtypes="f4", when=_in_one_order, cost=add_cost)
def accumulate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    y, other = flat(a, b)
    _compiled[_add](*read_only(y, other), y)
    return a
