"""RMS norm."""

from . import cases, reference

__all__ = ["cases", "reference"]
