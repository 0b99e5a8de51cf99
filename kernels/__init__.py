"""Hand-written kernels: arrays in, arrays out. Nothing here knows of Tensors or of gradients' bookkeeping."""

from .compare import Case, Comparison, cases, comparable, compare
from .registry import Cost, Kernel, has, implementations, kernel, ops, overrides, provide, select, use

from . import (  # isort: skip  # each folder registers its op's kernels
    activation as activation,
    adam as adam,
    batch_norm as batch_norm,
    bce as bce,
    cross_entropy as cross_entropy,
    ema as ema,
    group_norm as group_norm,
    layer_norm as layer_norm,
    philox as philox,
    rms_norm as rms_norm,
    softmax as softmax,
)

__all__ = [
    "Case", "Comparison", "Cost", "Kernel", "cases", "comparable", "compare", "has", "implementations", "kernel", "ops",
    "overrides", "provide", "select", "use",
]  # fmt: skip
