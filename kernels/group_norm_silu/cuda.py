"""SiLU of group norm in CUDA C++: group norm's kernels, which know it too."""

from __future__ import annotations

from typing import Any

from ..group_norm.cuda import MODULE as MODULE
from ..group_norm.cuda import backward, fits, fits_vjp, forward
from ..registry import kernel
from .reference import value_cost, vjp_cost

_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


@kernel("group_norm_silu", when=fits, cost=value_cost, **_on_gpu)
def group_norm_silu(x: Any, weight: Any, bias: Any, *, num_groups: int, eps: float) -> tuple[Any, Any, Any]:
    """y, and mean and rstd of each group."""
    return forward(x, weight, bias, num_groups, eps, silu=True)


@kernel("group_norm_silu_vjp", when=fits_vjp, cost=vjp_cost, **_on_gpu)
def group_norm_silu_vjp(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, *, num_groups: int, eps: float
) -> tuple[Any, Any, Any]:
    """Gradients in x, weight and bias."""
    return backward(g, x, weight, bias, mean, rstd, num_groups, silu=True)
