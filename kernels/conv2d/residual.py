"""A convolution, then the residual: for the algorithms of the CPU that do not add it themselves."""

from __future__ import annotations

from typing import Any

from ..registry import kernel, select
from .reference import conv2d_residual_cost


@kernel("conv2d_residual", impl="composed", device="cpu", cost=conv2d_residual_cost, priority=5)
def conv2d_residual(x: Any, w: Any, b: Any, residual: Any, **how: Any) -> Any:
    """As the reference, by whatever kernels are chosen for ``conv2d`` and ``accumulate``."""
    y = select("conv2d", "cpu", (x, w, b), how).fn(x, w, b, **how)
    return select("accumulate", "cpu", (y, residual), {}).fn(y, residual)
