"""What pooling is compared on: windows apart, overlapping, dilated and cut off, with ties and with NaN."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases
from ..resample.axis import AxisMap, windows
from .reference import max_pool2d


def _inputs(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, AxisMap, AxisMap]]:
    halves = windows(12, np.arange(0, 12, 2), np.arange(0, 12, 2) + 2, 1)
    starts = np.arange(-1, 11, 2)
    overlapping = windows(12, np.maximum(starts, 0), np.minimum(starts + 3, 12), 1)
    dilated = windows(12, np.arange(6), np.arange(6) + 6, 3)
    x = rng.standard_normal((5, 37, 12, 12)).astype(np.float16).astype(np.float64)  # ties are ties in every dtype
    yield "2x2", x, halves, halves
    yield "3x3 with stride 2", x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2), overlapping, overlapping
    yield "dilated", x[:, :, ::-1], dilated, overlapping
    yield "ties", rng.integers(3, size=(5, 37, 12, 12)).astype(np.float64), overlapping, halves
    yield "nothing but -inf", np.full((1, 70, 12, 12), -np.inf), overlapping, overlapping
    yield "NaN", np.where(x > 1, np.nan, x), overlapping, overlapping
    yield "no images", np.zeros((0, 5, 12, 12)), halves, halves


@cases("max_pool2d")
def values(rng: np.random.Generator) -> Iterator[Case]:
    """Values and indices."""
    for name, x, rows, columns in _inputs(rng):
        yield Case(name, (x,), {"rows": rows, "columns": columns})


@cases("pool_gather")
def gathers(rng: np.random.Generator) -> Iterator[Case]:
    """At the indices of maxima, from other numbers."""
    for name, x, rows, columns in _inputs(rng):
        _, index = max_pool2d(x, rows=rows, columns=columns)
        yield Case(name, (rng.standard_normal(x.shape), index))


@cases("pool_scatter")
def scatters(rng: np.random.Generator) -> Iterator[Case]:
    """To the indices of maxima, several of which coincide where windows overlap."""
    for name, x, rows, columns in _inputs(rng):
        y, index = max_pool2d(x, rows=rows, columns=columns)
        yield Case(name, (rng.standard_normal(y.shape), index), {"size": x.shape[2:]})
