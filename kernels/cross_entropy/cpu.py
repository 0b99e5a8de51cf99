"""Cross entropy in Numba, a row of logits at a time: the softmax is never stored, neither forward nor backward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..layout import read_only
from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..vecmath import ONE, ZERO, exp, largest, vector_sums
from .reference import reduced, row_gradients, row_weights, rows, value_cost, vjp_cost

COMPILED_FROM = 1 << 10  # elements; below, NumPy's few microseconds are not worth a compilation
PARALLEL_FROM = 1 << 15  # elements; below this a second thread costs more than it saves


@vector_sums
def _row(x, target, w, counts, weight, smoothing):
    """The loss of a row of logits, and lse."""
    top = largest(x)
    total = ZERO
    for j in range(x.size):
        total += exp(x[j] - top)
    lse = top + np.float32(math.log(total))
    loss = (ONE - smoothing) * w * (lse - x[target])
    if smoothing > ZERO:
        spread = ZERO
        for j in range(x.size):
            spread += weight[j] * (lse - x[j])
        loss += smoothing / np.float32(x.size) * spread
    return loss if counts else ZERO, lse


@vector_sums
def _vjp_row(x, target, at_target, spread, weight, total, lse, dx):
    scale = at_target + spread * total
    for j in range(x.size):
        dx[j] = scale * exp(x[j] - lse)
    if spread != ZERO:
        for j in range(x.size):
            dx[j] -= spread * weight[j]
    dx[target] -= at_target


def _cross_entropy(x, found, w, counts, weight, smoothing, losses, lses):
    for i in prange(x.shape[0]):
        losses[i], lses[i] = _row(x[i], found[i], w[i], counts[i], weight, smoothing)


def _cross_entropy_vjp(x, found, at_target, spread, weight, total, lses, dx):
    for i in prange(x.shape[0]):
        _vjp_row(x[i], found[i], at_target[i], spread[i], weight, total, lses[i], dx[i])


_value, _vjp = serial_and_parallel(_cross_entropy), serial_and_parallel(_cross_entropy_vjp)


def _matrix(x: np.ndarray) -> np.ndarray:
    """The logits, a row each; copied only where the classes do not lie next to one another."""
    return np.ascontiguousarray(rows(x)).reshape(-1, rows(x).shape[-1])


def _class_weights(weight: np.ndarray | None, classes: int) -> np.ndarray:
    return np.ones(classes, np.float32) if weight is None else np.ascontiguousarray(weight)


def _is_worth_it(x: np.ndarray, target: Any, weight: Any, **_: Any) -> bool:
    return x.size >= COMPILED_FROM


@kernel("cross_entropy", impl="numba", device="cpu", dtypes="f4", when=_is_worth_it, cost=value_cost)
def cross_entropy(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> tuple[np.ndarray, np.ndarray]:
    logits = _matrix(x)
    found, w, counts = row_weights(target.reshape(-1), weight, ignore_index, np.float32)
    losses, lses = np.empty(len(logits), np.float32), np.empty(len(logits), np.float32)
    smoothing = np.float32(label_smoothing)
    of_class = _class_weights(weight, logits.shape[1])
    run = _value[x.size >= PARALLEL_FROM]
    run(*read_only(logits, found, w, counts, of_class), smoothing, losses, lses)
    return np.asarray(reduced(losses.reshape(target.shape), w, reduction)), lses.reshape(target.shape)


@kernel("cross_entropy_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def cross_entropy_vjp(
    g: np.ndarray,
    y: None,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    lse: np.ndarray,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> tuple[np.ndarray, None, None]:
    logits = _matrix(x)
    found, w, counts = row_weights(target.reshape(-1), weight, ignore_index, np.float32)
    at_target, spread = row_gradients(g.reshape(-1), w, counts, reduction)
    at_target = at_target * np.float32(1 - label_smoothing)
    spread = spread * np.float32(label_smoothing / logits.shape[1])
    of_class = _class_weights(weight, logits.shape[1])
    dx = np.empty_like(x)
    gradients = _matrix(dx)
    run = _vjp[x.size >= PARALLEL_FROM]
    run(*read_only(logits, found, at_target, spread, of_class), of_class.sum(), *read_only(lse.reshape(-1)), gradients)
    if not np.may_share_memory(dx, gradients):  # the classes lie across memory
        gradients = gradients.reshape(rows(x).shape)
        dx = gradients[0] if x.ndim == 1 else np.moveaxis(gradients, -1, 1)
    return dx, None, None
