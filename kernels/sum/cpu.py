"""Sums in Numba, for arrays that are large enough for two threads.

Partial sums are over blocks that do not depend on the number of threads, so neither do the bits of the result; and
none of them is long, so its rounding error is small.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import LARGE
from ..layout import flat, is_packed, middle, read_only
from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..sums import accurate_sum
from ..vecmath import ZERO, vector, vector_sums
from .reference import sum_cost

BLOCK = 1 << 12  # elements that go into one partial sum


@vector_sums
def _block_sum(x):
    total = ZERO
    for j in range(x.size):
        total += x[j]
    return total


@vector
def _add_rows(x, y):
    y[:] = ZERO
    for i in range(x.shape[0]):
        for j in range(y.size):
            y[j] += x[i, j]


def _all(x, sums):
    for b in prange(sums.size):
        sums[b] = _block_sum(x[b * BLOCK : (b + 1) * BLOCK])


def _middle(x, rows, sums):
    """Of [before, middle, after] over each ``rows`` of the middle; ``sums`` is [before, blocks, after]."""
    for b in prange(sums.shape[0] * sums.shape[1]):
        i, block = b // sums.shape[1], b % sums.shape[1]
        _add_rows(x[i, block * rows : (block + 1) * rows], sums[i, block])


_compiled = {body: serial_and_parallel(body)[True] for body in (_all, _middle)}


@kernel("sum", impl="numba", device="cpu", dtypes="f4", when=lambda x, **_: x.size >= LARGE, cost=sum_cost)
def sum(x: np.ndarray, *, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
    dims = range(x.ndim) if dim is None else dim
    kept = tuple(1 if i in dims else n for i, n in enumerate(x.shape))
    shape = kept if keepdim else tuple(n for i, n in enumerate(x.shape) if i not in dims)
    if not is_packed(x):
        return accurate_sum(x, dim, keepdim)
    if all(n == 1 for n in kept):
        sums = np.empty(-(-x.size // BLOCK), np.float32)
        _compiled[_all](*read_only(*flat(x)), sums)
        return sums.sum().reshape(shape)
    found = middle(x, kept)
    if found is None:
        return accurate_sum(x, dim, keepdim)
    before, between, after = found.shape
    rows = max(16, BLOCK // after)
    partial = np.empty((before, -(-between // rows), after), np.float32)
    _compiled[_middle](*read_only(x.transpose(found.order).reshape(found.shape)), rows, partial)
    total = accurate_sum(partial, (1,))
    in_order = total.reshape([kept[i] for i in found.order])
    return in_order.transpose(np.argsort(found.order)).reshape(shape)
