"""ReLU, or leaky ReLU, of batch norm."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.batch_norm_relu.cpu", "cpu", "batch_norm_relu", "batch_norm_relu_vjp")
provide("scratchgen.kernels.batch_norm_relu.cuda", "cuda", "batch_norm_relu", "batch_norm_relu_vjp")
provide("scratchgen.kernels.batch_norm_relu.cuda", "emu", "batch_norm_relu", "batch_norm_relu_vjp")

__all__ = ["cases", "reference"]
