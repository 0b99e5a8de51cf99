"""Softmax in Numba CUDA, to be read: softmax.cu's second version in Python. A block has a row; sums meet in a tree.

It runs in Numba's simulator too (``NUMBA_ENABLE_CUDASIM=1``), on NumPy arrays and without a GPU.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float32

from ..layout import from_rows, row_order, to_rows
from ..registry import kernel
from .reference import value_cost, vjp_cost

THREADS = 64  # of a block; a power of 2


@cuda.jit(device=True)
def _largest(parts, t):
    """The largest of what each thread has put in ``parts``, for all of them."""
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half:
            parts[t] = max(parts[t], parts[t + half])
        cuda.syncthreads()
        half //= 2
    found = parts[0]
    cuda.syncthreads()  # parts is free for the next reduction
    return found


@cuda.jit(device=True)
def _total(parts, t):
    """Their sum."""
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half:
            parts[t] += parts[t + half]
        cuda.syncthreads()
        half //= 2
    found = parts[0]
    cuda.syncthreads()
    return found


@cuda.jit
def _softmax(x, y):
    parts = cuda.shared.array(THREADS, float32)
    row, t, width = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]
    parts[t] = -math.inf
    for j in range(t, width, THREADS):
        parts[t] = max(parts[t], x[row, j])
    top = _largest(parts, t)
    parts[t] = 0
    for j in range(t, width, THREADS):
        parts[t] += math.exp(x[row, j] - top)
    total = _total(parts, t)
    for j in range(t, width, THREADS):
        y[row, j] = math.exp(x[row, j] - top) / total


@cuda.jit
def _softmax_vjp(g, y, dx):
    parts = cuda.shared.array(THREADS, float32)
    row, t, width = cuda.blockIdx.x, cuda.threadIdx.x, y.shape[1]
    parts[t] = 0
    for j in range(t, width, THREADS):
        parts[t] += g[row, j] * y[row, j]
    mean = _total(parts, t)
    for j in range(t, width, THREADS):
        dx[row, j] = y[row, j] * (g[row, j] - mean)


def _by_rows(body: Any, *arrays: Any, dim: int) -> Any:
    like = arrays[-1]
    order = row_order(like, dim)
    rows = [to_rows(a, order) for a in arrays]
    out = np.empty_like(rows[-1])
    if out.size:
        body[len(out), THREADS](*rows, out)
    return from_rows(out, like.shape, order)


@kernel("softmax", impl="numba-cuda", device="cuda", dtypes="f4", study=True, cost=value_cost)
def softmax(x: Any, *, dim: int) -> Any:
    """A block for each row."""
    return _by_rows(_softmax, x, dim=dim)


@kernel("softmax_vjp", impl="numba-cuda", device="cuda", dtypes="f4", study=True, cost=vjp_cost)
def softmax_vjp(g: Any, y: Any, x: None, *, dim: int) -> Any:
    """Likewise."""
    return _by_rows(_softmax_vjp, g, y, dim=dim)
