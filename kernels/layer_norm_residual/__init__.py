"""Layer norm of a sum, and the sum."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.layer_norm_residual.cpu", "cpu", "layer_norm_residual", "layer_norm_residual_vjp")
provide("scratchgen.kernels.layer_norm_residual.cuda", "cuda", "layer_norm_residual", "layer_norm_residual_vjp")
provide("scratchgen.kernels.layer_norm_residual.cuda", "emu", "layer_norm_residual", "layer_norm_residual_vjp")

__all__ = ["cases", "reference"]
