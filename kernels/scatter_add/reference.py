"""The specification: ``out[index[i]] += source[i]`` from zeros, where rows that share an index add up."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import array_module
from ..registry import Cost, kernel


def accumulator(dtype: np.dtype) -> np.dtype:
    """The type to add up in: half precision would stop counting at 2048 ones."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def scatter_add_cost(source: Any, index: Any, *, rows: int) -> Cost:
    """Reads source and index once; each row added reads and writes a row of the output."""
    return Cost(bytes=3 * source.nbytes + index.nbytes, flops=source.size)


@kernel("scatter_add", cost=scatter_add_cost)
def scatter_add(source: Any, index: Any, *, rows: int) -> Any:
    """``source`` [n, width], ``index`` [n] of integers from 0 to ``rows`` - 1; returns [rows, width]."""
    xp = array_module(source)
    out = xp.zeros((rows, source.shape[1]), accumulator(source.dtype))
    xp.add.at(out, index, source)
    return out.astype(source.dtype, copy=False)
