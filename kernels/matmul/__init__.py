"""Matrix products: batched with broadcasting, and the linear layer."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.matmul.cpu", "cpu", "matmul", "linear", "linear_vjp")

__all__ = ["cases", "reference"]
