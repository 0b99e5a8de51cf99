"""Layer norm of a sum in CUDA C++: layer norm's kernels, which take the second addend on the way."""

from __future__ import annotations

from typing import Any

from ..layer_norm.cuda import MODULE as MODULE
from ..layer_norm.cuda import Problem, backward, forward
from ..registry import kernel
from .reference import value_cost, vjp_cost

_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


def _alike(x: Any, residual: Any, *_: Any, **__: Any) -> bool:
    return x.shape == residual.shape and x.dtype == residual.dtype


@kernel("layer_norm_residual", when=_alike, cost=value_cost, **_on_gpu)
def layer_norm_residual(
    x: Any, residual: Any, weight: Any, bias: Any, *, normalized_shape: tuple[int, ...], eps: float
) -> tuple[Any, Any, Any, Any]:
    """y and ``x + residual``; of that, mean and rstd of each sample."""
    y, mean, rstd, total = forward(Problem(x, weight, bias, normalized_shape), eps, residual=residual)
    return y, total, mean, rstd


@kernel("layer_norm_residual_vjp", cost=vjp_cost, **_on_gpu)
def layer_norm_residual_vjp(
    g: Any, y: Any, x: Any, residual: Any, weight: Any, bias: Any, mean: Any, rstd: Any, *,
    normalized_shape: tuple[int, ...], eps: float,
) -> tuple[Any, Any, Any, Any]:  # fmt: skip
    """Gradients in x, residual, weight and bias from those of y and the sum. ``y``: both outputs."""
    dx, dweight, dbias = backward(Problem(y[1], weight, bias, normalized_shape), g[0], mean, rstd, other=g[1])
    return dx, dx, dweight, dbias
