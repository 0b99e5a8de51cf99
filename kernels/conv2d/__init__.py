"""2-D convolution, its gradient in the input and its gradient in the weight. One-dimensional ones have height 1."""

from . import reference as reference
