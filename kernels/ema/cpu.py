"""The moving average in Numba: one pass, no temporaries, the reference's operations in the reference's order."""

from __future__ import annotations

import numpy as np

from ..many import block_of, in_one_run, tabulate
from ..numba_config import njit, prange, serial_and_parallel
from ..registry import kernel
from . import reference
from .reference import ema_cost, ema_many_cost

PARALLEL_FROM = 1 << 16  # elements; below this a second thread costs more than it saves
BLOCK = 1 << 13  # elements that a thread takes at a time


@njit(nogil=True)
def _update(average, value, rate):
    for i in range(average.size):
        average[i] += rate * (value[i] - average[i])


def _update_all(average, value, rate):
    for block in prange(-(-average.size // BLOCK)):
        run = slice(block * BLOCK, (block + 1) * BLOCK)
        _update(average[run], value[run], rate)


def _update_many(addresses, blocks, rate):
    for b in prange(blocks.shape[0]):
        owner, start, stop = blocks[b, 0], blocks[b, 1], blocks[b, 2]
        _update(block_of(addresses[owner, 0], start, stop), block_of(addresses[owner, 1], start, stop), rate)


_compiled, _compiled_many = serial_and_parallel(_update_all), serial_and_parallel(_update_many)


@kernel(
    "ema",
    impl="numba",
    device="cpu",
    dtypes="f4 f8",
    when=lambda average, value, **_: (
        average.dtype == value.dtype and average.flags.c_contiguous and value.flags.c_contiguous
    ),
    cost=ema_cost,
)
def ema(average: np.ndarray, value: np.ndarray, *, decay: float) -> np.ndarray:
    run = _compiled[average.size >= PARALLEL_FROM]
    run(average.reshape(-1), value.reshape(-1), average.dtype.type(1 - decay))
    return average


@kernel("ema_many", impl="numba", device="cpu", dtypes="f4", cost=ema_many_cost)
def ema_many(averages: list[np.ndarray], values: list[np.ndarray], *, decay: float) -> None:
    if not (in_one_run(averages) and in_one_run(values)):
        reference.ema_many(averages, values, decay=decay)
        return
    addresses, blocks = tabulate(averages, values)
    split = sum(a.size for a in averages) >= PARALLEL_FROM
    _compiled_many[split](addresses, blocks, np.float32(1 - decay))
