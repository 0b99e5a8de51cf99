"""Convolution, its adjoint in the input and its adjoint in the weight in CUDA C++: implicit products of matrices.

They run on the pipeline of ``kernels/matmul``, with its choices: float32 on the ordinary units unless TF32 has been
asked for by name, 16 bits on tensor cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..arrays import array_module, channels_last
from ..launch import TYPES, Module, Out, begins_at_multiples_of, blocks_for
from ..matmul.cuda import PANEL_BYTES, PLAIN, TENSOR, TILES, Way, chosen, splits_for, tile_for, way_for
from ..matmul.cuda import product as matrix_product
from ..registry import kernel
from ..sums import accurate_sum
from .reference import (
    Pair,
    conv2d_cost,
    conv2d_input_cost,
    conv2d_residual_cost,
    conv2d_weight_cost,
    window_view,
)

DEPTH, SIDE = 16, 4  # of version 3
STEPS = {"cuda-4-panels": Way(False, 1, False), "cuda-5-tensor": Way(True, 1, False), "cuda-6-swizzled": Way(True, 1)}


def _flag(value: bool) -> str:
    return str(value).lower()


def _gather(t: str, tile: int, adjoint: bool, way: Way) -> str:
    return f"conv2d_gather<{t}, {tile}, {way.stages}, {_flag(adjoint)}, {_flag(way.tensor)}, {_flag(way.swizzled)}>"


def _weight(t: str, tile: int, way: Way) -> str:
    return f"conv2d_weight<{t}, {tile}, {way.stages}, {_flag(way.tensor)}>"


MODULE = Module(
    "conv2d/conv2d.cu",
    *(
        name
        for t in TYPES.values()
        for name in (
            f"conv2d_naive<{t}>",
            f"conv2d_implicit<{t}, {TILES[0]}, {DEPTH}, {SIDE}>",
            f"conv2d_parts<{t}>",
            *(_gather(t, TILES[0], False, way) for way in STEPS.values() if way.tensor == (t != "float")),
            *(
                name
                for way in ((PLAIN, TENSOR) if t == "float" else (TENSOR,))
                for tile in TILES
                for name in (_gather(t, tile, False, way), _gather(t, tile, True, way), _weight(t, tile, way))
            ),
        )
    ),
)
_PAIR = [("h", np.int32), ("w", np.int32)]
GEOMETRY = np.dtype(
    [("images", np.int32)]
    + [(name, _PAIR) for name in ("x", "y", "taps", "stride", "padding", "dilation")]
    + [(name, np.int32) for name in ("c", "k", "groups")]
)


def _geometry(images: int, x: Pair, y: Pair, taps: Pair, c: int, k: int, groups: int, how: dict[str, Pair]) -> Any:
    pairs = (x, y, taps, how["stride"], how["padding"], how["dilation"])
    return np.array((images, *(tuple(map(int, pair)) for pair in pairs), c, k, groups), GEOMETRY)[()]


def _ready(p: Any) -> Any:
    return None if p is None else array_module(p).ascontiguousarray(p)


def _aligned(x: Any, run: int) -> bool:
    """Whether runs of so many numbers of ``x``, one after another, all begin at multiples of 16 bytes."""
    return x is None or (begins_at_multiples_of(16, x) and run * x.itemsize % 16 == 0)


def _tile(m: int, n: int, groups: int) -> int:
    return TILES[0] if n <= TILES[0] else tile_for(m, n, groups)


def gather(
    source: Any,
    w: Any,
    b: Any,
    adjoint: bool,
    *,
    size: Pair,
    groups: int,
    way: Way,
    tile: int | None = None,
    **how: Any,
) -> Any:
    """y from x, or ``adjoint`` x from y, NCHW in shape; and the bias added."""
    n, k, c, taps, t = len(source), len(w) // groups, w.shape[1], w.shape[2:], TYPES[source.dtype.name]
    made, gathered = (c, k) if adjoint else (k, c)
    out = array_module(source).empty((n, *size, made * groups), source.dtype)
    x, y = (size, source.shape[2:]) if adjoint else (source.shape[2:], size)
    g = _geometry(n, x, y, taps, c, k, groups, how)
    phases = how["stride"] if adjoint else (1, 1)
    m = n * -(-size[0] // phases[0]) * -(-size[1] // phases[1])  # of the largest phase
    tile = _tile(m, made, groups * phases[0] * phases[1]) if tile is None else tile
    grid = -(-m // tile) * -(-made // tile), 1, groups * phases[0] * phases[1]
    source, w, b = channels_last(source), channels_last(w), _ready(b)
    flags = _aligned(source, gathered), _aligned(w, c), _aligned(out, made) and _aligned(b, made)
    MODULE.launch(
        _gather(t, tile, adjoint, way), grid, 256 if tile == TILES[1] else 128,
        source, w, b, Out(out), g, *map(np.int32, flags), shared=way.stages * 2 * tile * PANEL_BYTES,
    )  # fmt: skip
    return out.transpose(0, 3, 1, 2)


def weight_gradient(
    x: Any, y: Any, *, size: Pair, groups: int, way: Way, tile: int | None = None, splits: int | None = None, **how: Any
) -> Any:
    """w of shape (K, C/groups, *size), contiguous."""
    xp, c, k, t = array_module(x), x.shape[1] // groups, y.shape[1] // groups, TYPES[x.dtype.name]
    w = xp.empty((k * groups, c, *size), x.dtype)
    g = _geometry(len(x), x.shape[2:], y.shape[2:], size, c, k, groups, how)
    n = c * size[0] * size[1]
    tile = _tile(k, n, groups) if tile is None else tile
    blocks, panels = -(-k // tile) * -(-n // tile), -(-len(x) * y.shape[2] * y.shape[3] * x.itemsize // PANEL_BYTES)
    splits = splits_for(blocks * groups, panels) if splits is None else splits
    each = max(1, -(-panels // splits))
    splits = max(1, -(-panels // each))
    x, y = channels_last(x), channels_last(y)
    parts = xp.empty((splits, k * groups, n), np.float32)
    MODULE.launch(
        _weight(t, tile, way), (blocks, splits, groups), 256 if tile == TILES[1] else 128,
        x, y, Out(parts), g, *map(np.int32, (each, _aligned(x, c), _aligned(y, k))),
        shared=way.stages * 2 * tile * PANEL_BYTES,
    )  # fmt: skip
    numbers = np.int32(splits), np.int64(w.size), np.int32(size[0] * size[1]), np.int32(c)
    MODULE.launch(f"conv2d_parts<{t}>", *blocks_for(w.size), parts, Out(w), *numbers)
    return w


def _fits(a: Any, b: Any, *_: Any, stride: Pair, groups: int, **__: Any) -> bool:
    return groups * stride[0] * stride[1] < 1 << 16  # of grid.z


_on_gpu: dict[str, Any] = {"device": "cuda emu"}


def _register(impl: str, tf32: bool, **options: Any) -> None:
    """The ops, once for each choice of precision."""

    def fits(*arrays: Any, **how: Any) -> bool:
        return _fits(*arrays, **how) and (not tf32 or chosen())

    @kernel("conv2d", impl=impl, cost=conv2d_cost, when=fits, **options, **_on_gpu)
    def conv2d(x: Any, w: Any, b: Any, **how: Any) -> Any:
        """y of shape (N, K, *size), plus b (K,) unless that is None."""
        return gather(x, w, b, False, way=way_for(x.dtype, tf32), **how)

    @kernel("conv2d_residual", impl=impl, cost=conv2d_residual_cost, when=fits, **options, **_on_gpu)
    def conv2d_residual(x: Any, w: Any, b: Any, residual: Any, **how: Any) -> Any:
        """``conv2d`` of the others, plus ``residual``, in a pass of its own."""
        y = conv2d(x, w, b, **how)
        y += residual
        return y

    @kernel("conv2d_input", impl=impl, cost=conv2d_input_cost, when=fits, **options, **_on_gpu)
    def conv2d_input(y: Any, w: Any, b: Any, **how: Any) -> Any:
        """x of shape (N, C, *size), plus b (C,) unless that is None."""
        return gather(y, w, b, True, way=way_for(y.dtype, tf32), **how)

    @kernel("conv2d_weight", impl=impl, cost=conv2d_weight_cost, when=fits, **options, **_on_gpu)
    def conv2d_weight(x: Any, y: Any, **how: Any) -> Any:
        """w of shape (K, C/groups, *size), contiguous."""
        return weight_gradient(x, y, way=way_for(x.dtype, tf32), **how)

    @kernel("conv2d_weight_bias", impl=impl, cost=conv2d_weight_cost, when=fits, **options, **_on_gpu)
    def conv2d_weight_bias(x: Any, y: Any, **how: Any) -> tuple[Any, Any]:
        """``conv2d_weight``, and b (K,): the sum of y over images and pixels."""
        return weight_gradient(x, y, way=way_for(x.dtype, tf32), **how), accurate_sum(y, (0, 2, 3))


_register("cuda", False, dtypes="f4 f2")
_register("cuda-tf32", True, dtypes="f4", priority=20, looseness=500.0)


# --- the steps before


def _naive(x: Any, w: Any, b: Any, *, size: Pair, groups: int, **how: Pair) -> Any:
    n, k, t = len(x), len(w), TYPES[x.dtype.name]
    y = array_module(x).empty((n, *size, k), x.dtype)
    g = _geometry(n, x.shape[2:], size, w.shape[2:], w.shape[1], k // groups, groups, how)
    MODULE.launch(
        f"conv2d_naive<{t}>", *blocks_for(y.size), channels_last(x), channels_last(w), _ready(b), Out(y), g
    )  # fmt: skip
    return y.transpose(0, 3, 1, 2)


def _im2col(x: Any, w: Any, b: Any, *, size: Pair, groups: int, **how: Pair) -> Any:
    """2. The matrix of windows is made, R S times the numbers of x, and multiplied by the weights."""
    xp, n, k, depth = array_module(x), len(x), len(w), w[0].size
    windows = window_view(x, w.shape[2:], size, how["stride"], how["padding"], how["dilation"], groups)
    matrix = xp.ascontiguousarray(windows.transpose(3, 0, 1, 2, 4, 5, 6)).reshape(groups, n * size[0] * size[1], depth)
    weights = channels_last(w).reshape(groups, k // groups, depth).swapaxes(1, 2)
    y, _ = matrix_product(matrix.astype(x.dtype, copy=False), weights, way=way_for(x.dtype))
    y = y.transpose(1, 0, 2).reshape(n, *size, k)
    return (y if b is None else y + b).transpose(0, 3, 1, 2)


def _implicit(x: Any, w: Any, b: Any, *, size: Pair, groups: int, **how: Pair) -> Any:
    n, k, t, tile = len(x), len(w) // groups, TYPES[x.dtype.name], TILES[0]
    y = array_module(x).empty((n, *size, k * groups), x.dtype)
    g = _geometry(n, x.shape[2:], size, w.shape[2:], w.shape[1], k, groups, how)
    grid = -(-k // tile), -(-n * size[0] * size[1] // tile), groups
    arrays = channels_last(x), channels_last(w), _ready(b), Out(y), g
    MODULE.launch(f"conv2d_implicit<{t}, {tile}, {DEPTH}, {SIDE}>", grid, (tile // SIDE) ** 2, *arrays)
    return y.transpose(0, 3, 1, 2)


def _step(way: Way) -> Callable[..., Any]:
    return lambda x, w, b, **how: gather(x, w, b, False, way=way, tile=TILES[0], **how)


for _name, _dtypes, _fn in (
    ("cuda-1-naive", "f4 f2", _naive),
    ("cuda-2-im2col", "f4 f2", _im2col),
    ("cuda-3-implicit", "f4 f2", _implicit),
    *((name, "f2" if way.tensor else "f4", _step(way)) for name, way in STEPS.items()),
):
    kernel("conv2d", impl=_name, cost=conv2d_cost, when=_fits, study=True, dtypes=_dtypes, **_on_gpu)(_fn)


def ladder() -> Iterator[tuple[str, Callable[[], Any]]]:
    """The steps on 3x3 filters, 64 to 64 channels of 12 x 12, for ``kernels.model``, in the type they are for."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 64, 12, 12), (64, 64, 3, 3)))
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    how: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    half = x.astype(np.float16), w.astype(np.float16)
    for name, arrays, fn in (
        ("cuda-1-naive", (x, w), _naive),
        ("cuda-2-im2col", (x, w), _im2col),
        ("cuda-3-implicit", (x, w), _implicit),
        ("cuda-4-panels", (x, w), _step(STEPS["cuda-4-panels"])),
        ("cuda (float32)", (x, w), _step(PLAIN)),
        ("cuda-5-tensor", half, _step(STEPS["cuda-5-tensor"])),
        ("cuda-6-swizzled", half, _step(STEPS["cuda-6-swizzled"])),
        ("cuda (float16)", half, _step(TENSOR)),
        ("cuda-tf32", (x, w), _step(TENSOR)),
    ):
        yield name, lambda fn=fn, arrays=arrays: fn(*arrays, None, size=(12, 12), **how)  # type: ignore[misc]
    back = {"size": (12, 12), "way": TENSOR, **how}
    yield "its adjoint in x (float16)", lambda: gather(half[0], half[1], None, True, **back)
    yield "in w (float16)", lambda: weight_gradient(half[0], half[0], **{**back, "size": (3, 3)})
