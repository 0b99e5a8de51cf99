"""SiLU of group norm in Numba: the loops of group norm with the activation where the result is written."""

from __future__ import annotations

import numpy as np

from ..group_norm.cpu import is_worth_it, values, vjps
from ..registry import kernel
from .reference import value_cost, vjp_cost


@kernel("group_norm_silu", impl="numba", device="cpu", dtypes="f4", when=is_worth_it, cost=value_cost)
def group_norm_silu(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    shift: np.ndarray | None = None,
    *,
    num_groups: int,
    eps: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return values(x, weight, bias, num_groups, eps, "silu", shift)


@kernel("group_norm_silu_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def group_norm_silu_vjp(
    g: np.ndarray,
    y: None,
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    shift: np.ndarray | None,
    mean: np.ndarray,
    rstd: np.ndarray,
    *,
    num_groups: int,
    eps: float,
    onto: tuple[np.ndarray, ...] = (),
) -> tuple[np.ndarray | None, ...]:
    return vjps(g, x, weight, bias, mean, rstd, num_groups, "silu", shift, onto)
