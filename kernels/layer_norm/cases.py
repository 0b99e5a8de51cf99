"""What layer norm is compared on: one dimension and two, with and without parameters, a mean far from 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..compare import Case, cases
from .reference import layer_norm

EPS = 1e-5


def inputs(rng: np.random.Generator) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Names, (x, weight, bias) and attributes."""

    def parameters(*shape: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.standard_normal(shape), rng.standard_normal(shape)

    def attrs(*shape: int) -> dict[str, Any]:
        return {"normalized_shape": shape, "eps": EPS}

    yield "one sample", (rng.standard_normal(6), *parameters(6)), attrs(6)
    yield "no samples", (rng.standard_normal((0, 6)), *parameters(6)), attrs(6)
    yield "rows", (rng.standard_normal((300, 96)), *parameters(96)), attrs(96)
    yield "rows without parameters", (rng.standard_normal((300, 96)), None, None), attrs(96)
    yield "rows without bias", (rng.standard_normal((40, 96)), parameters(96)[0], None), attrs(96)
    yield "two dimensions", (rng.standard_normal((7, 5, 30, 20)), *parameters(30, 20)), attrs(30, 20)
    yield "long rows", (rng.standard_normal((5, 4999)) + 2, *parameters(4999)), attrs(4999)
    yield "transposed", (rng.standard_normal((64, 50, 40)).transpose(2, 1, 0), *parameters(64)), attrs(64)


@cases("layer_norm")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in inputs(rng):
        yield Case(name, arrays, attrs)
    far = 16 + rng.integers(-64, 65, (60, 96)) / 64  # exact in float16 too
    yield Case("mean far from 0", (far, None, None), {"normalized_shape": (96,), "eps": EPS})


@cases("layer_norm_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in inputs(rng):
        _, mean, rstd = layer_norm(*arrays, **attrs)
        yield Case(name, (rng.standard_normal(arrays[0].shape), None, *arrays, mean, rstd), attrs)
