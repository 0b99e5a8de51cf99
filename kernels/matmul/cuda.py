"""Products of matrices in CUDA C++: the first three steps of the ladder, on the ordinary float32 units."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out
from ..registry import kernel
from .reference import linear_cost, linear_vjp_cost, matmul_cost

TILE, DEPTH, SIDE = 64, 16, 4  # of version 3
SMALL = 16  # tile of version 2

MODULE = Module(
    "matmul/matmul.cu",
    *(
        name
        for t in TYPES.values()
        for name in (
            f"matmul_naive<{t}>",
            f"matmul_tiled<{t}, {SMALL}>",
            f"matmul_registers<{t}, {TILE}, {DEPTH}, {SIDE}>",
            f"column_sums<{t}, {t}>",
        )
    ),
)

STRIDES = np.dtype([("batch", np.int64), ("row", np.int64), ("column", np.int64)])


def _operand(x: Any) -> tuple[Any, Any, int]:
    """``x`` [..., rows, columns] as contiguous memory, its strides in elements and its number of matrices."""
    rows, columns = x.shape[-2:]
    turned = x.swapaxes(-1, -2)
    if turned.flags.c_contiguous and not x.flags.c_contiguous:
        memory, row, column = turned, 1, rows
    else:
        memory, row, column = array_module(x).ascontiguousarray(x), columns, 1
    count = prod(x.shape[:-2])
    return memory, np.array((rows * columns if count > 1 else 0, row, column), STRIDES)[()], count


def _versions(t: str) -> dict[str, tuple[str, int, Any]]:
    """Of each version: kernel, results on a side of a block, threads."""
    return {
        "cuda-1-naive": (f"matmul_naive<{t}>", 16, (16, 16)),
        "cuda-2-tiled": (f"matmul_tiled<{t}, {SMALL}>", SMALL, SMALL * SMALL),
        "cuda": (f"matmul_registers<{t}, {TILE}, {DEPTH}, {SIDE}>", TILE, (TILE // SIDE) ** 2),
    }


def product(a: Any, b: Any, bias: Any = None, version: str = "cuda") -> Any:
    """``a`` [..., m, k] times ``b`` [..., k, n], plus ``bias`` [n]; leading dimensions broadcast."""
    xp = array_module(a)
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    batched = [x if prod(x.shape[:-2]) in (1, prod(lead)) else xp.broadcast_to(x, lead + x.shape[-2:]) for x in (a, b)]
    (left, left_strides, _), (right, right_strides, _) = map(_operand, batched)
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    out = xp.empty((*lead, m, n), a.dtype)
    kernel_name, side, threads = _versions(TYPES[a.dtype.name])[version]
    grid = -(-n // side), -(-m // side), prod(lead)
    sizes = np.int32(m), np.int32(n), np.int32(k)
    MODULE.launch(kernel_name, grid, threads, left, right, bias, Out(out), *sizes, left_strides, right_strides)
    return out


def column_sums(g: Any) -> Any:
    """The sums of the columns of a contiguous matrix."""
    out = array_module(g).empty(g.shape[1], g.dtype)
    grid = -(-g.shape[1] // 32)
    t = TYPES[g.dtype.name]
    MODULE.launch(f"column_sums<{t}, {t}>", grid, (32, 8), g, Out(out), *map(np.int32, g.shape))
    return out


_on_gpu: dict[str, Any] = {"device": "cuda emu", "dtypes": "f4 f2"}


def _step(version: str, **options: Any) -> Callable[..., Any]:
    @kernel("matmul", impl=version, cost=matmul_cost, when=_fits, **options, **_on_gpu)
    def matmul(a: Any, b: Any) -> Any:
        return product(a, b, version=version)

    return matmul


def _fits(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2])) < 1 << 16  # of grid.z


_step("cuda-1-naive", study=True)
_step("cuda-2-tiled", study=True)
matmul = _step("cuda")


def _rows(x: Any) -> Any:
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])


@kernel("linear", impl="cuda", cost=linear_cost, **_on_gpu)
def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """``input`` [..., k] times the transpose of ``weight`` [n, k], plus ``bias`` [n]."""
    bias = bias if bias is None else array_module(bias).ascontiguousarray(bias)
    return product(_rows(input), weight.T, bias).reshape(*input.shape[:-1], weight.shape[0])


@kernel("linear_vjp", impl="cuda", cost=linear_vjp_cost, **_on_gpu)
def linear_vjp(g: Any, y: Any, input: Any, weight: Any, bias: Any = None, *, needs: tuple[bool, ...]) -> tuple:
    """Gradients for input, weight and bias."""
    g_rows = array_module(g).ascontiguousarray(_rows(g))
    return (
        product(g_rows, weight).reshape(input.shape) if needs[0] else None,
        product(g_rows.T, _rows(input)) if needs[1] else None,
        column_sums(g_rows) if needs[2] else None,
    )
