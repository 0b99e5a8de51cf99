"""Dropout (Srivastava et al. 2014): the specification. Linear and its own transpose, it is its derivative too."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..philox.reference import philox_uniform
from ..registry import Cost, kernel


def dropout_cost(x: Any, **_: Any) -> Cost:
    """Reads x and writes y once; a random word is counted as 25 operations."""
    return Cost(bytes=2 * x.nbytes, flops=27 * x.size)


@kernel("dropout", cost=dropout_cost)
def dropout(x: Any, *, key: Any, counter: int, p: float) -> Any:
    """0 with probability ``p``, else ``x / (1 - p)``.

    Number i in row-major order is kept if the i-th float32 uniform of stream ``key`` from block ``counter`` is at
    least ``p``.
    """
    uniform = philox_uniform(key, counter=counter, count=x.size, dtype=np.float32)
    mask = (uniform.reshape(x.shape) >= p).astype(x.dtype)
    if p < 1:
        mask *= 1 / (1 - p)
    return x * mask
