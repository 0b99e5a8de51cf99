"""What flows' filters are compared on: linear ones and convolutions, one channel, many, none, gains, gaps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases
from .reference import mixing_filters


@cases("scaled_filters")
def scaled(rng: np.random.Generator) -> Iterator[Case]:
    for shape in ((5, 3, 3, 3), (40, 30), (33, 130), (1, 1, 1, 1), (7,), (0, 3), (3, 0)):
        weight, bias, log_scale = (rng.standard_normal(s) for s in (shape, shape[0], shape[0]))
        yield Case(f"{shape}", (weight, bias, log_scale), {"gain": 1.5})
    weight = rng.standard_normal((3, 4, 2, 9)).transpose(1, 3, 0, 2)
    yield Case("with gaps", (weight, *rng.standard_normal((2, 8))[:, ::2]), {"gain": -1.0})
    yield Case("scales far apart", (weight, rng.standard_normal(4), np.array([-80.0, 80, 0, 1])), {"gain": 1.0})


@cases("scaled_filters_vjp")
def scaled_gradients(rng: np.random.Generator) -> Iterator[Case]:
    for case in scaled(rng):
        g = tuple(rng.standard_normal(a.shape) for a in case.arrays[:2])
        yield Case(case.name, (g, None, *case.arrays), case.attrs)


@cases("mixing_filters")
def mixing(rng: np.random.Generator) -> Iterator[Case]:
    for n in (1, 4, 7, 24, 40):
        permutation, sign = np.eye(n)[rng.permutation(n)], np.sign(rng.standard_normal(n))
        lower, upper = rng.standard_normal((2, n, n)) / n
        yield Case(f"{n} channels", (permutation, lower, upper, sign, *rng.standard_normal((3, n))))
        turned = (permutation.T, lower.T, upper.T, sign[::-1], *rng.standard_normal((3, 2 * n))[:, ::2])
        yield Case(f"{n} channels, with gaps", turned)


@cases("mixing_filters_vjp")
def mixing_gradients(rng: np.random.Generator) -> Iterator[Case]:
    for case in mixing(rng):
        y = mixing_filters(*case.arrays)
        g = tuple(np.asarray(rng.standard_normal(a.shape)) for a in y)
        for needs in ((True,) * 7, (False, True, True, False, True, True, True)):
            yield Case(f"{case.name}, {sum(needs)} wanted", (g, y, *case.arrays), {"needs": needs})
