"""What RMS norm is compared on: one dimension and two, with and without weight, a mean far from 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..compare import Case, cases
from .reference import rms_norm

EPS = 1e-6


def _inputs(rng: np.random.Generator) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    def attrs(*shape: int) -> dict[str, Any]:
        return {"normalized_shape": shape, "eps": EPS}

    yield "one sample", (rng.standard_normal(6), rng.standard_normal(6)), attrs(6)
    yield "no samples", (rng.standard_normal((0, 6)), rng.standard_normal(6)), attrs(6)
    yield "rows", (rng.standard_normal((300, 96)) + 3, rng.standard_normal(96)), attrs(96)
    yield "rows without weight", (rng.standard_normal((40, 96)), None), attrs(96)
    yield "two dimensions", (rng.standard_normal((7, 5, 30, 20)), rng.standard_normal((30, 20))), attrs(30, 20)
    yield "long rows", (rng.standard_normal((5, 4999)) + 2, rng.standard_normal(4999)), attrs(4999)
    yield "transposed", (rng.standard_normal((64, 50, 4)).transpose(2, 1, 0), rng.standard_normal(64)), attrs(64)


@cases("rms_norm")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng):
        yield Case(name, arrays, attrs)


@cases("rms_norm_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng):
        _, rstd = rms_norm(*arrays, **attrs)
        yield Case(name, (rng.standard_normal(arrays[0].shape), None, *arrays, rstd), attrs)
