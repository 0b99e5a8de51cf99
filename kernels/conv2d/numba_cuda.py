"""Convolution and its two adjoints in Numba CUDA, to be read: conv2d.cu's idea in Python.

All three are products of matrices that are never made: a block multiplies tiles in shared memory, as in
``matmul/numba_cuda.py``, and what goes into the tiles is looked up in the images (reference.py says which number).
They run in Numba's simulator too (``NUMBA_ENABLE_CUDASIM=1``), on NumPy arrays and without a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32

from ..arrays import array_module, channels_last
from ..registry import kernel
from .reference import Pair, conv2d_cost, conv2d_input_cost, conv2d_weight_cost, finish

TILE = 8


@cuda.jit(device=True)
def _window(x, pixel, tap, channel, columns, rows, taps, how):
    """The number of x [N, H, W, C] that a tap of the window at ``pixel`` of y reads; 0 beyond the edges."""
    q, p, image = pixel % columns, pixel // columns % rows, pixel // (columns * rows)
    h = p * how[0] - how[2] + tap // taps * how[4]
    v = q * how[1] - how[3] + tap % taps * how[5]
    if image < x.shape[0] and 0 <= h < x.shape[1] and 0 <= v < x.shape[2]:
        return x[image, h, v, channel]
    return float32(0)


@cuda.jit(device=True)
def _reader(y, pixel, tap, channel, columns, rows, taps, how):
    """The number of y [N, P, Q, K] whose window's tap reads ``pixel`` of x; 0 if there is none."""
    v, u, image = pixel % columns, pixel // columns % rows, pixel // (columns * rows)
    p, q = u + how[2] - tap // taps * how[4], v + how[3] - tap % taps * how[5]
    if image < y.shape[0] and p >= 0 and q >= 0 and p % how[0] == 0 and q % how[1] == 0:
        p, q = p // how[0], q // how[1]
        if p < y.shape[1] and q < y.shape[2]:
            return y[image, p, q, channel]
    return float32(0)


