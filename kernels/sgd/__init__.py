"""One step of gradient descent in place: parameter and momentum updated in one pass over memory."""

from ..registry import provide
from . import reference

provide("scratchgen.kernels.sgd.cpu", "cpu", "sgd_many")

__all__ = ["reference"]
