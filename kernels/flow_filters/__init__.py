"""The filters of a flow's convolutions, made of the parameters that keep them invertible or scale them."""

from . import cases, reference

__all__ = ["cases", "reference"]