@cuda.jit
def _conv2d(x, w, y, how):
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, TILE), float32)
    i, j, group = cuda.threadIdx.y, cuda.threadIdx.x, cuda.blockIdx.z
    pixel, out = cuda.blockIdx.y * TILE + i, cuda.blockIdx.x * TILE + j
    outs, depth, taps = w.shape[0] // how[6], w.shape[1], w.shape[2] * w.shape[3]
    total = float32(0)
    for start in range(0, taps * depth, TILE):
        a, b = start + j, start + i  # of left's columns and right's rows: taps, and in each its channels
        left[i, j] = float32(0)
        if a < taps * depth:
            channel = group * depth + a % depth
            left[i, j] = _window(x, pixel, a // depth, channel, y.shape[2], y.shape[1], w.shape[3], how)
        right[i, j] = float32(0)
        if b < taps * depth and out < outs:
            tap = b // depth
            right[i, j] = w[group * outs + out, b % depth, tap // w.shape[3], tap % w.shape[3]]
        cuda.syncthreads()
        for k in range(TILE):
            total += left[i, k] * right[k, j]
        cuda.syncthreads()
    if pixel < y.shape[0] * y.shape[1] * y.shape[2] and out < outs:
        image, place = pixel // (y.shape[1] * y.shape[2]), pixel % (y.shape[1] * y.shape[2])
        y[image, place // y.shape[2], place % y.shape[2], group * outs + out] = total


@cuda.jit
def _conv2d_input(y, w, x, how):
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, TILE), float32)
    i, j, group = cuda.threadIdx.y, cuda.threadIdx.x, cuda.blockIdx.z
    pixel, channel = cuda.blockIdx.y * TILE + i, cuda.blockIdx.x * TILE + j
    outs, channels, taps = w.shape[0] // how[6], w.shape[1], w.shape[2] * w.shape[3]
    total = float32(0)
    for start in range(0, taps * outs, TILE):
        a, b = start + j, start + i
        left[i, j] = float32(0)
        if a < taps * outs:
            left[i, j] = _reader(y, pixel, a // outs, group * outs + a % outs, x.shape[2], x.shape[1], w.shape[3], how)
        right[i, j] = float32(0)
        if b < taps * outs and channel < channels:
            tap = b // outs
            right[i, j] = w[group * outs + b % outs, channel, tap // w.shape[3], tap % w.shape[3]]
        cuda.syncthreads()
        for k in range(TILE):
            total += left[i, k] * right[k, j]
        cuda.syncthreads()
    if pixel < x.shape[0] * x.shape[1] * x.shape[2] and channel < channels:
        image, place = pixel // (x.shape[1] * x.shape[2]), pixel % (x.shape[1] * x.shape[2])
        x[image, place // x.shape[2], place % x.shape[2], group * channels + channel] = total


@cuda.jit
def _conv2d_weight(x, y, w, how):
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, TILE), float32)
    i, j, group = cuda.threadIdx.y, cuda.threadIdx.x, cuda.blockIdx.z
    out, number = cuda.blockIdx.y * TILE + i, cuda.blockIdx.x * TILE + j  # a channel of y; a tap and a channel of x
    outs, depth, taps = w.shape[0] // how[6], w.shape[1], w.shape[2] * w.shape[3]
    pixels = y.shape[0] * y.shape[1] * y.shape[2]
    total = float32(0)
    for start in range(0, pixels, TILE):
        a, b = start + j, start + i  # pixels of y
        left[i, j] = float32(0)
        if a < pixels and out < outs:
            place = a % (y.shape[1] * y.shape[2])
            left[i, j] = y[a // (y.shape[1] * y.shape[2]), place // y.shape[2], place % y.shape[2], group * outs + out]
        right[i, j] = float32(0)
        if b < pixels and number < taps * depth:
            channel = group * depth + number % depth
            right[i, j] = _window(x, b, number // depth, channel, y.shape[2], y.shape[1], w.shape[3], how)
        cuda.syncthreads()
        for k in range(TILE):
            total += left[i, k] * right[k, j]
        cuda.syncthreads()
    if out < outs and number < taps * depth:
        tap = number // depth
        w[group * outs + out, number % depth, tap // w.shape[3], tap % w.shape[3]] = total


def _run(function: Any, rows: int, columns: int, groups: int, *arrays: Any) -> None:
    if arrays[2].size:
        function[(-(-columns // TILE), -(-rows // TILE), groups), (TILE, TILE)](*arrays)


def _how(xp: Any, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Any:
    return xp.asarray([*stride, *padding, *dilation, groups], dtype=np.int64)


_on_gpu: dict[str, Any] = {"impl": "numba-cuda", "device": "cuda", "dtypes": "f4", "study": True}


@kernel("conv2d", cost=conv2d_cost, **_on_gpu)
def conv2d(x: Any, w: Any, b: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Any:
    """y of shape (N, K, *size), plus b."""
    xp = array_module(x)
    y = xp.zeros((len(x), *size, len(w)), np.float32)
    how = _how(xp, stride, padding, dilation, groups)
    rows, columns = len(x) * size[0] * size[1], len(w) // groups
    _run(_conv2d, rows, columns, groups, channels_last(x), xp.ascontiguousarray(w), y, how)
    return finish(y, b, x.dtype)


@kernel("conv2d_input", cost=conv2d_input_cost, **_on_gpu)
def conv2d_input(
    y: Any, w: Any, b: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Any:
    """x of shape (N, C, *size), plus b."""
    xp = array_module(y)
    x = xp.zeros((len(y), *size, w.shape[1] * groups), np.float32)
    how = _how(xp, stride, padding, dilation, groups)
    rows = len(y) * size[0] * size[1]
    _run(_conv2d_input, rows, w.shape[1], groups, channels_last(y), xp.ascontiguousarray(w), x, how)
    return finish(x, b, y.dtype)


@kernel("conv2d_weight", cost=conv2d_weight_cost, **_on_gpu)
def conv2d_weight(x: Any, y: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Any:
    """w of shape (K, C/groups, *size)."""
    xp = array_module(x)
    k, c = y.shape[1], x.shape[1] // groups
    w = xp.zeros((k, c, *size), np.float32)
    how = _how(xp, stride, padding, dilation, groups)
    _run(_conv2d_weight, k // groups, c * size[0] * size[1], groups, channels_last(x), channels_last(y), w, how)
    return w
