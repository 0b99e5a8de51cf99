"""Addition in CUDA C++."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Changed, Module, Out, begins_at_multiples_of, blocks_for
from ..layout import flat, is_packed, middle
from ..registry import kernel
from ..strips import pack_of
from .reference import add_cost

THREADS, STRIPS = 256, 32  # of a block; packs side by side
ROWS = 16  # that a thread takes
MODULE = Module(
    "add/add.cu",
    *(f"{name}<{t}>" for t in TYPES.values() for name in ("add", "accumulate")),
    *(f"add_spread<{t}, {n}>" for code, t in TYPES.items() for n in (4 if code == "float32" else 8, 1)),
)


def _is_alike(a: Any, b: Any) -> bool:
    """Whether the arrays have one shape, one dtype, and the first no gaps."""
    return a.shape == b.shape and a.dtype == b.dtype and a.size > 0 and is_packed(a)


def _larger_first(a: Any, b: Any) -> tuple[Any, Any]:
    return (a, b) if a.size >= b.size else (b, a)


def _fits(a: Any, b: Any) -> bool:
    if _is_alike(a, b):
        return True
    large, small = _larger_first(a, b)
    return a.dtype == b.dtype and large.size > 0 and is_packed(large) and middle(large, small.shape) is not None


_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


@kernel("add", when=_fits, cost=add_cost, **_on_gpu)
def add(a: Any, b: Any) -> Any:
    """``a + b``, of arrays of one shape or with the rows of the smaller spread over the larger's matrices."""
    if not _is_alike(a, b):
        return _spread(*_larger_first(a, b))
    out = np.empty_like(a)
    y, *inputs = flat(out, a, b)
    aligned = np.int32(all(begins_at_multiples_of(16, x) for x in (y, *inputs)))
    name = f"add<{TYPES[a.dtype.name]}>"
    MODULE.launch(name, *blocks_for(a.size, 16 // a.itemsize), *inputs, Out(y), np.int64(a.size), aligned)
    return out


def _spread(a: Any, b: Any) -> Any:
    found = middle(a, b.shape)
    assert found is not None
    out = np.empty_like(a)
    before, between, after = found.shape
    big, result = (x.transpose(found.order).reshape(found.shape) for x in (a, out))
    lead = b.reshape((1,) * (a.ndim - b.ndim) + b.shape)
    small = array_module(a).ascontiguousarray(lead.transpose(found.order)).reshape(before, after)
    pack = pack_of(after, big, small, result)
    strips = min(STRIPS, after // pack)
    chunk = ROWS * (THREADS // strips)
    sizes = (np.int32(n) for n in (between, after, strips * pack, chunk))
    grid = before * -(-after // (strips * pack)), -(-between // chunk)
    MODULE.launch(f"add_spread<{TYPES[a.dtype.name]}, {pack}>", grid, THREADS, big, small, Out(result), *sizes)
    return out


@kernel("accumulate", when=_is_alike, cost=add_cost, **_on_gpu)
def accumulate(a: Any, b: Any) -> Any:
    """``a += b``."""
    x, y = flat(a, b)
    aligned = np.int32(begins_at_multiples_of(16, x) and begins_at_multiples_of(16, y))
    name = f"accumulate<{TYPES[a.dtype.name]}>"
    MODULE.launch(name, *blocks_for(a.size, 16 // a.itemsize), Changed(x), y, np.int64(a.size), aligned)
    return a
