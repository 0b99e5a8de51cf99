"""Softmax and log-softmax along one dimension."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.softmax.cpu", "cpu", "softmax", "softmax_vjp", "log_softmax", "log_softmax_vjp")

__all__ = ["cases", "reference"]
