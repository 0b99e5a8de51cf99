"""Softmax in Numba, a row at a time: a row stays in the cache, so memory is read once and written once.

Where the slices lie across memory, neighbours of a block of them are taken together, one in each lane of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..layout import around, from_rows, is_fastest, memory_order, read_only, row_order, to_rows
from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..vecmath import ONE, ZERO, exp, largest, vector, vector_sums
from .reference import log_vjp_cost, value_cost, vjp_cost

COMPILED_FROM = 1 << 10  # elements; below, NumPy's few microseconds are not worth a compilation
PARALLEL_FROM = 1 << 15  # elements; below this a second thread costs more than it saves
LEAST_LANES = 16  # fewer slices side by side than this are copied into rows
BLOCK = 1 << 7  # slices that a thread takes at a time, so that some hundred rows of them stay in the cache

# --- along memory: rows


@vector_sums
def _softmax_row(x, y):
    top = largest(x)
    total = ZERO
    for j in range(x.size):
        e = exp(x[j] - top)
        y[j] = e
        total += e
    scale = ONE / total
    for j in range(x.size):
        y[j] *= scale


@vector_sums
def _softmax_vjp_row(g, y, dx):
    mean = ZERO
    for j in range(y.size):
        mean += g[j] * y[j]
    for j in range(y.size):
        dx[j] = y[j] * (g[j] - mean)


@vector_sums
def _log_softmax_row(x, y):
    top = largest(x)
    total = ZERO
    for j in range(x.size):
        total += exp(x[j] - top)
    log_total = np.float32(math.log(total))
    for j in range(x.size):
        y[j] = (x[j] - top) - log_total


@vector_sums
def _log_softmax_vjp_row(g, y, dx):
    total = ZERO
    for j in range(y.size):
        total += g[j]
    for j in range(y.size):
        dx[j] = g[j] - exp(y[j]) * total


def _softmax(x, y):
    for i in prange(x.shape[0]):
        _softmax_row(x[i], y[i])


def _softmax_vjp(g, y, dx):
    for i in prange(y.shape[0]):
        _softmax_vjp_row(g[i], y[i], dx[i])


def _log_softmax(x, y):
    for i in prange(x.shape[0]):
        _log_softmax_row(x[i], y[i])


def _log_softmax_vjp(g, y, dx):
    for i in prange(y.shape[0]):
        _log_softmax_vjp_row(g[i], y[i], dx[i])


# --- across memory: blocks of columns; i runs along a slice, j over the slices of the block


@vector
def _largest_of_columns(x, start, top):
    for j in range(top.size):
        top[j] = x[0, start + j]
    for i in range(1, x.shape[0]):
        for j in range(top.size):
            top[j] = x[i, start + j] if x[i, start + j] > top[j] else top[j]


@vector
def _softmax_columns(x, start, y, top, total):
    _largest_of_columns(x, start, top)
    total[:] = ZERO
    for i in range(x.shape[0]):
        for j in range(top.size):
            e = exp(x[i, start + j] - top[j])
            y[i, start + j] = e
            total[j] += e
    for j in range(top.size):
        total[j] = ONE / total[j]
    for i in range(x.shape[0]):
        for j in range(top.size):
            y[i, start + j] *= total[j]


@vector
def _log_softmax_columns(x, start, y, top, total):
    _largest_of_columns(x, start, top)
    total[:] = ZERO
    for i in range(x.shape[0]):
        for j in range(top.size):
            total[j] += exp(x[i, start + j] - top[j])
    for j in range(top.size):
        total[j] = math.log(total[j])
    for i in range(x.shape[0]):
        for j in range(top.size):
            y[i, start + j] = (x[i, start + j] - top[j]) - total[j]


@vector
def _softmax_vjp_columns(g, y, start, dx, mean):
    mean[:] = ZERO
    for i in range(y.shape[0]):
        for j in range(mean.size):
            mean[j] += g[i, start + j] * y[i, start + j]
    for i in range(y.shape[0]):
        for j in range(mean.size):
            dx[i, start + j] = y[i, start + j] * (g[i, start + j] - mean[j])


@vector
def _log_softmax_vjp_columns(g, y, start, dx, total):
    total[:] = ZERO
    for i in range(y.shape[0]):
        for j in range(total.size):
            total[j] += g[i, start + j]
    for i in range(y.shape[0]):
        for j in range(total.size):
            dx[i, start + j] = g[i, start + j] - exp(y[i, start + j]) * total[j]


def _softmax_across(x, y, sums):
    for b in prange(sums.shape[1]):
        o, start, width = _block(b, x.shape[2])
        _softmax_columns(x[o], start, y[o], sums[0, b, :width], sums[1, b, :width])


def _log_softmax_across(x, y, sums):
    for b in prange(sums.shape[1]):
        o, start, width = _block(b, x.shape[2])
        _log_softmax_columns(x[o], start, y[o], sums[0, b, :width], sums[1, b, :width])


def _softmax_vjp_across(g, y, dx, sums):
    for b in prange(sums.shape[1]):
        o, start, width = _block(b, y.shape[2])
        _softmax_vjp_columns(g[o], y[o], start, dx[o], sums[0, b, :width])


def _log_softmax_vjp_across(g, y, dx, sums):
    for b in prange(sums.shape[1]):
        o, start, width = _block(b, y.shape[2])
        _log_softmax_vjp_columns(g[o], y[o], start, dx[o], sums[0, b, :width])


@vector
def _block(b, after):
    """Block number ``b``: which matrix it is of, its first column and how many columns it has."""
    blocks = (after + BLOCK - 1) // BLOCK
    start = b % blocks * BLOCK
    return b // blocks, start, min(BLOCK, after - start)


_bodies = (
    _softmax, _softmax_vjp, _log_softmax, _log_softmax_vjp,
    _softmax_across, _softmax_vjp_across, _log_softmax_across, _log_softmax_vjp_across,
)  # fmt: skip
_compiled = {body: serial_and_parallel(body) for body in _bodies}


def _run(along: Callable, across: Callable, *arrays: np.ndarray, dim: int) -> np.ndarray:
    """One of the bodies on arrays of one shape, in the memory order of the last of them."""
    out = np.empty_like(arrays[-1])
    split = out.size >= PARALLEL_FROM
    after = math.prod(out.shape[i] for i in _inside(out, dim))
    if is_fastest(out, dim) or after < LEAST_LANES:
        order = row_order(out, dim)
        rows = [to_rows(a, order) for a in (*arrays, out)]
        _compiled[along][split](*read_only(*rows[:-1]), rows[-1])
        if not np.may_share_memory(out, rows[-1]):
            return from_rows(rows[-1], out.shape, order)
    else:
        order = memory_order(out)
        blocks = [around(a, dim, order) for a in (*arrays, out)]
        sums = np.empty((2, len(blocks[-1]) * -(-after // BLOCK), BLOCK), np.float32)
        _compiled[across][split](*read_only(*blocks[:-1]), blocks[-1], sums)
    return out


def _inside(a: np.ndarray, dim: int) -> tuple[int, ...]:
    """The dimensions that are nearer in memory than ``dim``."""
    order = memory_order(a)
    return order[order.index(dim % a.ndim) + 1 :]


_on_cpu: dict[str, Any] = {"impl": "numba", "device": "cpu", "dtypes": "f4"}


def _is_worth_it(x: np.ndarray, *_: Any, dim: int) -> bool:
    return x.size >= COMPILED_FROM


@kernel("softmax", cost=value_cost, when=_is_worth_it, **_on_cpu)
def softmax(x: np.ndarray, *, dim: int) -> np.ndarray:
    return _run(_softmax, _softmax_across, x, dim=dim)


@kernel("softmax_vjp", cost=vjp_cost, **_on_cpu)
def softmax_vjp(g: np.ndarray, y: np.ndarray, x: None, *, dim: int) -> np.ndarray:
    return _run(_softmax_vjp, _softmax_vjp_across, g, y, dim=dim)


@kernel("log_softmax", cost=value_cost, when=_is_worth_it, **_on_cpu)
def log_softmax(x: np.ndarray, *, dim: int) -> np.ndarray:
    return _run(_log_softmax, _log_softmax_across, x, dim=dim)


@kernel("log_softmax_vjp", cost=log_vjp_cost, **_on_cpu)
def log_softmax_vjp(g: np.ndarray, y: np.ndarray, x: None, *, dim: int) -> np.ndarray:
    return _run(_log_softmax_vjp, _log_softmax_vjp_across, g, y, dim=dim)
