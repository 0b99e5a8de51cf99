"""Max pooling of images and its derivatives. Average pooling is a resampling: see the folder of that name."""

from . import cases, reference

__all__ = ["cases", "reference"]
