"""Neural network layers: modules with parameters, under torch.nn's names."""

from .module import Module
from .parameter import Parameter

__all__ = ["Module", "Parameter"]
