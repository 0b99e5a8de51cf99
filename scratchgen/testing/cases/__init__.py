"""Strategies of hypothesis that make ``Case``s: inputs and options of a call, valid by construction.

They are drawn by ``@sgt.given`` and by hypothesis itself. Floating arrays of a case are variables.
"""

from .arrays import FLOATS, LAYOUTS, VALUES, arrays, laid_out, numbers, shapes
from .images import conv, conv1d, conv2d, pool, pool2d, resize
from .layers import LOSSES, attention, loss, norm
from .shapes import (
    along,
    broadcast,
    einsum,
    elementwise,
    gather,
    gufunc,
    indexing,
    linear,
    matmul,
    reduction,
    rows,
    square,
)

__all__ = [
    "FLOATS", "LAYOUTS", "LOSSES", "VALUES", "along", "arrays", "attention", "broadcast", "conv", "conv1d",
    "conv2d", "einsum", "elementwise", "gather", "gufunc", "indexing", "laid_out", "linear", "loss", "matmul",
    "norm", "numbers", "pool", "pool2d", "reduction", "resize", "rows", "shapes", "square",
]  # fmt: skip
