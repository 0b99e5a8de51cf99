"""Sums in CUDA C++: the dimensions as they lie in memory, one run of them after another."""

from __future__ import annotations

from itertools import groupby
from math import prod
from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out
from ..layout import is_packed, memory_order
from ..registry import kernel
from ..strips import pack_of
from .reference import sum_cost

THREADS, STRIPS = 256, 32  # of a block; packs side by side
SHORT = 512  # numbers of a row that a warp adds up
BLOCKS = 1024  # to aim for, whatever the GPU
LEAST, MOST = 16, 256  # numbers or packs that a thread adds up
_PAIRS = [("float", t) for t in TYPES.values()] + [(t, u) for t in ("half_t", "bfloat_t") for u in (t, "float")]
MODULE = Module(
    "sum/sum.cu",
    *(f"sum_short_rows<{a}, {b}>" for a, b in _PAIRS),
    *(
        f"{name}<{a}, {b}, {n}>"
        for name in ("sum_rows", "sum_middle")
        for a, b in _PAIRS
        for n in (4 if a == "float" else 8, 1)
    ),
)


def _chunks(length: int, beside: int, blocks: int) -> tuple[int, int]:
    """How many chunks, and how long each, of ``length`` when ``beside`` of it go at once in each of ``blocks``."""
    chunk = min(max(-(-length // max(1, BLOCKS // blocks)), LEAST * beside), MOST * beside)
    return -(-length // chunk), chunk


def _sum_run(x: Any, before: int, n: int, after: int, dtype: Any) -> Any:
    """The sums [before, after] of [before, n, after]."""
    xp, given = array_module(x), TYPES[x.dtype.name]
    if after == 1 and n <= SHORT:
        out = xp.empty((before, 1), dtype)
        name = f"sum_short_rows<{given}, {TYPES[out.dtype.name]}>"
        MODULE.launch(name, -(-before // 8), (32, 8), x, Out(out), np.int32(before), np.int32(n))
        return out
    pack = pack_of(n if after == 1 else after, x)
    if after == 1:
        chunks, chunk = _chunks(n, THREADS * pack, before)
        grid = before, chunks
    else:
        strips = min(STRIPS, after // pack)
        tiles = before * -(-after // (strips * pack))
        chunks, chunk = _chunks(n, THREADS // strips, tiles)
        grid = tiles, chunks
    out = xp.empty((before, chunks, after), dtype if chunks == 1 else np.float32)
    types = f"{given}, {TYPES[out.dtype.name]}, {pack}"
    if after == 1:
        MODULE.launch(f"sum_rows<{types}>", grid, THREADS, x, Out(out), np.int64(n), np.int32(chunk))
    else:
        sizes = (np.int32(k) for k in (n, after, strips * pack, chunk))
        MODULE.launch(f"sum_middle<{types}>", grid, THREADS, x, Out(out), *sizes, shared=4 * THREADS * pack)
    return out if chunks == 1 else _sum_run(out, before, chunks, after, dtype)


def _fits(x: Any, **_: Any) -> bool:
    return 0 < x.size < 1 << 31 and x.ndim > 0 and is_packed(x)


@kernel("sum", impl="cuda", device="cuda emu", dtypes="f4 f2", when=_fits, cost=sum_cost)
def sum(x: Any, *, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
    """Of an array over ``dim`` (None: all)."""
    reduced = set(range(x.ndim)) if dim is None else {d % x.ndim for d in dim}
    order = memory_order(x)
    dims = [i for i in order if x.shape[i] != 1]
    # Neighbours in memory that are added up together, or kept together.
    runs = [(gone, prod(x.shape[i] for i in run)) for gone, run in groupby(dims, lambda i: i in reduced)]
    values = x.transpose(order).reshape(-1)
    places = [i for i, (gone, _) in enumerate(runs) if gone]
    if not places:
        values = values.copy()
    for place in reversed(places):
        before, after = (prod(size for _, size in part) for part in (runs[:place], runs[place + 1 :]))
        dtype = x.dtype if place == places[0] else np.float32
        values = _sum_run(values, before, runs[place][1], after, dtype)
        runs[place] = (False, 1)
    kept = [i for i in order if keepdim or i not in reduced]
    shaped = values.reshape([1 if i in reduced else x.shape[i] for i in kept])
    return shaped.transpose(sorted(range(len(kept)), key=kept.__getitem__))
