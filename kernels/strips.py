"""Images as matrices whose columns are channels, for CUDA kernels; ``strips.cuh`` has the other half."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import array_module
from .launch import begins_at_multiples_of


def channels_to_end(x: Any) -> Any:
    """(N, C, ...) as a contiguous (N, ..., C): a view if it lies so already, else a copy."""
    return array_module(x).ascontiguousarray(x.transpose(0, *range(2, x.ndim), 1))


def channels_back(x: Any) -> Any:
    """(N, ..., C) as (N, C, ...); a view."""
    return x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


def pack_of(channels: int, *arrays: Any) -> int:
    """How many numbers a thread takes at once: 16 bytes if every row of every array begins at a multiple of that."""
    widest = 16 // arrays[0].itemsize
    return widest if channels % widest == 0 and all(begins_at_multiples_of(16, a) for a in arrays) else 1


def statistics(*arrays: Any) -> tuple[Any, ...]:
    """Means and the like as contiguous float32 [n]; None stays None."""
    return tuple(None if a is None else array_module(a).ascontiguousarray(a.reshape(-1), np.float32) for a in arrays)


def parameters(x: Any, *given: Any) -> tuple[Any, ...]:
    """Weights and biases as contiguous arrays of the dtype of x; None stays None."""
    return tuple(None if p is None else array_module(x).ascontiguousarray(p, x.dtype) for p in given)
