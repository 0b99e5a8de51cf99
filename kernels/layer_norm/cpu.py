"""Layer norm in Numba: the loops are those of ``row_norm``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..registry import kernel
from ..row_norm import COMPILED_FROM, values, vjps
from .reference import value_cost, vjp_cost


def _is_worth_it(x: np.ndarray, weight: Any, bias: Any, **_: Any) -> bool:
    return x.size >= COMPILED_FROM


@kernel("layer_norm", impl="numba", device="cpu", dtypes="f4", when=_is_worth_it, cost=value_cost)
def layer_norm(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, _, mean, rstd = values(x, None, weight, bias, normalized_shape, eps)
    return y, mean, rstd


@kernel("layer_norm_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def layer_norm_vjp(
    g: np.ndarray,
    y: None,
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    rstd: np.ndarray,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> tuple[np.ndarray | None, ...]:
    dx, dweight, dbias = vjps(g, None, x, weight, mean, rstd, normalized_shape)
    return dx, None if weight is None else dweight, None if bias is None else dbias
