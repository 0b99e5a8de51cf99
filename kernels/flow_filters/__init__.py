"""The filters of a flow's convolutions, made of the parameters that keep them invertible or scale them."""

from ..registry import provide
from . import cases, reference

_OPS = ("scaled_filters", "scaled_filters_vjp", "mixing_filters", "mixing_filters_vjp")
provide("scratchgen.kernels.flow_filters.cpu", "cpu", *_OPS)

__all__ = ["cases", "reference"]
