"""Batch norm in evaluation, with running statistics."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.batch_norm_eval.cpu", "cpu", "batch_norm_eval", "batch_norm_eval_vjp")
provide("scratchgen.kernels.batch_norm_eval.cuda", "cuda", "batch_norm_eval", "batch_norm_eval_vjp")
provide("scratchgen.kernels.batch_norm_eval.cuda", "emu", "batch_norm_eval", "batch_norm_eval_vjp")

__all__ = ["cases", "reference"]
