"""Cross entropy of logits against class indices."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.cross_entropy.cpu", "cpu", "cross_entropy", "cross_entropy_vjp")
provide("scratchgen.kernels.cross_entropy.cuda", "cuda", "cross_entropy", "cross_entropy_vjp")
provide("scratchgen.kernels.cross_entropy.cuda", "emu", "cross_entropy", "cross_entropy_vjp")

__all__ = ["cases", "reference"]
