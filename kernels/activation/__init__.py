"""Smooth activations: silu, gelu, softplus, logsigmoid, mish, and their derivatives."""

from ..registry import provide
from . import cases, reference

provide(
    "scratchgen.kernels.activation.cpu", "cpu",
    "silu", "silu_vjp", "gelu", "gelu_vjp", "softplus", "softplus_vjp",
)  # fmt: skip

__all__ = ["cases", "reference"]
