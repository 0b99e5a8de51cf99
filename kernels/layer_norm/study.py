"""Steps on the way to the layer norm of ``row_norm``, each with one idea more; the README tells what each one buys."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..numba_config import njit
from ..registry import kernel
from ..vecmath import ONE, ZERO, vector_sums
from .reference import value_cost, vjp_cost

# --- naive: the formulas as loops. Sums in order, which keeps them out of vectors; a pass for each sum.


@njit(cache=True)
def _naive(x, weight, bias, eps, y, means, rstds):
    for i in range(x.shape[0]):
        total = ZERO
        for j in range(x.shape[1]):
            total += x[i, j]
        means[i] = total / x.shape[1]
        squares = ZERO
        for j in range(x.shape[1]):
            squares += (x[i, j] - means[i]) ** 2
        rstds[i] = 1 / math.sqrt(squares / x.shape[1] + eps)
        for j in range(x.shape[1]):
            y[i, j] = (x[i, j] - means[i]) * rstds[i] * weight[j] + bias[j]


@njit(cache=True)
def _naive_vjp(g, x, weight, means, rstds, dx, dweight, dbias):
    for i in range(x.shape[0]):
        total = ZERO
        along = ZERO
        for j in range(x.shape[1]):
            total += g[i, j] * weight[j]
            along += g[i, j] * weight[j] * (x[i, j] - means[i]) * rstds[i]
        for j in range(x.shape[1]):
            z = (x[i, j] - means[i]) * rstds[i]
            dx[i, j] = (g[i, j] * weight[j] - total / x.shape[1] - z * along / x.shape[1]) * rstds[i]
    for j in range(x.shape[1]):
        for i in range(x.shape[0]):
            dweight[j] += g[i, j] * (x[i, j] - means[i]) * rstds[i]
            dbias[j] += g[i, j]


# --- row: sums in any order, so that they are vectors; all a row needs while it is in the cache; one pass over memory


@vector_sums
def _row(x, weight, bias, eps, y):
    per_count = ONE / np.float32(x.size)
    mean = ZERO
    for j in range(x.size):
        mean += x[j]
    mean *= per_count
    squares = ZERO
    for j in range(x.size):
        squares += (x[j] - mean) * (x[j] - mean)
    rstd = ONE / np.float32(math.sqrt(squares * per_count + eps))
    for j in range(x.size):
        y[j] = (x[j] - mean) * rstd * weight[j] + bias[j]
    return mean, rstd


@vector_sums
def _row_vjp(g, x, weight, mean, rstd, dx, dweight, dbias):
    per_count = ONE / np.float32(x.size)
    total = ZERO
    along = ZERO
    for j in range(x.size):
        z = (x[j] - mean) * rstd
        scaled = g[j] * weight[j]
        total += scaled
        along += scaled * z
        dweight[j] += g[j] * z
        dbias[j] += g[j]
    total *= per_count
    along *= per_count
    for j in range(x.size):
        z = (x[j] - mean) * rstd
        dx[j] = (g[j] * weight[j] - total - z * along) * rstd


@njit(cache=True)
def _rows(x, weight, bias, eps, y, means, rstds):
    for i in range(x.shape[0]):
        means[i], rstds[i] = _row(x[i], weight, bias, eps, y[i])


@njit(cache=True)
def _rows_vjp(g, x, weight, means, rstds, dx, dweight, dbias):
    for i in range(x.shape[0]):
        _row_vjp(g[i], x[i], weight, means[i], rstds[i], dx[i], dweight, dbias)


# --- the two as kernels


def _register(impl: str, loops: Callable, loops_vjp: Callable, looseness: float) -> None:
    options: dict[str, Any] = {"impl": impl, "device": "cpu", "dtypes": "f4", "study": True, "looseness": looseness}

    @kernel("layer_norm", cost=value_cost, **options)
    def value(
        x: np.ndarray, weight: Any, bias: Any, *, normalized_shape: tuple[int, ...], eps: float
    ) -> tuple[np.ndarray, ...]:
        width = math.prod(normalized_shape)
        rows = np.ascontiguousarray(x).reshape(-1, width)
        y, (means, rstds) = np.empty_like(rows), np.empty((2, len(rows)), np.float32)
        loops(rows, _parameter(weight, ONE, width), _parameter(bias, ZERO, width), np.float32(eps), y, means, rstds)
        samples = x.shape[: x.ndim - len(normalized_shape)] + (1,) * len(normalized_shape)
        return y.reshape(x.shape), means.reshape(samples), rstds.reshape(samples)

    @kernel("layer_norm_vjp", cost=vjp_cost, **options)
    def vjp(
        g: np.ndarray,
        y: None,
        x: np.ndarray,
        weight: Any,
        bias: Any,
        mean: np.ndarray,
        rstd: np.ndarray,
        *,
        normalized_shape: tuple[int, ...],
        eps: float,
    ) -> tuple[np.ndarray | None, ...]:
        width = math.prod(normalized_shape)
        grads, rows = (np.ascontiguousarray(a).reshape(-1, width) for a in (g, x))
        dx, (dweight, dbias) = np.empty_like(rows), np.zeros((2, width), np.float32)
        statistics = (a.astype(np.float32).reshape(-1) for a in (mean, rstd))
        loops_vjp(grads, rows, _parameter(weight, ONE, width), *statistics, dx, dweight, dbias)
        dweight, dbias = dweight.reshape(normalized_shape), dbias.reshape(normalized_shape)
        return dx.reshape(x.shape), None if weight is None else dweight, None if bias is None else dbias


def _parameter(p: np.ndarray | None, default: np.float32, width: int) -> np.ndarray:
    values = np.full(width, default) if p is None else np.array(p, np.float32).reshape(-1)
    values.flags.writeable = False
    return values


_register("naive", _naive, _naive_vjp, looseness=4)  # a sum in order is off by more the longer it is
_register("row", _rows, _rows_vjp, looseness=1)
