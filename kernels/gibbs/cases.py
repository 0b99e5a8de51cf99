"""What Gibbs chains are compared on: ragged layers, temperatures, clamped units, both kinds of unit, saturation.

A draw is a comparison, which rounding could turn over. Weights and temperatures are multiples of powers of two, so
that a logit is the same number in every precision and in every order of its sum.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases

KEY = np.array([0x123456789ABCDEF0], np.uint64)


def _machine(rng: np.random.Generator, chains: int, visible: int, hidden: int, scale: float = 1 / 16) -> tuple:
    def dyadic(*shape: int) -> np.ndarray:
        return rng.integers(-8, 9, shape) * scale

    v = rng.integers(2, size=(chains, visible)).astype(np.float64)
    return v, dyadic(hidden, visible), dyadic(visible), dyadic(hidden)


@cases("gibbs")
def chains(rng: np.random.Generator) -> Iterator[Case]:
    attrs = {"key": KEY, "counter": 11, "steps": 3}
    for name, sizes in (
        ("one unit each", (1, 1, 1)),
        ("ragged", (7, 9, 5)),
        ("no chains", (0, 9, 5)),
        ("digits", (100, 64, 16)),
        ("several threads", (130, 61, 35)),
    ):
        yield Case(name, _machine(rng, *sizes), attrs)
    yield Case("one step, counter above 2^32", _machine(rng, 6, 9, 5), {**attrs, "counter": 1 << 33, "steps": 1})
    yield Case("saturated", _machine(rng, 9, 12, 7, 1e4), attrs)
    large = _machine(rng, 17, 512, 513)  # where layers are products of matrices
    yield Case("large", large, attrs)
    levels, hold = np.arange(17) / 16, rng.random(large[0].shape) < 0.5
    yield Case("large, clamped and tempered", (*large, levels, rng.integers(-8, 9, 512) / 16, hold), attrs)
    v, weight, b, c = _machine(rng, 9, 12, 7)
    beta, base = np.arange(9) / 8, rng.integers(-8, 9, 12) / 16
    yield Case("tempered", (v, weight, b, c, beta, base), attrs)
    clamped = rng.random(v.shape) < 0.5
    yield Case("clamped", (v, weight, b, c, None, None, clamped), attrs)
    yield Case("clamped and tempered", (v, weight, b, c, beta, base, clamped), attrs)
    yield Case("strided", (v[::-1], weight[:, ::-1], b[::-1], c[::-1]), attrs)
    real = rng.integers(-32, 33, v.shape) / 16
    yield Case("Gaussian", (real, weight, b, c), {**attrs, "gaussian": True})
    yield Case("Gaussian, tempered", (real, weight, b, c, beta, base, clamped), {**attrs, "gaussian": True})
