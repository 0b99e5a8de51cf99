"""Resampling: separable sparse linear maps of images, the one op under interpolation and average pooling."""

from . import reference as reference
from .axis import AxisMap as AxisMap
from .axis import windows as windows
