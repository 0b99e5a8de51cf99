"""Batch norm with the statistics of the batch."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.batch_norm.cpu", "cpu", "batch_norm", "batch_norm_vjp")

__all__ = ["cases", "reference"]
