"""Batch norm in evaluation in Numba: the second pass of batch norm; and in the backward pass all gradients at once."""

from __future__ import annotations

import numpy as np

from ..batch_norm.cpu import Plan, is_worth_it
from ..layout import read_only
from ..registry import kernel
from ..vecmath import ZERO
from .reference import of_parameters, scaling, value_cost, vjp_cost


@kernel("batch_norm_eval", impl="numba", device="cpu", dtypes="f4", when=is_worth_it, cost=value_cost)
def batch_norm_eval(
    x: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    *,
    eps: float,
) -> np.ndarray:
    plan = Plan(x)
    scale = scaling(var, weight, eps)[1]
    numbers = plan.numbers(mean, scale, np.zeros_like(mean) if bias is None else bias)
    return plan.values(plan.array(x), numbers, ZERO)


@kernel("batch_norm_eval_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def batch_norm_eval_vjp(
    g: np.ndarray,
    y: None,
    x: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    *,
    eps: float,
) -> tuple[np.ndarray | None, ...]:
    plan = Plan(x)
    rstd, scale = scaling(var.astype(np.float64), weight, eps)
    nothing = np.zeros_like(mean)
    gy, a = read_only(plan.array(g), plan.array(x))
    dx, out = plan.new()
    centre, scaling_of_g = plan.numbers(mean, nothing, nothing), plan.numbers(nothing, scale, nothing)
    total, along = plan.scaled_vjps(gy, a, centre, scaling_of_g, out)
    grads = of_parameters(total, along, rstd, scale, weight, bias)
    return dx, *(None if p is None else p.astype(np.float32) for p in grads)
