"""One array module for both libraries: NumPy or CuPy, whichever the array belongs to."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

LARGE = 1 << 16  # elements from which a kernel pays for what NumPy does in one pass, on one thread


def array_module(*arrays: Any) -> Any:
    """``cupy`` if any argument is a CuPy array, else ``numpy``. Never imports CuPy by itself."""
    cupy = sys.modules.get("cupy")
    if cupy is not None and any(isinstance(a, cupy.ndarray) for a in arrays):
        return cupy
    return np


def widen(a: Any) -> Any:
    """float16 as float32, the type to compute and to add up in; other types as they are."""
    return a.astype(np.float32) if a.dtype == np.float16 else a


def channels_last(x: Any) -> Any:
    """An NCHW array in any strides as a contiguous (N, H, W, C) one: a view if it lies so already, else a copy."""
    return array_module(x).ascontiguousarray(x.transpose(0, 2, 3, 1))


_CHANNELS_LAST = np.empty((1, 2, 2, 2)).transpose(0, 3, 1, 2)


def empty_channels_last(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An NCHW array that lies in memory as (N, H, W, C) and owns it: a gradient that is a view would be copied."""
    return np.empty_like(_CHANNELS_LAST, dtype, shape=shape)
