"""Numerical derivatives that know how wrong they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

SHRINK = 1.6  # ratio of successive steps
LEVELS = 8


class Estimate(NamedTuple):
    """A numerical derivative and a bound on its error as its own extrapolation suggests it."""

    value: float
    error: float


def directional_derivative(f: Callable[[float], float], step: float = 0.02, goal: float = 0.0) -> Estimate:
    """``f'(0)`` by Ridders' method: central differences at shrinking steps, extrapolated to step 0.

    Each column of the tableau removes one more even power of the step; the entry that changed least from its two
    neighbours is returned, with that change as its error. No further steps are taken once that is within ``goal``.
    C. Ridders, Adv. Eng. Software 4 (1982) 75-76.
    """
    best = Estimate(float("nan"), float("inf"))
    previous: list[float] = []
    h = step
    for _ in range(LEVELS):
        row = [(f(h) - f(-h)) / (2 * h)]
        factor = 1.0
        for column, above in enumerate(previous):
            factor *= SHRINK * SHRINK
            row.append(row[column] + (row[column] - above) / (factor - 1))
            error = max(abs(row[-1] - row[-2]), abs(row[-1] - above))
            if error <= best.error:
                best = Estimate(row[-1], error)
        if best.error <= goal:
            break
        previous = row
        h /= SHRINK
    return best
