"""SiLU of group norm is compared on what group norm is, with a shift and without, and on scales that saturate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..compare import Case, cases
from ..group_norm.cases import inputs
from .reference import group_norm_silu


def with_shift(rng: np.random.Generator) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Group norm's inputs, without a shift and with one; of single channels, whose mean takes it away, without."""
    for name, arrays, attrs in inputs(rng):
        yield name, (*arrays, None), attrs
        samples, channels = arrays[0].shape[:2]
        if attrs["num_groups"] < channels:
            yield f"{name}, shifted", (*arrays, 2 * rng.standard_normal((samples, channels))), attrs


@cases("group_norm_silu")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in with_shift(rng):
        yield Case(name, arrays, attrs)
    x = rng.standard_normal((4, 16, 7, 9))
    yield Case("saturated", (x, np.full(16, 1e3), np.zeros(16), None), {"num_groups": 4, "eps": 1e-5})


@cases("group_norm_silu_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in with_shift(rng):
        _, mean, rstd = group_norm_silu(*arrays, **attrs)
        g = rng.standard_normal(arrays[0].shape)
        if arrays[3] is not None:  # whose gradient adds up what would cancel if channels were alike
            g += rng.standard_normal(g.shape[:2] + (1,) * (g.ndim - 2))
        yield Case(name, (g, None, *arrays, mean, rstd), attrs)
