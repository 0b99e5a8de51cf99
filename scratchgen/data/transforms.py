"""Small functions from images in [0, 1] to what a model is trained on. What is random takes its generator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def binarise(x: npt.NDArray[Any], threshold: float = 0.5) -> FloatArray:
    """1 where x >= threshold, else 0. At 0.5 this is `>= 8` on 17 levels (digits) and `> 127` on 256."""
    return (x >= threshold).astype(np.float32)


def dynamic_binarise(x: npt.NDArray[Any], rng: np.random.Generator) -> FloatArray:
    """Each pixel is 1 with probability x, drawn anew at every call (Salakhutdinov and Murray 2008)."""
    return (rng.random(x.shape, dtype=np.float32) < x).astype(np.float32)


def dequantise(x: npt.NDArray[Any], levels: int, rng: np.random.Generator) -> FloatArray:
    """Uniform dequantisation of k = x (levels - 1): (k + u) / levels in (0, 1), with u uniform in (0, 1).

    A density model of the result bounds the discrete log-likelihood from below (Theis et al. 2016, sec. 3.1).
    """
    # float32 has 24 bits: 8 for k, as levels <= 256, leave 16 for u. As an odd multiple of 2^-16, u is never
    # rounded into the next level, nor to 0 or 1, where a logit is infinite, and its mean is exactly 1/2.
    u = (rng.integers(0, 1 << 15, x.shape, dtype=np.uint16) + np.float32(0.5)) * np.float32(2.0**-15)
    return (np.rint(x * (levels - 1)).astype(np.float32) + u) / np.float32(levels)


def quantise(y: npt.NDArray[Any], levels: int) -> FloatArray:
    """The image in [0, 1] that y dequantises: undoes `dequantise`; outside [0, 1) y is clipped."""
    k = np.clip(np.floor(y.astype(np.float64) * levels), 0, levels - 1)
    return (k / (levels - 1)).astype(np.float32)


def flatten(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(n, ...) -> (n, d), a view where NumPy can give one."""
    return x.reshape(len(x), math.prod(x.shape[1:]))
