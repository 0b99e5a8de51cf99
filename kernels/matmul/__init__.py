"""Matrix products: batched with broadcasting, and the linear layer."""

from . import cases, reference

__all__ = ["cases", "reference"]
