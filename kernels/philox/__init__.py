"""Random bits, uniforms and normals from a counter: the same numbers on every device."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.philox.cpu", "cpu", "philox_bits", "philox_uniform", "philox_normal")

__all__ = ["cases", "reference"]
