"""RMS norm in CUDA C++: layer norm's kernels without the mean."""

from __future__ import annotations

from typing import Any

from ..layer_norm.cuda import MODULE as MODULE
from ..layer_norm.cuda import Problem, backward, forward
from ..registry import kernel
from .reference import value_cost, vjp_cost

_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


@kernel("rms_norm", cost=value_cost, **_on_gpu)
def rms_norm(x: Any, weight: Any, *, normalized_shape: tuple[int, ...], eps: float) -> tuple[Any, Any]:
    """y, and 1 / root mean square of each sample."""
    y, _, rstd, _ = forward(Problem(x, weight, None, normalized_shape), eps, center=False)
    return y, rstd


@kernel("rms_norm_vjp", cost=vjp_cost, **_on_gpu)
def rms_norm_vjp(
    g: Any, y: Any, x: Any, weight: Any, rstd: Any, *, normalized_shape: tuple[int, ...], eps: float
) -> tuple[Any, Any]:
    """Gradients in x and weight."""
    dx, dweight, _ = backward(Problem(x, weight, None, normalized_shape), g, None, rstd)
    return dx, dweight
