"""Batch norm in CUDA C++: group norm's kernels, with a channel of all images in place of a group of one."""

from __future__ import annotations

from typing import Any

from ..group_norm.cuda import MODULE as MODULE
from ..group_norm.cuda import Problem, backward, forward
from ..registry import kernel
from .reference import value_cost, vjp_cost

_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


def _fits(x: Any, *_: Any, **__: Any) -> bool:
    return x.size > 0


@kernel("batch_norm", when=_fits, cost=value_cost, **_on_gpu)
def batch_norm(x: Any, weight: Any, bias: Any, *, eps: float) -> tuple[Any, ...]:
    """y, mean (C,), variance (C,); mean and rstd with axes kept."""
    y, mean, variance, rstd = forward(Problem(x, weight, bias, None), eps)
    kept = (1, -1) + (1,) * (x.ndim - 2)
    outputs = [a.astype(x.dtype, copy=False) for a in (mean, variance)]
    return y, *outputs, mean.reshape(kept), rstd.reshape(kept)


@kernel("batch_norm_vjp", cost=vjp_cost, **_on_gpu)
def batch_norm_vjp(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, *, eps: float
) -> tuple[Any, Any, Any]:
    """Gradients in x, weight and bias from those of y, mean and variance."""
    return backward(Problem(x, weight, bias, None), g[0], mean, rstd, through=g[1:])
