"""Clipping gradients by their norm (Pascanu et al. 2013): the specification of its two passes.

As the optimizers' kernels, ``scale_many`` changes its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..arrays import array_module
from ..registry import Cost, kernel


def norm_cost(arrays: Sequence[Any]) -> Cost:
    """Reads each array once."""
    return Cost(bytes=sum(a.nbytes for a in arrays), flops=2 * sum(a.size for a in arrays))


def scale_cost(arrays: Sequence[Any], factor: Any) -> Cost:
    """Reads and writes each array once."""
    return Cost(bytes=2 * sum(a.nbytes for a in arrays), flops=sum(a.size for a in arrays))


@kernel("norm_many", cost=norm_cost)
def norm_many(arrays: Sequence[Any]) -> Any:
    """The square root of the sum of the squares of all elements of all arrays; 0-d, of the first one's dtype."""
    xp = array_module(*arrays)
    norms = xp.stack([xp.linalg.norm(a.reshape(-1)) for a in arrays])
    return xp.asarray(xp.linalg.norm(norms), dtype=arrays[0].dtype)


@kernel("scale_many", cost=scale_cost)
def scale_many(arrays: Sequence[Any], factor: Any) -> None:
    """Multiply every array by a number (0-d array), in place."""
    for a in arrays:
        a *= factor
