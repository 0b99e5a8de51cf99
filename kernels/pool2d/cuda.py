"""Max pooling and its derivatives in CUDA C++."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..arrays import array_module, channels_last
from ..launch import TYPES, Module, Out, blocks_for
from ..registry import kernel
from ..resample.axis import AxisMap
from ..resample.cuda import axis
from ..scatter_add.cuda import scatter_add
from .reference import max_pool2d_cost, pool_gather_cost, pool_scatter_cost

MODULE = Module("pool2d/pool2d.cu", *(f"{kind}<{t}>" for t in TYPES.values() for kind in ("max_pool2d", "pool_gather")))
_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


def _fits(x: Any, **_: Any) -> bool:
    return prod(x.shape[2:]) < 1 << 31  # indices are int32


@kernel("max_pool2d", when=_fits, cost=max_pool2d_cost, **_on_gpu)
def max_pool2d(x: Any, *, rows: AxisMap, columns: AxisMap) -> tuple[Any, Any]:
    """The largest value of each window and its index in the flattened image."""
    xp, (n, c) = array_module(x), x.shape[:2]
    shape = n, rows.outputs, columns.outputs, c
    y, index = xp.empty(shape, x.dtype), xp.empty(shape, np.int32)
    entries = [xp.asarray(a) for m in (rows, columns) for a in m.entries[:2]]
    MODULE.launch(
        f"max_pool2d<{TYPES[x.dtype.name]}>", *blocks_for(y.size), channels_last(x), *entries, Out(y), Out(index),
        np.int64(y.size), np.int32(c), axis(rows), axis(columns),
    )  # fmt: skip
    return y.transpose(0, 3, 1, 2), index.transpose(0, 3, 1, 2)


@kernel("pool_gather", cost=pool_gather_cost, **_on_gpu)
def pool_gather(x: Any, index: Any) -> Any:
    """What ``x`` holds at the indices, channels last in memory."""
    xp, (n, c, p, q) = array_module(x), index.shape
    y = xp.empty((n, p, q, c), x.dtype)
    places = channels_last(index).astype(np.int32, copy=False)
    sizes = np.int64(y.size), np.int32(c), np.int32(prod(x.shape[2:])), np.int32(p * q)
    MODULE.launch(f"pool_gather<{TYPES[x.dtype.name]}>", *blocks_for(y.size), channels_last(x), places, Out(y), *sizes)
    return y.transpose(0, 3, 1, 2)


@kernel("pool_scatter", cost=pool_scatter_cost, **_on_gpu)
def pool_scatter(y: Any, index: Any, *, size: tuple[int, int]) -> Any:
    """Each element of ``y`` added to its place in zeros: a sum by sorted places, in the same order in every run."""
    xp, (n, c) = array_module(y), y.shape[:2]
    pixels = prod(size)
    places = (xp.arange(n).reshape(n, 1, 1, 1) * pixels + channels_last(index)) * c + xp.arange(c)
    x = scatter_add(channels_last(y).reshape(-1, 1), places.reshape(-1), rows=n * pixels * c)
    return x.reshape(n, *size, c).transpose(0, 3, 1, 2)
