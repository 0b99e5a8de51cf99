"""SiLU of group norm in CUDA C++: group norm's kernels, which know it too."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..group_norm.cuda import MODULE as MODULE
from ..group_norm.cuda import backward, fits, fits_vjp, forward
from ..registry import kernel
from ..sums import accurate_sum
from .reference import shifted, value_cost, vjp_cost

_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


@kernel("group_norm_silu", when=fits, cost=value_cost, **_on_gpu)
def group_norm_silu(
    x: Any, weight: Any, bias: Any, shift: Any = None, *, num_groups: int, eps: float
) -> tuple[Any, Any, Any]:
    """y, and mean and rstd of each group. A shift is a pass of its own."""
    if shift is None:
        return forward(x, weight, bias, num_groups, eps, silu=True)
    total = shifted(_wide(x), shift)
    y, mean, rstd = forward(total, _wide(weight), _wide(bias), num_groups, eps, silu=True)
    return y.astype(x.dtype, copy=False), mean, rstd


@kernel("group_norm_silu_vjp", when=fits_vjp, cost=vjp_cost, **_on_gpu)
def group_norm_silu_vjp(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, shift: Any, mean: Any, rstd: Any, *, num_groups: int, eps: float
) -> tuple[Any, ...]:
    """Gradients in x, weight, bias and shift; the last is a sum in which most of dx cancels, so of dx unrounded."""
    if shift is None:
        return *backward(g, x, weight, bias, mean, rstd, num_groups, silu=True), None
    total = shifted(_wide(x), shift)
    grads = backward(_wide(g), total, _wide(weight), _wide(bias), mean, rstd, num_groups, silu=True)
    dshift = accurate_sum(grads[0], tuple(range(2, x.ndim))).reshape(shift.shape)
    return tuple(None if a is None else a.astype(x.dtype, copy=False) for a in (*grads, dshift))


def _wide(a: Any) -> Any:
    return None if a is None else a.astype(np.float32, copy=False)
