"""Activations and their derivatives."""

from ..registry import provide
from . import cases, reference

for _op in cases.ATTRS:
    provide("scratchgen.kernels.activation.cpu", "cpu", _op, f"{_op}_vjp")
for _op in ("sigmoid", "tanh", "silu", "gelu", "softplus", "logsigmoid", "mish", "relu", "leaky_relu"):
    for _device in ("cuda", "emu"):
        provide("scratchgen.kernels.activation.cuda", _device, _op, f"{_op}_vjp")

__all__ = ["cases", "reference"]
