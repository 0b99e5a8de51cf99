"""Binary cross entropy of logits against probabilities."""

from ..registry import provide
from . import cases, reference

_OPS = ("binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits_vjp")
provide("scratchgen.kernels.bce.cpu", "cpu", *_OPS)
provide("scratchgen.kernels.bce.cuda", "cuda", *_OPS)
provide("scratchgen.kernels.bce.cuda", "emu", *_OPS)

__all__ = ["cases", "reference"]
