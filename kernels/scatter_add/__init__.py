"""Adding rows to the rows of a table: the gradient of every look-up, such as an embedding's."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.scatter_add.cpu", "cpu", "scatter_add")
provide("scratchgen.kernels.scatter_add.cuda", "cuda", "scatter_add")
provide("scratchgen.kernels.scatter_add.cuda", "emu", "scatter_add")

__all__ = ["cases", "reference"]
