"""Resampling of images by separable sparse linear maps: interpolation and average pooling."""

from . import cases, reference
from .axis import AxisMap, windows

__all__ = ["AxisMap", "cases", "reference", "windows"]
