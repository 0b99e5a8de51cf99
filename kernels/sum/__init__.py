"""Sums over dimensions."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.sum.cpu", "cpu", "sum")
provide("scratchgen.kernels.sum.cuda", "cuda", "sum")
provide("scratchgen.kernels.sum.cuda", "emu", "sum")

__all__ = ["cases", "reference"]
