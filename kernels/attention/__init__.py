"""Scaled dot-product attention."""

from . import cases, reference

__all__ = ["cases", "reference"]
