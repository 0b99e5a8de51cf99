"""Matrix products: batched with broadcasting, and the linear layer."""

from . import reference

__all__ = ["reference"]
