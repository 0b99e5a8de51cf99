"""Softmax and log-softmax along one dimension."""

from ..registry import provide
from . import cases, reference

_OPS = ("softmax", "softmax_vjp", "log_softmax", "log_softmax_vjp")
provide("scratchgen.kernels.softmax.cpu", "cpu", *_OPS)
provide("scratchgen.kernels.softmax.ladder", "cpu", "softmax")
provide("scratchgen.kernels.softmax.cuda", "cuda", *_OPS)
provide("scratchgen.kernels.softmax.cuda", "emu", *_OPS)
provide("scratchgen.kernels.softmax.numba_cuda", "cuda", "softmax", "softmax_vjp")

__all__ = ["cases", "reference"]
