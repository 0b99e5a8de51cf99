"""Convolution, its adjoint in the input and its adjoint in the weight in CUDA C++: implicit products of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import array_module, channels_last
from ..launch import TYPES, Module, Out
from ..registry import kernel
from ..sums import accurate_sum
from .reference import Pair, conv2d_cost, conv2d_input_cost, conv2d_weight_cost

TILE, THREADS = 64, 256
MODULE = Module(
    "conv2d/conv2d.cu",
    *(f"{kind}<{t}>" for t in TYPES.values() for kind in ("conv2d", "conv2d_input", "conv2d_weight")),
)
_PAIR = [("h", np.int32), ("w", np.int32)]
GEOMETRY = np.dtype(
    [("images", np.int32)]
    + [(name, _PAIR) for name in ("x", "y", "taps", "stride", "padding", "dilation")]
    + [(name, np.int32) for name in ("c", "k", "groups")]
)

_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


def _geometry(images: int, x: Pair, y: Pair, taps: Pair, c: int, k: int, groups: int, how: dict[str, Pair]) -> Any:
    pairs = (x, y, taps, how["stride"], how["padding"], how["dilation"])
    return np.array((images, *(tuple(map(int, pair)) for pair in pairs), c, k, groups), GEOMETRY)[()]


def _grid(rows: int, columns: int, groups: int) -> tuple[int, int, int]:
    return -(-columns // TILE), -(-rows // TILE), groups


def _parameter(p: Any) -> Any:
    return None if p is None else array_module(p).ascontiguousarray(p)


@kernel("conv2d", cost=conv2d_cost, **_on_gpu)
def conv2d(x: Any, w: Any, b: Any, *, size: Pair, groups: int, **how: Pair) -> Any:
    """y of shape (N, K, *size), plus b (K,) unless that is None."""
    n, k, c = len(x), len(w) // groups, w.shape[1]
    y = array_module(x).empty((n, *size, k * groups), x.dtype)
    g = _geometry(n, x.shape[2:], size, w.shape[2:], c, k, groups, how)
    grid = _grid(n * size[0] * size[1], k, groups)
    arrays = channels_last(x), _parameter(w), _parameter(b), Out(y)
    MODULE.launch(f"conv2d<{TYPES[x.dtype.name]}>", grid, THREADS, *arrays, g)
    return y.transpose(0, 3, 1, 2)


@kernel("conv2d_input", cost=conv2d_input_cost, **_on_gpu)
def conv2d_input(y: Any, w: Any, b: Any, *, size: Pair, groups: int, **how: Pair) -> Any:
    """x of shape (N, C, *size), plus b (C,) unless that is None."""
    n, k, c = len(y), len(w) // groups, w.shape[1]
    x = array_module(y).empty((n, *size, c * groups), y.dtype)
    g = _geometry(n, size, y.shape[2:], w.shape[2:], c, k, groups, how)
    grid = _grid(n * size[0] * size[1], c, groups)
    arrays = channels_last(y), _parameter(w), _parameter(b), Out(x)
    MODULE.launch(f"conv2d_input<{TYPES[y.dtype.name]}>", grid, THREADS, *arrays, g)
    return x.transpose(0, 3, 1, 2)


@kernel("conv2d_weight", cost=conv2d_weight_cost, **_on_gpu)
def conv2d_weight(x: Any, y: Any, *, size: Pair, groups: int, **how: Pair) -> Any:
    """w of shape (K, C/groups, *size), contiguous."""
    c, k = x.shape[1] // groups, y.shape[1] // groups
    w = array_module(x).empty((k * groups, c, *size), x.dtype)
    g = _geometry(len(x), x.shape[2:], y.shape[2:], size, c, k, groups, how)
    grid = _grid(k, c * size[0] * size[1], groups)
    MODULE.launch(f"conv2d_weight<{TYPES[x.dtype.name]}>", grid, THREADS, channels_last(x), channels_last(y), Out(w), g)
    return w


@kernel("conv2d_weight_bias", cost=conv2d_weight_cost, **_on_gpu)
def conv2d_weight_bias(x: Any, y: Any, *, size: Pair, groups: int, **how: Pair) -> tuple[Any, Any]:
    """``conv2d_weight``, and b (K,): the sum of y over images and pixels."""
    return conv2d_weight(x, y, size=size, groups=groups, **how), accurate_sum(y, (0, 2, 3))
