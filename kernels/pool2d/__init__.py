"""Max pooling of images and its derivatives. Average pooling is a resampling: see the folder of that name."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.pool2d.cpu", "cpu", "max_pool2d", "pool_gather", "pool_scatter")
provide("scratchgen.kernels.pool2d.cuda", "cuda", "max_pool2d", "pool_gather", "pool_scatter")
provide("scratchgen.kernels.pool2d.cuda", "emu", "max_pool2d", "pool_gather", "pool_scatter")

__all__ = ["cases", "reference"]
