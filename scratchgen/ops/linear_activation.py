"""A linear layer, its activation and a residual connection as one op: the result is written once."""

from __future__ import annotations

from ..declare import fused
from ..tensor import Tensor
from .activation import gelu, relu, silu
from .matmul import linear

__all__ = ["linear_activation"]

ACTIVATIONS = {
    "none": lambda x: x,
    "relu": relu,
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": lambda x: gelu(x, approximate="tanh"),
}


@fused(auxiliary=1)
def _linear_activation(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, residual: Tensor | None = None, *, activation: str
) -> Tensor:
    y = ACTIVATIONS[activation](linear(input, weight, bias))
    return y if residual is None else y + residual


def linear_activation(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    activation: str = "none",
) -> Tensor:
    """``activation(linear(input, weight, bias)) + residual``, in one pass over the result.

    ``input`` [..., in], ``weight`` [out, in], ``bias`` [out], ``residual`` [..., out]: [..., out]. ``activation`` is
    ``"none"``, ``"relu"``, ``"silu"``, ``"gelu"`` or ``"gelu_tanh"``.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"linear_activation: unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
    shape = (*input.shape[:-1], weight.shape[0])
    fits = weight.ndim == 2 and input.shape[-1:] == weight.shape[1:]
    if not fits or (bias is not None and bias.shape != weight.shape[:1]):
        linear(input, weight, bias)  # says what is wrong
        raise ValueError(f"linear_activation: weight must be [out, in], got {list(weight.shape)}")
    if residual is not None and residual.shape != shape:
        raise ValueError(f"linear_activation: residual of shape {list(residual.shape)}, expected {list(shape)}")
    if any(x is not None and x.dtype is not input.dtype for x in (weight, bias, residual)):
        given = [str(x.dtype) for x in (input, weight, bias, residual) if x is not None]
        raise TypeError(f"linear_activation: inputs of {', '.join(given)} differ in dtype; cast them with .to(dtype)")
    return _linear_activation(input, weight, bias, residual, activation=activation)
