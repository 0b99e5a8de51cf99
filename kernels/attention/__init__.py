"""Scaled dot-product attention."""

from ..registry import provide
from . import cases, reference

provide(
    "scratchgen.kernels.attention.cpu", "cpu", "scaled_dot_product_attention", "scaled_dot_product_attention_vjp"
)

__all__ = ["cases", "reference"]
