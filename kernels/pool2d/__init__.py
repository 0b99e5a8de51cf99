"""Max pooling. Average pooling is a resampling: see ``kernels/resample``."""

from . import reference as reference
