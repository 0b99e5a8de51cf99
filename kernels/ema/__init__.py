"""One step of an exponential moving average, in place."""

from ..registry import provide
from . import reference

provide("scratchgen.kernels.ema.cpu", "cpu", "ema", "ema_many")
provide("scratchgen.kernels.ema.cuda", "cuda", "ema")
provide("scratchgen.kernels.ema.cuda", "emu", "ema")

__all__ = ["reference"]
