"""The roof of this machine: how fast it copies, and how fast it multiplies in registers."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from scratchgen.kernels import numba_config, simd

from .paired import seconds

SIZES = tuple(1 << n for n in range(20, 31, 2))  # bytes that a copy reads and writes together
DEPTH, REPEATS = 128, 40_000


def _copy(x, y, parts):  # type: ignore[no-untyped-def]  # compiled: its types are its arguments'
    size = len(x) // parts
    for part in numba_config.prange(parts):
        y[part * size : (part + 1) * size] = x[part * size : (part + 1) * size]


TILE: Any = None  # the micro-kernel, given by ``_compiled``


def _multiply(a, b, c, threads, repeats, depth, rows, columns):  # type: ignore[no-untyped-def]
    for thread in numba_config.prange(threads):
        for _ in range(repeats):
            TILE(
                a + 4 * thread * rows * depth, depth, 1, b + 4 * thread * columns * depth, columns,
                c + 4 * thread * rows * columns, columns, depth,
            )  # fmt: skip


@cache
def _compiled() -> tuple[Any, Any, simd.Width]:
    width = simd.machine_width()
    tile = simd.tile_product(width.rows, width.vectors, width.lanes)
    multiply = numba_config.specialise(_multiply, f"roof{width.lanes}", {"TILE": tile}, parallel=True)
    return numba_config.njit(_copy, parallel=True, cache=True), multiply, width


def measure(threads: int, attempts: int = 7) -> dict[str, Any]:
    """The best of a few attempts each, in units a second:

    bandwidth   [bytes, bytes/s] of copies that move so many bytes, read and written ones counted alike: what fits a
                cache is copied faster
    flops       of the micro-kernel on tiles that stay in the first cache
    """
    copy, multiply, width = _compiled()
    bandwidth = []
    for size in SIZES:
        x, y = np.ones(size // 8, np.float32), np.ones(size // 8, np.float32)
        copy(x, y, threads)
        times = max(1, (1 << 26) // size)  # a small copy, often: one alone is shorter than the start of the threads
        best = min(seconds(lambda: [copy(x, y, threads) for _ in range(times)]) for _ in range(attempts))  # noqa: B023
        bandwidth.append([size, size * times / best])

    rows, columns = width.rows, width.vectors * width.lanes
    a, b, c = (np.zeros(threads * n, np.float32) for n in (rows * DEPTH, columns * DEPTH, rows * columns))

    def products() -> None:
        multiply(a.ctypes.data, b.ctypes.data, c.ctypes.data, threads, REPEATS, DEPTH, rows, columns)

    products()
    multiplied = min(seconds(products) for _ in range(attempts))
    return {"bandwidth": bandwidth, "flops": 2.0 * rows * columns * DEPTH * REPEATS * threads / multiplied}


def fraction(roof: dict[str, Any], flops: float, moved: float, seconds: float) -> float:
    """The least time that the roof allows for so many flops and bytes, as a share of the time that was taken.

    Bytes are held against the copy of the nearest size. A fast algorithm, which needs fewer flops than the plain
    formula, can pass 1.
    """
    _, bandwidth = min(roof["bandwidth"], key=lambda pair: abs(math.log(pair[0] / max(moved, 1.0))))
    return max(flops / roof["flops"], moved / bandwidth) / seconds
