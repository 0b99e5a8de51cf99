"""Layer norm in Numba: a sample is read once and stays in the cache for its mean, its variance and its result.

The backward pass makes all three gradients in one pass. Those of weight and bias are sums over the samples, which
are split into a fixed number of blocks with sums of their own: the result does not depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..vecmath import ONE, ZERO
from .reference import value_cost, vjp_cost

COMPILED_FROM = 1 << 10  # elements; NumPy is as quick below
PARALLEL_FROM = 1 << 15  # elements; below this a second thread costs more than it saves
BLOCKS = 16


def _layer_norm(x, weight, bias, eps, y, means, rstds):
    per_count = ONE / np.float32(x.shape[1])
    for i in prange(x.shape[0]):
        row = x[i]
        out = y[i]
        total = ZERO
        for j in range(row.size):
            total += row[j]
        mean = total * per_count
        squares = ZERO
        for j in range(row.size):
            squares += (row[j] - mean) * (row[j] - mean)
        rstd = ONE / np.float32(math.sqrt(squares * per_count + eps))
        for j in range(row.size):
            out[j] = (row[j] - mean) * rstd * weight[j] + bias[j]
        means[i], rstds[i] = mean, rstd


def _layer_norm_vjp(g, x, weight, means, rstds, dx, dweight, dbias):
    per_count = ONE / np.float32(x.shape[1])
    block = -(-x.shape[0] // dweight.shape[0])
    for b in prange(dweight.shape[0]):
        dw = dweight[b]
        db = dbias[b]
        for i in range(b * block, min((b + 1) * block, x.shape[0])):
            slope = g[i]
            row = x[i]
            out = dx[i]
            mean = means[i]
            rstd = rstds[i]
            total = ZERO
            along = ZERO
            for j in range(row.size):
                z = (row[j] - mean) * rstd
                scaled = slope[j] * weight[j]
                total += scaled
                along += scaled * z
                dw[j] += slope[j] * z
                db[j] += slope[j]
            total *= per_count
            along *= per_count
            for j in range(row.size):
                z = (row[j] - mean) * rstd
                out[j] = (slope[j] * weight[j] - total - z * along) * rstd


# "reassoc": sums are added up in the lanes of a vector
_value, _vjp = (
    serial_and_parallel(body, error_model="numpy", fastmath={"contract", "reassoc"})
    for body in (_layer_norm, _layer_norm_vjp)
)


def _rows(x: np.ndarray, width: int) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(-1, width)


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
    scale = np.ones(width, np.float32) if weight is None else weight.reshape(-1)
    shift = np.zeros(width, np.float32) if bias is None else bias.reshape(-1)
    y = np.empty_like(rows)
    samples = x.shape[: x.ndim - len(normalized_shape)] + (1,) * len(normalized_shape)
    means, rstds = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    _value[x.size >= PARALLEL_FROM](rows, scale, shift, np.float32(eps), y, means, rstds)
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
    scale = np.ones(width, np.float32) if weight is None else weight.reshape(-1)
    dx = np.empty_like(rows)
    dweight, dbias = np.zeros((BLOCKS, width), np.float32), np.zeros((BLOCKS, width), np.float32)
    run = _vjp[x.size >= PARALLEL_FROM]
    run(_rows(g, width), rows, scale, mean.reshape(-1), rstd.reshape(-1), dx, dweight, dbias)
    return (
        dx.reshape(x.shape),
        None if weight is None else dweight.sum(0).reshape(normalized_shape),
        None if bias is None else dbias.sum(0).reshape(normalized_shape),
    )
