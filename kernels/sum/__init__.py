"""Sums over dimensions."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.sum.cpu", "cpu", "sum")

__all__ = ["cases", "reference"]
