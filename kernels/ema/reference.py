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
