"""Dropout with the mask drawn on the way: no mask is stored, since a counter is all that it takes to draw it again."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.dropout.cpu", "cpu", "dropout")
provide("scratchgen.kernels.dropout.cuda", "cuda", "dropout")
provide("scratchgen.kernels.dropout.cuda", "emu", "dropout")

__all__ = ["cases", "reference"]
