"""ReLU and leaky ReLU of batch norm in CUDA C++: batch norm's kernels, which know them too."""

from __future__ import annotations

from typing import Any

from ..batch_norm.cuda import MODULE as MODULE
from ..batch_norm.cuda import backward, fits, forward
from ..registry import kernel
from .reference import value_cost, vjp_cost

_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


@kernel("batch_norm_relu", when=fits, cost=value_cost, **_on_gpu)
def batch_norm_relu(x: Any, weight: Any, bias: Any, *, eps: float, slope: float) -> tuple[Any, ...]:
    """y, mean, variance; for the derivative mean and rstd."""
    return forward(x, weight, bias, eps, slope)


@kernel("batch_norm_relu_vjp", cost=vjp_cost, **_on_gpu)
def batch_norm_relu_vjp(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, *, eps: float, slope: float
) -> tuple[Any, Any, Any]:
    """Gradients in x, weight and bias from those of y, mean and variance."""
    return backward(g, x, weight, bias, mean, rstd, slope)
