"""Softmax in Numba, a row at a time: a row stays in the cache, so memory is read once and written once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..layout import from_rows, is_fastest, read_only, row_order, to_rows
from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..vecmath import ONE, ZERO, exp, largest, vector_sums
from .reference import log_vjp_cost, value_cost, vjp_cost

COMPILED_FROM = 1 << 10  # elements; below, NumPy's few microseconds are not worth a compilation
PARALLEL_FROM = 1 << 15  # elements; below this a second thread costs more than it saves


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


_compiled = {body: serial_and_parallel(body) for body in (_softmax, _softmax_vjp, _log_softmax, _log_softmax_vjp)}


def _runs_along_memory(x: np.ndarray, *_: Any, dim: int) -> bool:
    return x.size >= COMPILED_FROM and is_fastest(x, dim)


def _by_rows(body: Callable, *arrays: np.ndarray, dim: int) -> np.ndarray:
    """``body`` on the arrays as rows along ``dim``, in the memory order of the last array."""
    like = arrays[-1]
    order = row_order(like, dim)
    rows = [to_rows(a, order) for a in arrays]
    out = np.empty_like(rows[-1])
    _compiled[body][like.size >= PARALLEL_FROM](*read_only(*rows), out)
    return from_rows(out, like.shape, order)


_on_cpu: dict[str, Any] = {"impl": "numba", "device": "cpu", "dtypes": "f4"}


@kernel("softmax", cost=value_cost, when=_runs_along_memory, **_on_cpu)
def softmax(x: np.ndarray, *, dim: int) -> np.ndarray:
    return _by_rows(_softmax, x, dim=dim)


@kernel("softmax_vjp", cost=vjp_cost, **_on_cpu)
def softmax_vjp(g: np.ndarray, y: np.ndarray, x: None, *, dim: int) -> np.ndarray:
    return _by_rows(_softmax_vjp, g, y, dim=dim)


@kernel("log_softmax", cost=value_cost, when=_runs_along_memory, **_on_cpu)
def log_softmax(x: np.ndarray, *, dim: int) -> np.ndarray:
    return _by_rows(_log_softmax, x, dim=dim)


@kernel("log_softmax_vjp", cost=log_vjp_cost, **_on_cpu)
def log_softmax_vjp(g: np.ndarray, y: np.ndarray, x: None, *, dim: int) -> np.ndarray:
    return _by_rows(_log_softmax_vjp, g, y, dim=dim)
