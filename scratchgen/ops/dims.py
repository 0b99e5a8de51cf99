"""Dimensions and sizes as arguments: checked and made non-negative once, in errors that name op, argument and shape."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any


def normalize_dim(op: str, dim: int, shape: Sequence[int], extra: int = 0) -> int:
    """``dim`` counted from the front of ``shape`` with ``extra`` further dimensions; a 0-d tensor takes 0 and -1."""
    count = (len(shape) + extra) or 1
    dim = operator.index(dim)
    if not -count <= dim < count:
        raise IndexError(
            f"{op}: dim {dim} is out of range for a tensor of shape {list(shape)}; expected {-count} to {count - 1}"
        )
    return dim + count if dim < 0 else dim


def normalize_dims(op: str, dims: int | Sequence[int], shape: Sequence[int], extra: int = 0) -> tuple[int, ...]:
    """One dim or several, counted from the front; none may come twice."""
    given = dims if isinstance(dims, (tuple, list)) else (dims,)
    normal = tuple([normalize_dim(op, dim, shape, extra) for dim in given])
    if len(set(normal)) != len(normal):
        raise ValueError(f"{op}: dims {list(given)} name a dimension of a tensor of shape {list(shape)} twice")
    return normal


def variadic(function: Callable) -> Callable:
    """The method of ``function(input, sizes)``, which also takes the sizes one by one: ``x.reshape(2, 3)``."""

    @wraps(function)
    def method(self: Any, *sizes: Any, **named: Any) -> Any:
        if len(sizes) == 1 and not hasattr(sizes[0], "__index__"):
            return function(self, sizes[0], **named)
        if named and not sizes:
            return function(self, **named)
        return function(self, sizes, **named)

    return method
