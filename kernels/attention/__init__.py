"""Scaled dot-product attention."""

from ..registry import provide
from . import cases, reference

_op = "scaled_dot_product_attention"
provide("scratchgen.kernels.attention.cpu", "cpu", _op, f"{_op}_vjp")
provide("scratchgen.kernels.attention.ladder", "cpu", _op)
for _device in ("cuda", "emu"):
    provide("scratchgen.kernels.attention.cuda", _device, _op)
    provide("scratchgen.kernels.attention.cuda_hopper", _device, _op)
    provide("scratchgen.kernels.attention.cuda_vjp", _device, f"{_op}_vjp")
provide("scratchgen.kernels.attention.numba_cuda", "cuda", _op, f"{_op}_vjp")

__all__ = ["cases", "reference"]
