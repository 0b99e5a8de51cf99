"""Addition: the specification."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..registry import Cost, kernel


def add_cost(a: Any, b: Any) -> Cost:
    """Reads both arrays and writes one like the larger."""
    return Cost(bytes=2 * max(a.nbytes, b.nbytes) + min(a.nbytes, b.nbytes), flops=max(a.size, b.size))


@kernel("add", cost=add_cost)
def add(a: Any, b: Any) -> Any:
    """``a + b`` with NumPy's broadcasting."""
    return np.add(a, b)


@kernel("accumulate", cost=add_cost)
def accumulate(a: Any, b: Any) -> Any:
    """``a += b`` for arrays of one shape: how gradients add up. As an optimizer's kernel, it changes its argument."""
    np.add(a, b, out=a)
    return a
