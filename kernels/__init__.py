"""Hand-written kernels: arrays in, arrays out. Nothing here knows of Tensors or of gradients' bookkeeping."""

from .registry import Cost, Kernel, has, implementations, kernel, ops, overrides, provide, select, use
from . import (  # isort: skip  # each folder registers its op's kernels
    philox,
)

__all__ = [
    "Cost", "Kernel", "has", "implementations", "kernel", "ops", "overrides", "philox", "provide", "select", "use",
]  # fmt: skip
