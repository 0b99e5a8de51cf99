"""Matrix products: batched with broadcasting, and the linear layer."""

from ..registry import provide
from . import cases, reference

_OPS = ("matmul", "linear", "linear_vjp", "linear_activation")
provide("scratchgen.kernels.matmul.study", "cpu", "matmul")
provide("scratchgen.kernels.matmul.cpu", "cpu", *_OPS)
provide("scratchgen.kernels.matmul.cuda", "cuda", *_OPS)
provide("scratchgen.kernels.matmul.cuda", "emu", *_OPS)
provide("scratchgen.kernels.matmul.numba_cuda", "cuda", "matmul")

__all__ = ["cases", "reference"]
