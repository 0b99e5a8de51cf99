"""What batch norm is compared on: with and without positions and parameters, channels last, a mean far from 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..compare import Case, cases
from .reference import batch_norm

ATTRS = {"eps": 1e-5}


def inputs(rng: np.random.Generator) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Names and (x, weight, bias)."""

    def draw(*shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return rng.standard_normal(shape), rng.standard_normal(shape[1]), rng.standard_normal(shape[1])

    yield "rows", draw(64, 10)
    yield "images", draw(6, 4, 9, 7)
    yield "without parameters", (draw(6, 5, 20)[0], None, None)
    for channels in (16, 3, 100):
        channels_last = rng.standard_normal((4, 9, 7, channels)).transpose(0, 3, 1, 2)
        name = f"{channels} channels last"
        yield name, (channels_last, rng.standard_normal(channels), rng.standard_normal(channels))
    x, weight, bias = draw(6, 5, 12, 14)
    yield "neither", (x.transpose(0, 1, 3, 2)[..., ::2], weight, bias)
    yield "large", draw(70, 20, 5, 5)


@cases("batch_norm")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays in inputs(rng):
        yield Case(name, arrays, ATTRS)
    far = 16 + rng.integers(-64, 65, (60, 4, 8)) / 64  # exact in float16 too
    yield Case("mean far from 0", (far, None, None), ATTRS)


@cases("batch_norm_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays in inputs(rng):
        y, mean, var, *auxiliary = batch_norm(*arrays, **ATTRS)
        g = tuple(rng.standard_normal(a.shape) for a in (y, mean, var))
        yield Case(name, (g, None, *arrays, *auxiliary), ATTRS)
