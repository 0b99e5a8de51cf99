"""Joining arrays in CUDA C++, all of them in one launch."""

from __future__ import annotations

from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Holding, Module, Out
from ..layout import memory_order
from ..registry import kernel
from ..strips import pack_of
from .reference import cat_cost

MOST_PIECES, THREADS, BLOCKS = 64, 256, 1024
PACKS = 4  # that a thread takes, at least
MODULE = Module(
    "cat/cat.cu", *(f"cat<{t}, {n}>" for code, t in TYPES.items() for n in (4 if code == "float32" else 8, 1))
)
PIECES = np.dtype(
    [
        ("address", np.uint64, (1, MOST_PIECES)),
        ("length", np.int32, MOST_PIECES),
        ("offset", np.int32, MOST_PIECES),
        ("rows", np.int32),
        ("pitch", np.int32),
    ]
)


def _fits(*arrays: Any, dim: int) -> bool:
    size, dtype = sum(a.size for a in arrays), arrays[0].dtype
    return 0 < size < 1 << 31 and len(arrays) <= MOST_PIECES and all(a.dtype == dtype for a in arrays)


@kernel("cat", impl="cuda", device="cuda emu", dtypes="f4 f2", when=_fits, cost=cat_cost)
def cat(*arrays: Any, dim: int) -> Any:
    """The arrays one after another along ``dim``, in the memory order of the first."""
    first, xp = arrays[0], array_module(*arrays)
    order = memory_order(first)
    at = order.index(dim % first.ndim)
    pieces = [xp.ascontiguousarray(a.transpose(order)) for a in arrays]
    shape = list(pieces[0].shape)
    shape[at] = sum(p.shape[at] for p in pieces)
    out = xp.empty(shape, first.dtype)
    record = np.zeros((), PIECES)
    lengths = [prod(p.shape[at:]) for p in pieces]
    offsets = [end - length for end, length in zip(accumulate(lengths), lengths)]
    record["length"][: len(pieces)], record["offset"][: len(pieces)] = lengths, offsets
    record["rows"], record["pitch"] = prod(shape[:at]), prod(shape[at:])
    pack = min(pack_of(length, out, *pieces) for length in lengths)
    blocks = -(-max(p.size for p in pieces) // (THREADS * pack * PACKS))
    grid = min(blocks, BLOCKS), len(pieces)
    MODULE.launch(f"cat<{TYPES[out.dtype.name]}, {pack}>", grid, THREADS, Holding(record, [pieces]), Out(out))
    return out.transpose(sorted(range(first.ndim), key=order.__getitem__))
