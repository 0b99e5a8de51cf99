"""The sum of two arrays, and of an array and one that is spread over it: residuals, biases, embeddings of time."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.add.cpu", "cpu", "add", "accumulate")

__all__ = ["cases", "reference"]
