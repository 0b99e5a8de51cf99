"""Sums whose rounding error does not grow with their length."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

STAGED_FROM = 1 << 15  # elements; shorter sums in one pass lose at most a few digits and are over sooner


def accurate_sum(x: Any, axes: tuple[int, ...] | None, keepdims: bool = False) -> Any:
    """The sum of a floating-point array over ``axes`` (None: all), in its own dtype.

    NumPy adds pairwise along memory, but along other axes one row after another, where a float32 sum of n numbers is
    off by up to n half ulps: after 2^24 ones it stands still. Axis by axis, long axes in blocks of about sqrt(n), no
    number takes part in more than some sqrt(n) additions, and the memory is still read once. float16 is added up in
    float32.
    """
    if x.dtype.char == "e":
        with np.errstate(over="ignore"):  # beyond 65504 is inf
            return accurate_sum(x.astype(np.float32), axes, keepdims).astype(np.float16)
    if x.size < STAGED_FROM or type(x) is not np.ndarray:
        return x.sum(axis=axes, keepdims=keepdims)
    axes = tuple(range(x.ndim)) if axes is None else axes
    if len(axes) == x.ndim and x.flags.forc:
        return x.sum(axis=axes, keepdims=keepdims)
    for axis in sorted(axes, key=lambda axis: -abs(x.strides[axis])):
        x = _sum_axis(x, axis)
    return x if keepdims else x.squeeze(axes)


def _sum_axis(x: np.ndarray, axis: int) -> np.ndarray:
    n = x.shape[axis]
    block = math.isqrt(n)
    if block < 16 or x.strides[axis] == x.itemsize:
        return x.sum(axis=axis, keepdims=True)
    rows = np.moveaxis(x, axis, 0)
    whole = block * block
    total = rows[:whole].reshape(block, block, *rows.shape[1:]).sum(axis=1).sum(axis=0)
    total += rows[whole:].sum(axis=0)
    return np.expand_dims(total, axis)
