"""What batch norm is compared on: with and without positions and parameters, channels last, a mean far from 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..compare import Case, cases
from .reference import batch_norm

ATTRS = {"eps": 1e-5}


def _inputs(rng: np.random.Generator) -> Iterator[tuple[str, tuple[Any, ...]]]:
    def draw(*shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return rng.standard_normal(shape), rng.standard_normal(shape[1]), rng.standard_normal(shape[1])

    yield "rows", draw(64, 10)
    yield "images", draw(6, 4, 9, 7)
    yield "without parameters", (draw(6, 5, 20)[0], None, None)
    channels_last = rng.standard_normal((4, 9, 7, 16)).transpose(0, 3, 1, 2)
    yield "channels last", (channels_last, rng.standard_normal(16), rng.standard_normal(16))


@cases("batch_norm")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays in _inputs(rng):
        yield Case(name, arrays, ATTRS)
    far = 16 + rng.integers(-64, 65, (60, 4, 8)) / 64  # exact in float16 too
    yield Case("mean far from 0", (far, None, None), ATTRS)


@cases("batch_norm_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays in _inputs(rng):
        y, mean, var, *auxiliary = batch_norm(*arrays, **ATTRS)
        g = tuple(rng.standard_normal(a.shape) for a in (y, mean, var))
        yield Case(name, (g, None, *arrays, *auxiliary), ATTRS)
