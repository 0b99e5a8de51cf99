"""Dropout in CUDA C++."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out, begins_at_multiples_of, blocks_for
from ..registry import kernel
from .reference import dropout_cost

MODULE = Module("dropout/dropout.cu", *(f"dropout<{t}>" for t in TYPES.values()))


@kernel("dropout", impl="cuda", device="cuda emu", dtypes="f4 f2", cost=dropout_cost)
def dropout(x: Any, *, key: Any, counter: int, p: float) -> Any:
    """0 with probability ``p``, else ``x / (1 - p)``; kept are the numbers that the reference keeps."""
    x = array_module(x).ascontiguousarray(x).reshape(x.shape)  # CuPy's and NumPy's make a 0-d array 1-d
    out = array_module(x).empty_like(x)
    # The uniform k 2^-24 is at least p, as a float32, where k is at least this.
    least = np.uint32(math.ceil(float(np.float32(p)) * (1 << 24)))
    scale = np.float32(1 / (1 - p) if p < 1 else 1)
    aligned = np.int32(begins_at_multiples_of(16, x))
    MODULE.launch(
        f"dropout<{TYPES[x.dtype.name]}>", *blocks_for(x.size, 16 // x.itemsize),
        key, np.uint64(counter), x, Out(out), np.int64(x.size), aligned, least, scale,
    )  # fmt: skip
    return out
