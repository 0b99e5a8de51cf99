"""Convolution of images, its gradient in the input and its gradient in the weight; signals are images of height 1."""

from . import cases, depthwise, reference

__all__ = ["cases", "depthwise", "reference"]
