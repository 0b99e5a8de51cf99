"""Matrix products: batched with broadcasting, and the linear layer."""

from ..registry import provide
from . import cases, reference

_OPS = ("matmul", "linear", "linear_vjp", "linear_activation")
provide("scratchgen.kernels.matmul.study", "cpu", "matmul")
provide("scratchgen.kernels.matmul.cpu", "cpu", *_OPS, "linear_activation_vjp")
for _device in ("cuda", "emu"):
    provide("scratchgen.kernels.matmul.cuda", _device, *_OPS)
    provide("scratchgen.kernels.matmul.cuda_hopper", _device, *_OPS)
provide("scratchgen.kernels.matmul.numba_cuda", "cuda", "matmul")

__all__ = ["cases", "reference"]
