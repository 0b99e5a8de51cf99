"""RMS norm in Numba: the loops are those of ``row_norm``, with the mean taken as 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..registry import kernel
from ..row_norm import COMPILED_FROM, values, vjps
from .reference import value_cost, vjp_cost


def _is_worth_it(x: np.ndarray, weight: Any, **_: Any) -> bool:
    return x.size >= COMPILED_FROM


@kernel("rms_norm", impl="numba", device="cpu", dtypes="f4", when=_is_worth_it, cost=value_cost)
def rms_norm(
    x: np.ndarray, weight: np.ndarray | None, *, normalized_shape: tuple[int, ...], eps: float
) -> tuple[np.ndarray, np.ndarray]:
    y, _, _, rstd = values(x, None, weight, None, normalized_shape, eps, centred=False)
    return y, rstd


@kernel("rms_norm_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def rms_norm_vjp(
    g: np.ndarray,
    y: None,
    x: np.ndarray,
    weight: np.ndarray | None,
    rstd: np.ndarray,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> tuple[np.ndarray | None, ...]:
    dx, dweight, _ = vjps(g, None, x, weight, np.zeros(rstd.shape), rstd, normalized_shape, centred=False)
    return dx, None if weight is None else dweight
