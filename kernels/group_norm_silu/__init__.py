"""SiLU of group norm, the first half of every block of a diffusion U-Net."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.group_norm_silu.cpu", "cpu", "group_norm_silu", "group_norm_silu_vjp")
provide("scratchgen.kernels.group_norm_silu.cuda", "cuda", "group_norm_silu", "group_norm_silu_vjp")
provide("scratchgen.kernels.group_norm_silu.cuda", "emu", "group_norm_silu", "group_norm_silu_vjp")

__all__ = ["cases", "reference"]
