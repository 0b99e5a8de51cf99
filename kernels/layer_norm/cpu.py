"""Layer norm in Numba: a sample is read once and stays in the cache for its mean, its variance and its result.

The backward pass makes all three gradients in one pass. Those of weight and bias are sums over the samples, which
are split into a fixed number of blocks with sums of their own: the result does not depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..layout import read_only
from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..vecmath import ONE, ZERO, vector_sums
from .reference import value_cost, vjp_cost

COMPILED_FROM = 1 << 10  # elements; below, NumPy's few microseconds are not worth a compilation
PARALLEL_FROM = 1 << 15  # elements; below this a second thread costs more than it saves
BLOCKS = 16


@vector_sums
def _row(x, weight, bias, eps, y):
    """Mean and 1 / standard deviation of a sample, whose result goes to ``y``."""
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
def _vjp_row(g, x, weight, mean, rstd, dx, dweight, dbias):
    """A sample's gradient goes to ``dx``; its parts of those of weight and bias are added to theirs."""
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


def _layer_norm(x, weight, bias, eps, y, means, rstds):
    for i in prange(x.shape[0]):
        means[i], rstds[i] = _row(x[i], weight, bias, eps, y[i])


def _layer_norm_vjp(g, x, weight, means, rstds, dx, dweight, dbias):
    block = -(-x.shape[0] // dweight.shape[0])
    for b in prange(dweight.shape[0]):
        for i in range(b * block, min((b + 1) * block, x.shape[0])):
            _vjp_row(g[i], x[i], weight, means[i], rstds[i], dx[i], dweight[b], dbias[b])


_value, _vjp = serial_and_parallel(_layer_norm), serial_and_parallel(_layer_norm_vjp)


def _rows(x: np.ndarray, width: int) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(-1, width)


def _parameter(p: np.ndarray | None, default: float, width: int) -> np.ndarray:
    return np.full(width, default, np.float32) if p is None else np.ascontiguousarray(p).reshape(-1)


def _is_worth_it(x: np.ndarray, weight: Any, bias: Any, **_: Any) -> bool:
    return x.size >= COMPILED_FROM


@kernel("layer_norm", impl="numba", device="cpu", dtypes="f4", when=_is_worth_it, cost=value_cost)
def layer_norm(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    width = math.prod(normalized_shape)
    rows = _rows(x, width)
    scale, shift = _parameter(weight, 1, width), _parameter(bias, 0, width)
    y = np.empty_like(rows)
    samples = x.shape[: x.ndim - len(normalized_shape)] + (1,) * len(normalized_shape)
    means, rstds = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    _value[x.size >= PARALLEL_FROM](*read_only(rows, scale, shift), np.float32(eps), y, means, rstds)
    return y.reshape(x.shape), means.reshape(samples), rstds.reshape(samples)


@kernel("layer_norm_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def layer_norm_vjp(
    g: np.ndarray,
    y: None,
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    rstd: np.ndarray,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> tuple[np.ndarray | None, ...]:
    width = math.prod(normalized_shape)
    rows = _rows(x, width)
    scale = _parameter(weight, 1, width)
    dx = np.empty_like(rows)
    dweight, dbias = np.zeros((BLOCKS, width), np.float32), np.zeros((BLOCKS, width), np.float32)
    run = _vjp[x.size >= PARALLEL_FROM]
    inputs = read_only(_rows(g, width), rows, scale, mean.reshape(-1), rstd.reshape(-1))
    run(*inputs, dx, dweight, dbias)
    return (
        dx.reshape(x.shape),
        None if weight is None else dweight.sum(0).reshape(normalized_shape),
        None if bias is None else dbias.sum(0).reshape(normalized_shape),
    )
