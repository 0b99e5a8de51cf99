"""One step of an exponential moving average, in place."""

from ..registry import provide
from . import reference

provide("scratchgen.kernels.ema.cpu", "cpu", "ema", "ema_many")
provide("scratchgen.kernels.ema.cuda", "cuda", "ema", "ema_many")
provide("scratchgen.kernels.ema.cuda", "emu", "ema", "ema_many")

__all__ = ["reference"]
