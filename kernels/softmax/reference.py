"""Softmax and its logarithm along one dimension, and their derivatives: the specification.

Subtracting the largest number first changes nothing but the range: no exponential overflows, and the sum is at least
1. A slice of nothing but -inf has no softmax and gives NaN, as in torch. float16 is computed in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import widen
from ..registry import Cost, kernel


def value_cost(x: Any, *, dim: int) -> Cost:
    """Reads x and writes y once; an exponential is counted as 15 operations."""
    return Cost(bytes=2 * x.nbytes, flops=19 * x.size)


def vjp_cost(g: Any, y: Any, x: Any, *, dim: int) -> Cost:
    """Reads g and y and writes the gradient once."""
    return Cost(bytes=3 * y.nbytes, flops=4 * y.size)


def log_vjp_cost(g: Any, y: Any, x: Any, *, dim: int) -> Cost:
    """As for softmax, with an exponential for each number."""
    return Cost(bytes=3 * y.nbytes, flops=18 * y.size)


def _below_largest(x: Any, dim: int) -> Any:
    with np.errstate(invalid="ignore"):  # -inf - -inf, see above
        return x - x.max(dim, keepdims=True)


@kernel("softmax", cost=value_cost)
def softmax(x: Any, *, dim: int) -> Any:
    """e^x over its sum along ``dim``."""
    if x.size == 0:
        return x.copy()
    e = np.exp(_below_largest(widen(x), dim))
    e /= e.sum(dim, keepdims=True)
    return e.astype(x.dtype, copy=False)


@kernel("softmax_vjp", cost=vjp_cost)
def softmax_vjp(g: Any, y: Any, x: Any, *, dim: int) -> Any:
    """y (g - sum(g y)): of a slice's gradient, what is left beside its mean under y."""
    g, wide = widen(g), widen(y)
    dx = wide * (g - (g * wide).sum(dim, keepdims=True))
    return dx.astype(y.dtype, copy=False)


@kernel("log_softmax", cost=value_cost)
def log_softmax(x: Any, *, dim: int) -> Any:
    """x minus the logarithm of the sum of e^x along ``dim``."""
    if x.size == 0:
        return x.copy()
    z = _below_largest(widen(x), dim)
    z = z - np.log(np.exp(z).sum(dim, keepdims=True))
    return z.astype(x.dtype, copy=False)


@kernel("log_softmax_vjp", cost=log_vjp_cost)
def log_softmax_vjp(g: Any, y: Any, x: Any, *, dim: int) -> Any:
    """g - softmax(x) sum(g)."""
    g = widen(g)
    dx = g - np.exp(widen(y)) * g.sum(dim, keepdims=True)
    return dx.astype(y.dtype, copy=False)
