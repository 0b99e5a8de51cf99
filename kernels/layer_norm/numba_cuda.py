"""Layer norm in Numba CUDA, to be read: a block has a row; mean and variance meet in a tree in shared memory.

It runs in Numba's simulator too (``NUMBA_ENABLE_CUDASIM=1``), on NumPy arrays and without a GPU.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float32

from ..arrays import array_module
from ..registry import kernel
from .reference import value_cost, vjp_cost

THREADS = 64  # of a block; a power of 2


@cuda.jit(device=True)
def _mean(parts, t, count):
    """The sum of what each thread has put in ``parts``, over ``count``, for all of them."""
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half:
            parts[t] += parts[t + half]
        cuda.syncthreads()
        half //= 2
    found = parts[0] / count
    cuda.syncthreads()  # parts is free for the next sum
    return found


@cuda.jit
def _layer_norm(x, weight, bias, eps, y, means, rstds):
    parts = cuda.shared.array(THREADS, float32)
    row, t, width = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]
    parts[t] = 0
    for j in range(t, width, THREADS):
        parts[t] += x[row, j]
    mean = _mean(parts, t, width)
    parts[t] = 0
    for j in range(t, width, THREADS):
        parts[t] += (x[row, j] - mean) * (x[row, j] - mean)
    rstd = 1 / math.sqrt(_mean(parts, t, width) + eps)
    for j in range(t, width, THREADS):
        y[row, j] = (x[row, j] - mean) * rstd * weight[j] + bias[j]
    if t == 0:
        means[row] = mean
        rstds[row] = rstd


@cuda.jit
def _layer_norm_vjp(g, x, weight, means, rstds, dx):
    parts = cuda.shared.array(THREADS, float32)
    row, t, width = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]
    mean, rstd = means[row], rstds[row]
    parts[t] = 0
    for j in range(t, width, THREADS):
        parts[t] += g[row, j] * weight[j]
    total = _mean(parts, t, width)
    parts[t] = 0
    for j in range(t, width, THREADS):
        parts[t] += g[row, j] * weight[j] * (x[row, j] - mean) * rstd
    along = _mean(parts, t, width)
    for j in range(t, width, THREADS):
        z = (x[row, j] - mean) * rstd
        dx[row, j] = (g[row, j] * weight[j] - total - z * along) * rstd


@cuda.jit
def _parameter_vjp(g, x, means, rstds, dweight, dbias):
    """A thread for each column."""
    j = cuda.grid(1)
    if j < x.shape[1]:
        along = float32(0)
        total = float32(0)
        for row in range(x.shape[0]):
            along += g[row, j] * (x[row, j] - means[row]) * rstds[row]
            total += g[row, j]
        dweight[j] = along
        dbias[j] = total


def _rows(x: Any, width: int) -> Any:
    return array_module(x).ascontiguousarray(x).reshape(-1, width)


def _parameter(p: Any, default: float, like: Any) -> Any:
    xp = array_module(like)
    return xp.full(like.shape[1], default, np.float32) if p is None else xp.ascontiguousarray(p).reshape(-1)


@kernel("layer_norm", impl="numba-cuda", device="cuda", dtypes="f4", study=True, cost=value_cost)
def layer_norm(x: Any, weight: Any, bias: Any, *, normalized_shape: tuple[int, ...], eps: float) -> tuple[Any, ...]:
    """y, mean and rstd."""
    xp, rows = array_module(x), _rows(x, math.prod(normalized_shape))
    y, means, rstds = xp.empty_like(rows), xp.empty(len(rows), np.float32), xp.empty(len(rows), np.float32)
    if rows.size:
        parameters = _parameter(weight, 1, rows), _parameter(bias, 0, rows)
        _layer_norm[len(rows), THREADS](rows, *parameters, np.float32(eps), y, means, rstds)
    samples = x.shape[: x.ndim - len(normalized_shape)] + (1,) * len(normalized_shape)
    return y.reshape(x.shape), means.reshape(samples), rstds.reshape(samples)


@kernel("layer_norm_vjp", impl="numba-cuda", device="cuda", dtypes="f4", study=True, cost=vjp_cost)
def layer_norm_vjp(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, *, normalized_shape: Any, eps: float
) -> tuple[Any, Any, Any]:
    """Gradients in x, weight and bias."""
    xp, rows = array_module(x), _rows(x, math.prod(normalized_shape))
    slopes, means, rstds = _rows(g, rows.shape[1]), mean.reshape(-1), rstd.reshape(-1)
    dx, dweight, dbias = xp.empty_like(rows), *(xp.zeros(rows.shape[1], np.float32) for _ in range(2))
    if rows.size:
        _layer_norm_vjp[len(rows), THREADS](slopes, rows, _parameter(weight, 1, rows), means, rstds, dx)
        blocks = -(-rows.shape[1] // THREADS)
        _parameter_vjp[blocks, THREADS](slopes, rows, means, rstds, dweight, dbias)
    return (
        dx.reshape(x.shape),
        None if weight is None else dweight.reshape(normalized_shape),
        None if bias is None else dbias.reshape(normalized_shape),
    )
