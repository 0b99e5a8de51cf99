"""Gradient descent in Numba: one pass, no temporaries. The reference's operations in its order, so the same bits."""

from __future__ import annotations

import numpy as np

from ..many import block_of, in_one_run, tabulate
from ..numba_config import njit, prange, serial_and_parallel
from ..registry import kernel
from . import reference
from .reference import sgd_many_cost

PARALLEL_FROM = 1 << 15  # elements; below this a second thread costs more than it saves


@njit(nogil=True)
def _update(p, g, numbers):
    """One run of elements without momentum."""
    sign, decay, lr = numbers[0], numbers[1], numbers[2]
    for i in range(p.size):
        p[i] -= lr * (sign * g[i] + decay * p[i])


@njit(nogil=True)
def _update_with_momentum(p, g, buffer, numbers, nesterov):
    sign, decay, lr, momentum, rate = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    for i in range(p.size):
        gi = sign * g[i] + decay * p[i]
        moved = momentum * buffer[i] + rate * gi
        buffer[i] = moved
        p[i] -= lr * (gi + momentum * moved if nesterov else moved)


def _update_many(addresses, blocks, numbers, nesterov):
    for b in prange(blocks.shape[0]):
        owner, start, stop = blocks[b, 0], blocks[b, 1], blocks[b, 2]
        p, g = block_of(addresses[owner, 0], start, stop), block_of(addresses[owner, 1], start, stop)
        if addresses.shape[1] > 2:
            _update_with_momentum(p, g, block_of(addresses[owner, 2], start, stop), numbers, nesterov)
        else:
            _update(p, g, numbers)


_compiled = serial_and_parallel(_update_many)


@kernel("sgd_many", impl="numba", device="cpu", dtypes="f4", cost=sgd_many_cost)
def sgd_many(
    params: list[np.ndarray],
    grads: list[np.ndarray],
    buffers: list[np.ndarray],
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> None:
    columns = [params, [np.ascontiguousarray(g) for g in grads], *([buffers] if momentum else [])]
    if not all(in_one_run(arrays) for arrays in columns):
        options = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        reference.sgd_many(params, grads, buffers, lr=lr, **options, nesterov=nesterov, maximize=maximize)
        return
    addresses, blocks = tabulate(*columns, fresh=1)
    numbers = np.array((-1.0 if maximize else 1.0, weight_decay, lr, momentum, 1 - dampening), np.float32)
    _compiled[sum(p.size for p in params) >= PARALLEL_FROM](addresses, blocks, numbers, nesterov)
