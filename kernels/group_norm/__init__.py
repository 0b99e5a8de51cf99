"""Group norm, and with one group a channel instance norm."""

from . import cases, reference

__all__ = ["cases", "reference"]
