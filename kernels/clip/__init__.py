"""The norm of many gradients taken as one vector, and scaling them all: what clipping by norm consists of."""

from ..registry import provide
from . import reference

provide("scratchgen.kernels.clip.cpu", "cpu", "norm_many", "scale_many")
provide("scratchgen.kernels.clip.cuda", "cuda", "norm_many", "scale_many")
provide("scratchgen.kernels.clip.cuda", "emu", "norm_many", "scale_many")

__all__ = ["reference"]
