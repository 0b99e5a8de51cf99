"""The affine coupling of a flow: a scale and a shift for half of the channels, and how it changes volume."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.affine_coupling.cpu", "cpu", "affine_coupling", "affine_coupling_vjp")

__all__ = ["cases", "reference"]
