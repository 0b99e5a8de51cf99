"""The product of matrices in Numba CUDA, to be read: matmul.cu's second version in Python, tiles in shared memory.

It runs in Numba's simulator too (``NUMBA_ENABLE_CUDASIM=1``), on NumPy arrays and without a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32

from ..arrays import array_module
from ..registry import kernel
from .reference import matmul_cost

TILE = 8


@cuda.jit
def _matmul(a, b, c):
    left = cuda.shared.array((TILE, TILE), float32)  # on lines of their own: that is how the simulator tells them apart
    right = cuda.shared.array((TILE, TILE), float32)
    r, s = cuda.threadIdx.y, cuda.threadIdx.x
    row, column = cuda.blockIdx.y * TILE + r, cuda.blockIdx.x * TILE + s
    total = float32(0)
    for start in range(0, a.shape[1], TILE):
        inside = row < a.shape[0] and start + s < a.shape[1]
        left[r, s] = a[row, start + s] if inside else float32(0)
        inside = start + r < b.shape[0] and column < b.shape[1]
        right[r, s] = b[start + r, column] if inside else float32(0)
        cuda.syncthreads()
        for i in range(TILE):
            total += left[r, i] * right[i, s]
        cuda.syncthreads()
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


def _two_matrices(a: Any, b: Any) -> bool:
    return a.ndim == b.ndim == 2 and a.dtype == b.dtype


@kernel("matmul", impl="numba-cuda", device="cuda", dtypes="f4", study=True, when=_two_matrices, cost=matmul_cost)
def matmul(a: Any, b: Any) -> Any:
    """``a`` [m, k] times ``b`` [k, n]."""
    xp = array_module(a)
    out = xp.empty((a.shape[0], b.shape[1]), np.float32)
    if out.size:
        grid = -(-out.shape[1] // TILE), -(-out.shape[0] // TILE)
        _matmul[grid, (TILE, TILE)](xp.ascontiguousarray(a), xp.ascontiguousarray(b), out)
    return out
