"""Group norm, and with one group a channel instance norm."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.group_norm.cpu", "cpu", "group_norm", "group_norm_vjp")
provide("scratchgen.kernels.group_norm.cuda", "cuda", "group_norm", "group_norm_vjp")
provide("scratchgen.kernels.group_norm.cuda", "emu", "group_norm", "group_norm_vjp")

__all__ = ["cases", "reference"]
