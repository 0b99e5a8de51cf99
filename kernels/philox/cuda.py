"""Random numbers from a counter in CUDA C++."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out, blocks_for
from ..registry import kernel

DIGITS = {"float32": 24, "float16": 11}  # bits of a uniform number
MODULE = Module(
    "philox/philox.cu",
    "philox_bits",
    *(f"philox_uniform<{TYPES[name]}, {digits}>" for name, digits in DIGITS.items()),
    *(f"philox_normal<{TYPES[name]}>" for name in DIGITS),
)


def _fill(name: str, key: Any, counter: int, count: int, dtype: np.dtype) -> Any:
    out = array_module(key).empty(count, dtype)
    MODULE.launch(name, *blocks_for(count, 4), key, np.uint64(counter), Out(out), np.int64(count))
    return out


def _narrow(key: Any, *, dtype: Any, **_: Any) -> bool:
    return np.dtype(dtype).name in DIGITS


@kernel("philox_bits", impl="cuda", device="cuda emu")
def philox_bits(key: Any, *, counter: int, count: int) -> Any:
    """``count`` random uint32."""
    return _fill("philox_bits", key, counter, count, np.dtype(np.uint32))


@kernel("philox_uniform", impl="cuda", device="cuda emu", when=_narrow)
def philox_uniform(key: Any, *, counter: int, count: int, dtype: Any) -> Any:
    """``count`` numbers uniform on [0, 1)."""
    dtype = np.dtype(dtype)
    return _fill(f"philox_uniform<{TYPES[dtype.name]}, {DIGITS[dtype.name]}>", key, counter, count, dtype)


@kernel("philox_normal", impl="cuda", device="cuda emu", when=_narrow)
def philox_normal(key: Any, *, counter: int, count: int, dtype: Any) -> Any:
    """``count`` standard normal numbers."""
    dtype = np.dtype(dtype)
    return _fill(f"philox_normal<{TYPES[dtype.name]}>", key, counter, count, dtype)
