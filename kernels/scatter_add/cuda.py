"""Adding rows to the rows of a table in CUDA C++, in the same order in every run."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out, blocks_for
from ..registry import kernel
from .reference import scatter_add_cost

MODULE = Module("scatter_add/scatter_add.cu", *(f"scatter_add<{t}>" for t in TYPES.values()))


@kernel("scatter_add", impl="cuda", device="cuda emu", dtypes="f4 f2", cost=scatter_add_cost)
def scatter_add(source: Any, index: Any, *, rows: int) -> Any:
    """``source`` [n, width], ``index`` [n]; returns [rows, width]."""
    xp, width = array_module(source), source.shape[1]
    out = xp.empty((rows, width), source.dtype)
    order = xp.argsort(index, kind="stable").astype(np.int64, copy=False)
    starts = xp.searchsorted(index[order], xp.arange(rows + 1)).astype(np.int64, copy=False)
    arrays = xp.ascontiguousarray(source), order, starts, Out(out)
    MODULE.launch(
        f"scatter_add<{TYPES[source.dtype.name]}>", *blocks_for(out.size), *arrays, np.int32(rows), np.int32(width)
    )
    return out
