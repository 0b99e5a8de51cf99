"""Paired timing: contenders take turns, and what is reported is the median of the ratios of a round.

A machine that is shared or changes its clock speeds up and slows down all contenders of a round alike, so the ratio
keeps what the absolute times lose.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Ratio:
    """How many times the base's time a contender takes: the median over rounds and its 95 % interval (bootstrap)."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def seconds(call: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def rounds(
    contenders: Mapping[str, Callable[[], float]],
    count: int,
    seed: int = 0,
    *,
    budget: float = math.inf,
    least: int = 0,
) -> dict[str, np.ndarray]:
    """Let each contender time itself once a round, in a new random order; seconds by name, one for each round.

    Each has one turn before that nobody counts: caches, lazy imports, compilation. At most ``count`` rounds; after
    ``budget`` seconds no further one begins, once there are ``least``.
    """
    rng = np.random.default_rng(seed)
    names = list(contenders)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        contenders[name]()
    start = time.perf_counter()
    for done in range(count):
        if done >= least and time.perf_counter() - start > budget:
            break
        for i in rng.permutation(len(names)):
            samples[names[i]].append(contenders[names[i]]())
    return {name: np.array(values) for name, values in samples.items()}


def interval(values: ArrayLike, seed: int = 0) -> Ratio:
    """The median of ``values`` and its 95 % bootstrap interval."""
    given = np.asarray(values, np.float64)
    medians = np.median(np.random.default_rng(seed).choice(given, (2000, len(given))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return Ratio(float(np.median(given)), float(low), float(high))


def ratio(contender: np.ndarray, base: np.ndarray, seed: int = 0) -> Ratio:
    """The paired ratio of two contenders' rounds."""
    return interval(contender / base, seed)


def geometric_mean(values: Iterable[float]) -> float:
    """The mean of ratios: that of a ratio and its inverse is 1."""
    return math.exp(float(np.mean([math.log(v) for v in values])))
