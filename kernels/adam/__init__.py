"""One step of Adam or AdamW in place: moments and parameter updated in one pass over memory."""

from ..registry import provide
from . import reference

provide("scratchgen.kernels.adam.cpu", "cpu", "adam", "adam_many")
provide("scratchgen.kernels.adam.cuda", "cuda", "adam", "adam_many")
provide("scratchgen.kernels.adam.cuda", "emu", "adam", "adam_many")

__all__ = ["reference"]
