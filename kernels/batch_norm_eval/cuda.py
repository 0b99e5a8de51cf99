"""Batch norm in evaluation in CUDA C++: batch norm's kernels, with statistics that are given."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..batch_norm.cuda import MODULE as MODULE
from ..batch_norm.cuda import Batch, fits
from ..registry import kernel
from .reference import of_parameters, scaling, value_cost, vjp_cost

_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


def _statistics(batch: Batch, mean: Any, var: Any, eps: float) -> tuple[Any, Any]:
    """Mean and 1 / standard deviation in float32."""
    return batch.xp.ascontiguousarray(mean, np.float32), batch.xp.ascontiguousarray(scaling(var, None, eps)[0])


@kernel("batch_norm_eval", when=fits, cost=value_cost, **_on_gpu)
def batch_norm_eval(x: Any, mean: Any, var: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    """y."""
    batch = Batch(x, weight, bias, 1.0)
    return batch.apply(*_statistics(batch, mean, var, eps))


@kernel("batch_norm_eval_vjp", when=fits, cost=vjp_cost, **_on_gpu)
def batch_norm_eval_vjp(
    g: Any, y: Any, x: Any, mean: Any, var: Any, weight: Any, bias: Any, *, eps: float
) -> tuple[Any, ...]:
    """Gradients in x, mean, var, weight and bias."""
    batch = Batch(x, weight, bias, 1.0, g)
    centre, rstd = _statistics(batch, mean, var, eps)
    along, total = batch.sums(centre, rstd)
    dx = batch.vjp(centre, rstd, None, None, None, None)
    grads = of_parameters(total, along / rstd, rstd, rstd if weight is None else rstd * weight, weight, bias)
    return dx, *(None if a is None else a.astype(x.dtype, copy=False) for a in grads)
