"""Adam in Numba: one pass, no temporaries. The same operations in the same order as the reference, so the same bits.

The arithmetic is light (a root and two divisions an element) beside 28 bytes of traffic, so what counts is to read
and write each array once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..many import block_of, in_one_run, tabulate
from ..numba_config import njit, prange, serial_and_parallel
from ..registry import kernel
from . import reference
from .reference import adam_cost, adam_many_cost

PARALLEL_FROM = 1 << 15  # elements; below this a second thread costs more than it saves
BLOCK = 1 << 13  # elements that a thread takes at a time


# error_model="numpy": without it every division is guarded against zero, which keeps the loop from vectorising.
@njit(nogil=True, error_model="numpy")
def _update(p, g, m, v, top, numbers):
    """One run of elements; ``top`` is None without AMSGrad."""
    sign, l2, shrink = numbers[0], numbers[1], numbers[2]
    rate1, beta2, rate2 = numbers[3], numbers[4], numbers[5]
    step_size, correction2, eps = numbers[6], numbers[7], numbers[8]
    for i in range(p.size):
        gi = sign * g[i] + l2 * p[i]
        mi = m[i] + rate1 * (gi - m[i])
        vi = v[i] * beta2 + rate2 * (gi * gi)
        second = vi
        if top is not None:
            second = vi if vi > top[i] or vi != vi else top[i]  # a NaN must show, as in np.maximum
            top[i] = second
        p[i] = p[i] * shrink - step_size * mi / (math.sqrt(second) / correction2 + eps)
        m[i] = mi
        v[i] = vi


def _update_all(p, g, m, v, top, numbers):
    for block in prange(-(-p.size // BLOCK)):
        run = slice(block * BLOCK, (block + 1) * BLOCK)
        _update(p[run], g[run], m[run], v[run], top if top is None else top[run], numbers)


def _update_many(addresses, blocks, numbers):
    for b in prange(blocks.shape[0]):
        owner, start, stop = blocks[b, 0], blocks[b, 1], blocks[b, 2]
        _update(
            block_of(addresses[owner, 0], start, stop),
            block_of(addresses[owner, 1], start, stop),
            block_of(addresses[owner, 2], start, stop),
            block_of(addresses[owner, 3], start, stop),
            None,
            numbers,
        )


_compiled, _compiled_many = serial_and_parallel(_update_all), serial_and_parallel(_update_many)


def _in_one_run(param: Any, grad: Any, *moments: Any, **_: Any) -> bool:
    """Whether what changes lies in memory without gaps, in one order; a gradient that does not is copied."""
    changed = [param, *(a for a in moments if a is not None)]
    return grad.dtype == param.dtype and all(a.dtype == param.dtype and a.flags.c_contiguous for a in changed)


def _numbers(
    dtype: Any,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    maximize: bool = False,
) -> np.ndarray:
    """What the loop multiplies with, in one array.

    Nine numbers would have to be cast and passed one by one, which costs more than a small parameter's update. In
    float64 they would make Numba compute float32 arrays in float64.
    """
    beta1, beta2 = betas
    sign, l2 = -1.0 if maximize else 1.0, 0.0 if decoupled else weight_decay
    shrink = 1.0 - lr * weight_decay if decoupled else 1.0
    step_size, correction2 = lr / (1 - beta1**step), (1 - beta2**step) ** 0.5
    return np.array((sign, l2, shrink, 1 - beta1, beta2, 1 - beta2, step_size, correction2, eps), dtype)


@kernel("adam", impl="numba", device="cpu", dtypes="f4 f8", when=_in_one_run, cost=adam_cost)
def adam(
    param: np.ndarray,
    grad: np.ndarray,
    exp_avg: np.ndarray,
    exp_avg_sq: np.ndarray,
    max_exp_avg_sq: np.ndarray | None = None,
    **options: Any,
) -> tuple[np.ndarray, ...]:
    arrays = (param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq)
    flat = [None if a is None else a.reshape(-1) for a in arrays]
    _compiled[param.size >= PARALLEL_FROM](*flat, _numbers(param.dtype, **options))
    return tuple(a for a in (param, exp_avg, exp_avg_sq, max_exp_avg_sq) if a is not None)


@kernel("adam_many", impl="numba", device="cpu", dtypes="f4 f8", cost=adam_many_cost)
def adam_many(
    params: list[np.ndarray],
    grads: list[np.ndarray],
    exp_avgs: list[np.ndarray],
    exp_avg_sqs: list[np.ndarray],
    **options: Any,
) -> None:
    columns = (params, [np.ascontiguousarray(g) for g in grads], exp_avgs, exp_avg_sqs)
    if not all(in_one_run(arrays) for arrays in columns):
        for arrays in zip(*columns, strict=True):
            (adam if _in_one_run(*arrays) else reference.adam)(*arrays, **options)
        return
    addresses, blocks = tabulate(*columns, fresh=1)
    _compiled_many[sum(p.size for p in params) >= PARALLEL_FROM](addresses, blocks, _numbers(np.float32, **options))
