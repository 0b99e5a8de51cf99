"""Both passes of clipping by norm in CUDA C++, over all arrays together; nothing waits for the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Changed, Module, Out
from ..registry import kernel
from ..tables import THREADS, alike, tables
from . import reference
from .reference import norm_cost, scale_cost

MODULE = Module(
    "clip/clip.cu", *(f"{name}<{t}>" for t in TYPES.values() for name in ("squares", "finish_norm", "scale_many"))
)
_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


@kernel("norm_many", cost=norm_cost, **_on_gpu)
def norm_many(arrays: Sequence[Any]) -> Any:
    """The square root of the sum of all squares; 0-d."""
    if not alike(arrays):
        return reference.norm_many(arrays)
    xp, t = array_module(*arrays), TYPES[arrays[0].dtype.name]
    launches = list(tables(arrays))
    parts = xp.empty(sum(blocks for _, blocks in launches), np.float32)
    done = 0
    for table, blocks in launches:
        MODULE.launch(f"squares<{t}>", blocks, THREADS, table, Out(parts[done : done + blocks]))
        done += blocks
    norm = xp.empty((), arrays[0].dtype)
    MODULE.launch(f"finish_norm<{t}>", 1, THREADS, parts, np.int32(done), Out(norm))
    return norm


@kernel("scale_many", cost=scale_cost, **_on_gpu)
def scale_many(arrays: Sequence[Any], factor: Any) -> None:
    """Multiply every array by a number, in place."""
    if not alike(arrays):
        reference.scale_many(arrays, factor)
        return
    by = array_module(*arrays).asarray(factor, np.float32)
    for table, blocks in tables([Changed(a) for a in arrays]):
        MODULE.launch(f"scale_many<{TYPES[arrays[0].dtype.name]}>", blocks, THREADS, table, by)
