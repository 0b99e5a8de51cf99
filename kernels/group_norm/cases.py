"""What group norm is compared on: one group, some, one a channel; without positions and channels last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..compare import Case, cases
from .reference import group_norm

EPS = 1e-5


def _inputs(rng: np.random.Generator) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    def draw(*shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return rng.standard_normal(shape), rng.standard_normal(shape[1]), rng.standard_normal(shape[1])

    yield "one group", draw(4, 6, 5, 5), {"num_groups": 1, "eps": EPS}
    yield "three groups", draw(4, 6, 5, 5), {"num_groups": 3, "eps": EPS}
    yield "a group a channel", draw(4, 6, 11), {"num_groups": 6, "eps": EPS}
    yield "no positions", draw(5, 8), {"num_groups": 2, "eps": EPS}
    yield "no samples", draw(0, 8, 3, 3), {"num_groups": 2, "eps": EPS}
    x, weight, bias = draw(4, 16, 7, 9)
    yield "without parameters", (x, None, None), {"num_groups": 4, "eps": EPS}
    yield (
        "channels last",
        (x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2), weight, bias),
        {
            "num_groups": 4,
            "eps": EPS,
        },
    )


@cases("group_norm")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng):
        yield Case(name, arrays, attrs)


@cases("group_norm_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng):
        _, mean, rstd = group_norm(*arrays, **attrs)
        yield Case(name, (rng.standard_normal(arrays[0].shape), None, *arrays, mean, rstd), attrs)
