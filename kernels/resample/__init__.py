"""Resampling of images by separable sparse linear maps: interpolation and average pooling."""

from ..registry import provide
from . import cases, reference
from .axis import AxisMap, windows

provide("scratchgen.kernels.resample.cpu", "cpu", "resample2d")
provide("scratchgen.kernels.resample.cuda", "cuda", "resample2d")
provide("scratchgen.kernels.resample.cuda", "emu", "resample2d")

__all__ = ["AxisMap", "cases", "reference", "windows"]
