"""SiLU of group norm is compared on what group norm is, and on scales that saturate the sigmoid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases
from ..group_norm.cases import inputs
from .reference import group_norm_silu


@cases("group_norm_silu")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in inputs(rng):
        yield Case(name, arrays, attrs)
    x = rng.standard_normal((4, 16, 7, 9))
    yield Case("saturated", (x, np.full(16, 1e3), np.zeros(16)), {"num_groups": 4, "eps": 1e-5})


@cases("group_norm_silu_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in inputs(rng):
        _, mean, rstd = group_norm_silu(*arrays, **attrs)
        yield Case(name, (rng.standard_normal(arrays[0].shape), None, *arrays, mean, rstd), attrs)
