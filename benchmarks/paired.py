"""Paired timing: contenders take turns in one process, and what is reported is the median of the ratios of a round.

A machine that is shared or changes its clock speeds up and slows down all contenders of a round alike, so the ratio
keeps what the absolute times lose.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


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


def rounds(contenders: dict[str, Callable[[], float]], count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Let each contender time itself once a round, in a new random order; seconds by name, one for each round."""
    rng = np.random.default_rng(seed)
    names = list(contenders)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        contenders[name]()  # caches, lazy imports, compilation
    for _ in range(count):
        for i in rng.permutation(len(names)):
            samples[names[i]].append(contenders[names[i]]())
    return {name: np.array(values) for name, values in samples.items()}


def ratio(contender: np.ndarray, base: np.ndarray, seed: int = 0) -> Ratio:
    """The paired ratio of two contenders' rounds."""
    ratios = contender / base
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(ratios, (2000, len(ratios))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return Ratio(float(np.median(ratios)), float(low), float(high))
