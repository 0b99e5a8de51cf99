"""Looking up rows of a table, and adding rows to those of a table: a pair, each the gradient of the other."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.scatter_add.cpu", "cpu", "scatter_add", "take_rows")
provide("scratchgen.kernels.scatter_add.cuda", "cuda", "scatter_add", "take_rows")
provide("scratchgen.kernels.scatter_add.cuda", "emu", "scatter_add", "take_rows")

__all__ = ["cases", "reference"]
