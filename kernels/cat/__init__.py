"""Arrays joined along a dimension: skips of a U-Net, gradients of queries, keys and values."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.cat.cpu", "cpu", "cat")
provide("scratchgen.kernels.cat.cuda", "cuda", "cat")
provide("scratchgen.kernels.cat.cuda", "emu", "cat")

__all__ = ["cases", "reference"]
