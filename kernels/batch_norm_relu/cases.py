"""ReLU and leaky ReLU of batch norm are compared on what batch norm is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..batch_norm.cases import inputs
from ..batch_norm.reference import batch_norm
from ..compare import Case, cases
from .reference import batch_norm_relu


def _inputs(rng: np.random.Generator) -> Iterator[tuple[str, tuple[Any, ...], dict[str, float]]]:
    for name, arrays in inputs(rng):
        yield name, arrays, {"eps": 1e-5, "slope": 0.0}
    yield f"{name}, leaky", arrays, {"eps": 1e-5, "slope": 0.2}


@cases("batch_norm_relu")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng):
        yield Case(name, arrays, attrs)


@cases("batch_norm_relu_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, (x, weight, bias), attrs in _inputs(rng):
        y, mean, var, *auxiliary = batch_norm_relu(x, weight, bias, **attrs)
        g, *others = (rng.standard_normal(a.shape) for a in (y, mean, var))
        u = batch_norm(x, weight, bias, eps=attrs["eps"])[0]
        g[np.abs(u) < 0.02] = 0  # rounding must not decide on which side of the corner one is
        yield Case(name, ((g, *others), None, x, weight, bias, *auxiliary), attrs)
