"""Batch norm with the statistics of the batch."""

from . import cases, reference

__all__ = ["cases", "reference"]
