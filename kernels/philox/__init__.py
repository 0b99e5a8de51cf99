"""Random bits, uniforms and normals from a counter: the same numbers on every device."""

from ..registry import provide
from . import cases, reference

_OPS = ("philox_bits", "philox_uniform", "philox_normal")
provide("scratchgen.kernels.philox.cpu", "cpu", *_OPS)
provide("scratchgen.kernels.philox.cuda", "cuda", *_OPS)
provide("scratchgen.kernels.philox.cuda", "emu", *_OPS)

__all__ = ["cases", "reference"]
