"""The first steps of the ladder, to be read and timed; README.md tells what each buys. None is ever chosen.

Each adds one idea to the one before: loops in the order of the formula, loops in the order of memory and in blocks
that stay in the cache, sums that stay in registers. The last steps are ``cpu`` (packed) and, beside the ladder,
``reference`` (the library's BLAS).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ..numba_config import njit, renamed
from ..registry import kernel
from .reference import matmul_cost
from .tile import PANEL, ROWS, tile

BLOCK = 64  # rows, columns and depth of a block: three of them take 48 KB


def _naive(a, b, c):
    """One dot product after another. Each step of the inner loop waits for the sum of the last, and jumps in ``b``."""
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            total = np.float32(0)
            for p in range(a.shape[1]):
                total += a[i, p] * b[p, j]
            c[i, j] = total


def _add_times(x, row, out):
    for j in range(out.size):
        out[j] += x * row[j]


def _blocked(a, b, c):
    """The inner loop runs along rows of ``b`` and ``c``, so it is made of vectors; blocks are reused from the cache."""
    c[:] = np.float32(0)
    m, n, k = c.shape[0], c.shape[1], a.shape[1]
    for left in range(0, n, BLOCK):
        for first in range(0, k, BLOCK):
            for i in range(m):
                for p in range(first, min(k, first + BLOCK)):
                    add_times(a[i, p], b[p, left : left + BLOCK], c[i, left : left + BLOCK])


def _compile(body: Callable) -> Any:
    return njit(renamed(body), cache=True, nogil=True, fastmath={"contract"})


naive, add_times = _compile(_naive), _compile(_add_times)
blocked = _compile(_blocked)


def _tiled(a, b, c):
    """Tiles of ``c`` stay in registers for the whole depth; ``a`` and ``b`` are read where they lie.

    Tiles read whole vectors of ``b``: what is left on the right of the last whole panel is left to ``_blocked``.
    """
    m, n, k = c.shape[0], c.shape[1], a.shape[1]
    whole = n // PANEL * PANEL
    zeros = np.zeros(PANEL, np.float32)
    for j in range(0, whole, PANEL):
        for i in range(0, m, ROWS):
            tile(
                a.ctypes.data + 4 * i * k, k, 1, b.ctypes.data + 4 * j, n, zeros.ctypes.data, 0,
                c.ctypes.data + 4 * (i * n + j), n, min(ROWS, m - i), PANEL, k, k, a.ctypes.data, 0,
            )  # fmt: skip
    if whole < n:
        blocked(a, b[:, whole:], c[:, whole:])
    zeros[0] = 1  # Numba frees an array after the last line that names it


tiled = _compile(_tiled)


def _each(multiply: Callable, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``multiply`` for every matrix of the batch, on contiguous matrices."""
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    c = np.empty((*shape, a.shape[-2], b.shape[-1]), np.float32)
    count = prod(shape)
    a, b = (np.broadcast_to(x, (*shape, *x.shape[-2:])).reshape(count, *x.shape[-2:]) for x in (a, b))
    for x, y, z in zip(a, b, c.reshape(count, *c.shape[-2:])):
        multiply(np.ascontiguousarray(x), np.ascontiguousarray(y), z)
    return c


_STEP: dict[str, Any] = {"device": "cpu", "dtypes": "f4", "cost": matmul_cost, "study": True}


@kernel("matmul", impl="naive", **_STEP)
def matmul_naive(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Three loops."""
    return _each(naive, a, b)


@kernel("matmul", impl="blocked", **_STEP)
def matmul_blocked(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Loops in the order of memory, in blocks."""
    return _each(blocked, a, b)


@kernel("matmul", impl="tiled", **_STEP)
def matmul_tiled(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sums that stay in registers."""
    return _each(tiled, a, b)
