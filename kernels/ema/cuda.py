"""The moving average in CUDA C++."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..launch import TYPES, Changed, Module, blocks_for
from ..registry import kernel
from ..tables import THREADS, alike, tables
from . import reference
from .reference import ema_cost, ema_many_cost

MODULE = Module("ema/ema.cu", *(f"{name}<{t}>" for t in TYPES.values() for name in ("ema", "ema_many")))


def _in_one_run(average: Any, value: Any, **_: Any) -> bool:
    return average.dtype == value.dtype and average.flags.c_contiguous and value.flags.c_contiguous


_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


@kernel("ema", when=_in_one_run, cost=ema_cost, **_on_gpu)
def ema(average: Any, value: Any, *, decay: float) -> Any:
    """One step in place."""
    count, rate = np.int64(average.size), np.float32(1 - decay)
    MODULE.launch(f"ema<{TYPES[average.dtype.name]}>", *blocks_for(average.size), Changed(average), value, count, rate)
    return average


@kernel("ema_many", cost=ema_many_cost, **_on_gpu)
def ema_many(averages: Any, values: Any, *, decay: float) -> None:
    """One step of each in place."""
    if not alike(averages, values):
        reference.ema_many(averages, values, decay=decay)
        return
    name = f"ema_many<{TYPES[averages[0].dtype.name]}>"
    for table, blocks in tables([Changed(a) for a in averages], values):
        MODULE.launch(name, blocks, THREADS, table, np.float32(1 - decay))
