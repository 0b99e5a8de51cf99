"""Batch norm with the statistics of the batch."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.batch_norm.cpu", "cpu", "batch_norm", "batch_norm_vjp")
provide("scratchgen.kernels.batch_norm.cuda", "cuda", "batch_norm", "batch_norm_vjp")
provide("scratchgen.kernels.batch_norm.cuda", "emu", "batch_norm", "batch_norm_vjp")

__all__ = ["cases", "reference"]
