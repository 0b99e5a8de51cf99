"""Mean 0 and variance 1 over some axes: the core of layer, group, instance and batch norm, and its derivative."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .sums import accurate_sum

Axes = tuple[int, ...]


def count(x: Any, axes: Axes) -> int:
    """How many numbers share one mean; 1 if there is none, so that empty arrays divide by it in peace."""
    return math.prod(x.shape[i] for i in axes) or 1


def standardize(x: Any, axes: Axes, eps: float) -> tuple[Any, Any, Any, Any]:
    """``(x - mean) * rstd`` with mean, variance (biased) and ``rstd = 1 / sqrt(var + eps)``, which keep their axes.

    The variance is taken about the mean in a second pass: E[x^2] - E[x]^2 would lose all digits where the mean is
    large.
    """
    n = count(x, axes)
    mean = accurate_sum(x, axes, True) / n
    z = x - mean
    var = accurate_sum(np.square(z), axes, True) / n
    rstd = 1 / np.sqrt(var + eps)
    z *= rstd
    return z, mean, var, rstd


def standardize_vjp(g: Any, z: Any, rstd: Any, axes: Axes) -> Any:
    """Gradient in ``x`` from that in ``z``: what is left of ``g`` beside a shift and a scaling, times ``rstd``."""
    n = count(z, axes)
    along = accurate_sum(g * z, axes, True) / n
    dx = g - accurate_sum(g, axes, True) / n
    dx -= z * along
    dx *= rstd
    return dx
