"""Layer norm."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.layer_norm.cpu", "cpu", "layer_norm", "layer_norm_vjp")
provide("scratchgen.kernels.layer_norm.study", "cpu", "layer_norm", "layer_norm_vjp")
provide("scratchgen.kernels.layer_norm.cuda", "cuda", "layer_norm", "layer_norm_vjp")
provide("scratchgen.kernels.layer_norm.cuda", "emu", "layer_norm", "layer_norm_vjp")
provide("scratchgen.kernels.layer_norm.numba_cuda", "cuda", "layer_norm", "layer_norm_vjp")

__all__ = ["cases", "reference"]
