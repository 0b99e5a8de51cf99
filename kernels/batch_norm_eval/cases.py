"""Batch norm in evaluation is compared on what batch norm is, with statistics that are not those of x."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..batch_norm.cases import ATTRS, inputs
from ..compare import Case, cases


@cases("batch_norm_eval")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, (x, weight, bias) in inputs(rng):
        mean, var = rng.standard_normal(x.shape[1]), rng.uniform(0.5, 2, x.shape[1])
        yield Case(name, (x, mean, var, weight, bias), ATTRS)
    x = 16 + rng.integers(-64, 65, (60, 4, 8)) / 64  # exact in float16 too
    yield Case("mean far from 0", (x, np.full(4, 16.0), np.full(4, 0.25), None, None), ATTRS)


@cases("batch_norm_eval_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for case in values(rng):
        yield Case(case.name, (rng.standard_normal(case.arrays[0].shape), None, *case.arrays), case.attrs)
