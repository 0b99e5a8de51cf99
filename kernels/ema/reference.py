"""The exponential moving average of weights: the specification.

As the optimizer kernels, it updates its first argument in place and returns it.
"""

from __future__ import annotations

from typing import Any

from ..registry import Cost, kernel


def ema_cost(average: Any, value: Any, **_: Any) -> Cost:
    """Reads both arrays once and writes one."""
    return Cost(bytes=3 * average.nbytes, flops=3 * average.size)


@kernel("ema", cost=ema_cost)
def ema(average: Any, value: Any, *, decay: float) -> Any:
    """``average = decay * average + (1 - decay) * value`` in place."""
    average += (1 - decay) * (value - average)
    return average


def ema_many_cost(averages: Any, values: Any, **_: Any) -> Cost:
    """As ``ema``, of each."""
    return Cost(bytes=3 * sum(a.nbytes for a in averages), flops=3 * sum(a.size for a in averages))


@kernel("ema_many", cost=ema_many_cost)
def ema_many(averages: Any, values: Any, *, decay: float) -> None:
    """``ema`` of each of the averages, lists of arrays."""
    for average, value in zip(averages, values, strict=True):
        ema(average, value, decay=decay)
