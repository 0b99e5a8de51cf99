"""The specification: ``out[index[i]] += source[i]`` from zeros, where rows that share an index add up."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import array_module, widen
from ..registry import Cost, kernel


def scatter_add_cost(source: Any, index: Any, *, rows: int) -> Cost:
    """Reads source and index once; each row added reads and writes a row of the output."""
    return Cost(bytes=3 * source.nbytes + index.nbytes, flops=source.size)


@kernel("scatter_add", cost=scatter_add_cost)
def scatter_add(source: Any, index: Any, *, rows: int) -> Any:
    """``source`` [n, width], ``index`` [n] of integers from 0 to ``rows`` - 1; returns [rows, width].

    float16 is added up in float32: as it is, it would stop counting at 2048 ones.
    """
    xp = array_module(source)
    wide = widen(source)
    if wide.dtype.kind in "biu":  # CUDA has no atomic sum of int64; that of uint64 wraps around to the same bits
        wide = wide.astype(np.uint64)
    out = xp.zeros((rows, source.shape[1]), wide.dtype)
    xp.add.at(out, index, wide)
    return out.astype(source.dtype, copy=False)


def take_rows_cost(table: Any, index: Any) -> Cost:
    """Reads and writes a row for each index."""
    row = table.itemsize * table.shape[1]
    return Cost(bytes=2 * index.size * row + index.nbytes, flops=0)


@kernel("take_rows", cost=take_rows_cost)
def take_rows(table: Any, index: Any) -> Any:
    """``table[index]``: of [rows, width] the rows at ``index`` [n], integers from 0 to ``rows`` - 1."""
    return table.take(index, axis=0)
