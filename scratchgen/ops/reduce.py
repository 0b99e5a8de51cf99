"""Reductions, and the pair that undoes and does broadcasting. Dimensions and defaults as in torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..declare import method, primitive
from ..tensor import Tensor

__all__ = ["broadcast_to"]

# --- broadcasting and its transpose, closed


def _sum_to(x: Any, *, shape: tuple[int, ...]) -> Any:
    lead = x.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(lead + i for i, n in enumerate(shape) if n == 1 and x.shape[lead + i] != 1)
    return np.sum(x, axis=axes, keepdims=True).reshape(shape)


_sum_to_op = primitive("sum_to", _sum_to, (lambda g, y, x, *, shape: broadcast_to(g, x.shape),))
_broadcast_op = primitive(
    "broadcast_to",
    lambda x, *, shape: np.broadcast_to(x, shape),
    (lambda g, y, x, *, shape: sum_to_size(g, x.shape),),
)


@method()
def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """Sum ``input`` down to a shape that broadcasts to its own."""
    shape = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    return input if input.shape == shape else _sum_to_op(input, shape=shape)


@method()
def broadcast_to(input: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``input`` repeated along new and size-1 dimensions, without copying."""
    return input if input.shape == tuple(shape) else _broadcast_op(input, shape=tuple(shape))
