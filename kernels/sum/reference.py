"""The sum over some dimensions: the specification is ``kernels.sums``."""

from __future__ import annotations

from typing import Any

from ..registry import Cost, kernel
from ..sums import accurate_sum


def sum_cost(x: Any, *, dim: tuple[int, ...] | None, keepdim: bool) -> Cost:
    """Reads x once."""
    return Cost(bytes=x.nbytes, flops=x.size)


@kernel("sum", cost=sum_cost)
def sum(x: Any, *, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
    """Of a floating-point array over ``dim`` (None: all)."""
    return accurate_sum(x, dim, keepdim)
