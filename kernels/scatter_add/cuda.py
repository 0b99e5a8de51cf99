"""Looking up rows of a table and adding rows to those of a table in CUDA C++; sums in the same order in every run."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out, blocks_for
from ..registry import kernel
from ..strips import pack_of
from .reference import scatter_add_cost, take_rows_cost

MODULE = Module(
    "scatter_add/scatter_add.cu",
    *(
        f"{name}<{t}, {n}>"
        for code, t in TYPES.items()
        for name in ("scatter_add", "take_rows")
        for n in (4 if code == "float32" else 8, 1)
    ),
)


@kernel("scatter_add", impl="cuda", device="cuda emu", dtypes="f4 f2", cost=scatter_add_cost)
def scatter_add(source: Any, index: Any, *, rows: int) -> Any:
    """``source`` [n, width], ``index`` [n]; returns [rows, width]."""
    xp, width = array_module(source), source.shape[1]
    out = xp.empty((rows, width), source.dtype)
    order = xp.argsort(index, kind="stable").astype(np.int64, copy=False)
    starts = xp.searchsorted(index[order], xp.arange(rows + 1)).astype(np.int64, copy=False)
    source = xp.ascontiguousarray(source)
    pack = pack_of(width, source)
    name = f"scatter_add<{TYPES[out.dtype.name]}, {pack}>"
    MODULE.launch(name, *blocks_for(out.size, pack), source, order, starts, Out(out), np.int32(rows), np.int32(width))
    return out


@kernel("take_rows", impl="cuda", device="cuda emu", dtypes="f4 f2", cost=take_rows_cost)
def take_rows(table: Any, index: Any) -> Any:
    """Of ``table`` [rows, width] the rows at ``index`` [n]."""
    xp, width = array_module(table), table.shape[1]
    out = xp.empty((len(index), width), table.dtype)
    table, index = xp.ascontiguousarray(table), xp.ascontiguousarray(index, np.int64)
    pack = pack_of(width, table)
    name = f"take_rows<{TYPES[out.dtype.name]}, {pack}>"
    MODULE.launch(name, *blocks_for(out.size, pack), table, index, Out(out), np.int32(len(index)), np.int32(width))
    return out
