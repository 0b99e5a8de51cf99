"""Binary cross entropy of logits in Numba: one pass for the value, one for the gradient, nothing stored between.

The sum is taken over blocks of a fixed size, then over the blocks in float64: it does not depend on the number of
threads, and rounds like a much shorter sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..layout import flat, read_only
from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..vecmath import ONE, ZERO, exp, log1p, sigmoid, vector, vector_sums
from .reference import value_cost, vjp_cost

COMPILED_FROM = 1 << 10  # elements; below, NumPy's few microseconds are not worth a compilation
PARALLEL_FROM = 1 << 15  # elements; below this a second thread costs more than it saves
BLOCK = 1 << 11


@vector
def _loss(x, t):
    return max(x, ZERO) - x * t + log1p(exp(-abs(x)))


@vector
def _slope(x, t):
    return (ONE - t) * sigmoid(x) - t * sigmoid(-x)


def _each(x, t, y):
    for i in prange(x.size):
        y[i] = _loss(x[i], t[i])


@vector_sums
def _block_sum(x, t):
    total = ZERO
    for i in range(x.size):
        total += _loss(x[i], t[i])
    return total


def _sums(x, t, sums):
    for b in prange(sums.size):
        sums[b] = _block_sum(x[b * BLOCK : (b + 1) * BLOCK], t[b * BLOCK : (b + 1) * BLOCK])


def _each_vjp(g, x, t, dx):
    for i in prange(x.size):
        dx[i] = g[i] * _slope(x[i], t[i])


def _sum_vjp(g, x, t, dx):
    for i in prange(x.size):
        dx[i] = g * _slope(x[i], t[i])


_compiled = {body: serial_and_parallel(body) for body in (_each, _sums, _each_vjp, _sum_vjp)}


def _is_plain(x: np.ndarray, target: np.ndarray, weight: Any, pos_weight: Any, **_: Any) -> bool:
    return weight is None and pos_weight is None and x.size >= COMPILED_FROM and target.dtype == x.dtype


@kernel("binary_cross_entropy_with_logits", impl="numba", device="cpu", dtypes="f4", when=_is_plain, cost=value_cost)
def binary_cross_entropy_with_logits(
    x: np.ndarray, target: np.ndarray, weight: None, pos_weight: None, *, reduction: str
) -> np.ndarray:
    split = x.size >= PARALLEL_FROM
    if reduction == "none":
        losses = np.empty_like(x)
        y, x, t = flat(losses, x, target)
        _compiled[_each][split](*read_only(x, t), y)
        return losses
    x, t = flat(x, target)
    sums = np.empty(-(-x.size // BLOCK), np.float32)
    _compiled[_sums][split](*read_only(x, t), sums)
    total = sums.sum(dtype=np.float64)
    return np.asarray(total / x.size if reduction == "mean" else total, np.float32)


def _is_plain_vjp(*arrays: Any, **_: Any) -> bool:
    return all(a is None for a in arrays[4:])  # the weights; the engine asks with g alone, having chosen in forward


@kernel(
    "binary_cross_entropy_with_logits_vjp",
    impl="numba",
    device="cpu",
    dtypes="f4",
    when=_is_plain_vjp,
    cost=vjp_cost,
)
def binary_cross_entropy_with_logits_vjp(
    g: np.ndarray,
    y: None,
    x: np.ndarray,
    target: np.ndarray,
    weight: None,
    pos_weight: None,
    *,
    reduction: str,
    needs: tuple[bool, ...],
) -> tuple[np.ndarray | None, np.ndarray | None, None, None]:
    slope = g / np.float32(x.size) if reduction == "mean" else g
    dx = dtarget = None
    if needs[0]:
        dx = np.empty_like(x)
        split = x.size >= PARALLEL_FROM
        if reduction == "none":
            out, flat_g, flat_x, t = flat(dx, g, x, target)
            _compiled[_each_vjp][split](*read_only(flat_g, flat_x, t), out)
        else:
            out, flat_x, t = flat(dx, x, target)
            _compiled[_sum_vjp][split](np.float32(slope), *read_only(flat_x, t), out)
    if needs[1]:
        dtarget = slope * -x
    return dx, dtarget, None, None
