"""Layer norm of a sum in Numba: the loops of ``row_norm``, which write the sum of a row before its statistics."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..registry import kernel
from ..row_norm import COMPILED_FROM, values, vjps
from .reference import value_cost, vjp_cost


def _is_worth_it(x: np.ndarray, *_: Any, **__: Any) -> bool:
    return x.size >= COMPILED_FROM


@kernel("layer_norm_residual", impl="numba", device="cpu", dtypes="f4", when=_is_worth_it, cost=value_cost)
def layer_norm_residual(
    x: np.ndarray,
    residual: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> tuple[np.ndarray, ...]:
    return values(x, residual, weight, bias, normalized_shape, eps)


@kernel("layer_norm_residual_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def layer_norm_residual_vjp(
    g: tuple[np.ndarray, np.ndarray],
    y: tuple[np.ndarray, np.ndarray],
    x: None,
    residual: None,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    rstd: np.ndarray,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> tuple[np.ndarray | None, ...]:
    dx, dweight, dbias = vjps(g[0], g[1], y[1], weight, mean, rstd, normalized_shape)
    return dx, dx, None if weight is None else dweight, None if bias is None else dbias
