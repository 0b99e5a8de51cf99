"""The sum of two arrays, and of an array and one that is spread over it: residuals, biases, embeddings of time."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.add.cpu", "cpu", "add", "accumulate")
provide("scratchgen.kernels.add.cuda", "cuda", "add", "accumulate")
provide("scratchgen.kernels.add.cuda", "emu", "add", "accumulate")

__all__ = ["cases", "reference"]
