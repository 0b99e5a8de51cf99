"""Both passes in Numba, over all arrays in one call. The norm is added up by blocks, whatever the threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..many import block_of, in_one_run, tabulate
from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..vecmath import ZERO, vector, vector_sums
from . import reference
from .reference import norm_cost, scale_cost

PARALLEL_FROM = 1 << 16  # elements; below this a second thread costs more than it saves


@vector_sums
def _sum_of_squares(x):
    total = ZERO
    for i in range(x.size):
        total += x[i] * x[i]
    return total


@vector
def _scale(x, factor):
    for i in range(x.size):
        x[i] *= factor


def _squares(addresses, blocks, sums):
    for b in prange(blocks.shape[0]):
        sums[b] = _sum_of_squares(block_of(addresses[blocks[b, 0], 0], blocks[b, 1], blocks[b, 2]))


def _scale_all(addresses, blocks, factor):
    for b in prange(blocks.shape[0]):
        _scale(block_of(addresses[blocks[b, 0], 0], blocks[b, 1], blocks[b, 2]), factor)


_compiled = {body: serial_and_parallel(body) for body in (_squares, _scale_all)}


def _split(arrays: Sequence[np.ndarray]) -> bool:
    return sum(a.size for a in arrays) >= PARALLEL_FROM


@kernel("norm_many", impl="numba", device="cpu", dtypes="f4", cost=norm_cost)
def norm_many(arrays: Sequence[np.ndarray]) -> Any:
    if not in_one_run(arrays):
        return reference.norm_many(arrays)
    addresses, blocks = tabulate(arrays, fresh=0)
    sums = np.empty(len(blocks), np.float32)
    _compiled[_squares][_split(arrays)](addresses, blocks, sums)
    return np.asarray(np.sqrt(sums.sum(dtype=np.float64)), np.float32)


@kernel("scale_many", impl="numba", device="cpu", dtypes="f4", cost=scale_cost)
def scale_many(arrays: Sequence[np.ndarray], factor: Any) -> None:
    if not in_one_run(arrays):
        reference.scale_many(arrays, factor)
        return
    addresses, blocks = tabulate(arrays, fresh=0)
    _compiled[_scale_all][_split(arrays)](addresses, blocks, np.float32(factor))
