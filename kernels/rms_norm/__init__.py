"""RMS norm."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.rms_norm.cpu", "cpu", "rms_norm", "rms_norm_vjp")
provide("scratchgen.kernels.rms_norm.cuda", "cuda", "rms_norm", "rms_norm_vjp")
provide("scratchgen.kernels.rms_norm.cuda", "emu", "rms_norm", "rms_norm_vjp")

__all__ = ["cases", "reference"]
