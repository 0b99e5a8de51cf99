"""Binary cross entropy of logits against probabilities."""

from ..registry import provide
from . import cases, reference

provide(
    "scratchgen.kernels.bce.cpu",
    "cpu",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_vjp",
)

__all__ = ["cases", "reference"]
