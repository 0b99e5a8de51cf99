"""The moving average in CUDA C++."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..launch import Changed, Module, blocks_for
from ..registry import kernel
from .reference import ema_cost

MODULE = Module("ema/ema.cu", "ema")


def _in_one_run(average: Any, value: Any, **_: Any) -> bool:
    return average.dtype == value.dtype and average.flags.c_contiguous and value.flags.c_contiguous


@kernel("ema", impl="cuda", device="cuda emu", dtypes="f4", when=_in_one_run, cost=ema_cost)
def ema(average: Any, value: Any, *, decay: float) -> Any:
    """One step in place."""
    count, rate = np.int64(average.size), np.float32(1 - decay)
    MODULE.launch("ema", *blocks_for(average.size), Changed(average), value, count, rate)
    return average
