"""Layer norm of a sum is compared on what layer norm is, and where the two inputs cancel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..compare import Case, cases
from ..layer_norm.cases import EPS, inputs
from .reference import layer_norm_residual


def _inputs(rng: np.random.Generator) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    for name, (x, weight, bias), attrs in inputs(rng):
        yield name, (x, rng.standard_normal(x.shape), weight, bias), attrs
    x = rng.standard_normal((64, 40))
    yield "one sample and its opposite", (x, np.where(np.arange(64)[:, None] == 5, -x, x), None, None), {
        "normalized_shape": (40,),
        "eps": EPS,
    }


@cases("layer_norm_residual")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng):
        yield Case(name, arrays, attrs)


@cases("layer_norm_residual_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, (x, residual, weight, bias), attrs in _inputs(rng):
        y, total, mean, rstd = layer_norm_residual(x, residual, weight, bias, **attrs)
        g = rng.standard_normal(x.shape), rng.standard_normal(x.shape)
        yield Case(name, (g, (y, total), None, None, weight, bias, mean, rstd), attrs)
