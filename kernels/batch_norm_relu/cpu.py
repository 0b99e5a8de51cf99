"""ReLU of batch norm in Numba: the loops of batch norm with the activation where the result is written."""

from __future__ import annotations

import numpy as np

from ..batch_norm.cpu import is_worth_it, values, vjps
from ..registry import kernel
from .reference import value_cost, vjp_cost


@kernel("batch_norm_relu", impl="numba", device="cpu", dtypes="f4", when=is_worth_it, cost=value_cost)
def batch_norm_relu(
    x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, *, eps: float, slope: float
) -> tuple[np.ndarray, ...]:
    return values(x, weight, bias, eps, "leaky_relu", slope)


@kernel("batch_norm_relu_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def batch_norm_relu_vjp(
    g: tuple[np.ndarray, ...],
    y: None,
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    rstd: np.ndarray,
    *,
    eps: float,
    slope: float,
) -> tuple[np.ndarray | None, ...]:
    return vjps(g, x, weight, bias, mean, rstd, "leaky_relu", slope)
