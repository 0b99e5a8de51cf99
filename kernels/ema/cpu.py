"""The moving average in Numba: one pass, no temporaries, the reference's operations in the reference's order."""

from __future__ import annotations

import numpy as np

from ..numba_config import njit, prange, serial_and_parallel
from ..registry import kernel
from .reference import ema_cost

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


_compiled = serial_and_parallel(_update_all)


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
