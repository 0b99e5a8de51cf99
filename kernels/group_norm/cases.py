"""What group norm is compared on: one group, some, one a channel; in all layouts, with few positions and many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..compare import Case, cases
from .reference import group_norm

EPS = 1e-5


def inputs(rng: np.random.Generator) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Names, (x, weight, bias) and attributes."""

    def draw(*shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return rng.standard_normal(shape), rng.standard_normal(shape[1]), rng.standard_normal(shape[1])

    def parameters(channels: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.standard_normal(channels), rng.standard_normal(channels)

    def channels_last(x: np.ndarray) -> np.ndarray:
        return x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)

    yield "one group", draw(4, 6, 5, 5), {"num_groups": 1, "eps": EPS}
    yield "three groups", draw(4, 6, 5, 5), {"num_groups": 3, "eps": EPS}
    yield "a group a channel", draw(4, 6, 11), {"num_groups": 6, "eps": EPS}
    yield "no positions", draw(5, 8), {"num_groups": 2, "eps": EPS}
    yield "no samples", draw(0, 8, 3, 3), {"num_groups": 2, "eps": EPS}
    x, weight, bias = draw(4, 16, 7, 9)
    yield "without parameters", (x, None, None), {"num_groups": 4, "eps": EPS}
    yield "channels last", (channels_last(x), weight, bias), {"num_groups": 4, "eps": EPS}
    yield "channels last, none fit a vector", (channels_last(x[:, :6]), *parameters(6)), {"num_groups": 3, "eps": EPS}
    yield "channels last, few positions", (channels_last(x[..., :1, :3]), weight, bias), {"num_groups": 2, "eps": EPS}
    yield "channels first, few positions", draw(20, 12, 2, 3), {"num_groups": 12, "eps": EPS}
    yield "neither", (x.transpose(0, 1, 3, 2)[..., ::2], weight, bias), {"num_groups": 16, "eps": EPS}
    x, weight, bias = draw(70, 80, 5, 5)
    yield "more samples than blocks", (x[:, :3] + 2, *parameters(3)), {"num_groups": 3, "eps": EPS}
    yield "large", (channels_last(x), weight, bias), {"num_groups": 5, "eps": EPS}


@cases("group_norm")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in inputs(rng):
        yield Case(name, arrays, attrs)
    far = 16 + rng.integers(-64, 65, (6, 4, 6, 9)) / 64  # exact in float16 too
    yield Case("mean far from 0", (far, None, None), {"num_groups": 2, "eps": EPS})


@cases("group_norm_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in inputs(rng):
        _, mean, rstd = group_norm(*arrays, **attrs)
        yield Case(name, (rng.standard_normal(arrays[0].shape), None, *arrays, mean, rstd), attrs)
