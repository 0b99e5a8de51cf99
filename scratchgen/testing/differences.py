"""Numerical derivatives that know how wrong they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SHRINK = 2.0  # ratio of successive steps
LEVELS = 10
PATIENCE = 3  # levels without a better estimate after which smaller steps are pointless: rounding has taken over


class Estimate(NamedTuple):
    """A numerical derivative and a bound on its error as its own extrapolation suggests it."""

    value: Any
    error: float


def directional_derivative(
    f: Callable[[float], Any], step: float = 0.02, goal: float = 0.0, noise: float = 0.0
) -> Estimate:
    """``f'(0)`` of a function of a number, whose value is a number or an array, by Ridders' method.

    Central differences at shrinking steps are extrapolated to step 0; each column of the tableau removes one more
    even power of the step. The entry is returned whose largest change from its two neighbours is smallest, with that
    change as its error; for an array it is the largest of all elements', so that a chance agreement of one is no
    agreement. ``noise``, the error of a value of ``f``, is added as it goes into the entry. No further steps are
    taken once the error is within ``goal``. C. Ridders, Adv. Eng. Software 4 (1982) 75-76.
    """
    best = Estimate(np.nan, np.inf)
    previous: list[Any] = []
    h = step
    waited = 0
    with np.errstate(all="ignore"):  # a step that leaves the function's domain makes NaN, which is never the best
        for _ in range(LEVELS):
            row = [(f(h) - f(-h)) / (2 * h)]
            factor = 1.0
            waited += 1
            for column, above in enumerate(previous):
                factor *= SHRINK * SHRINK
                row.append(row[column] + (row[column] - above) / (factor - 1))
                change = max(_largest(row[-1] - row[-2]), _largest(row[-1] - above))
                error = change + 2 * noise / h
                if error <= best.error:
                    best, waited = Estimate(row[-1], error), 0
            if best.error <= goal or waited > PATIENCE:
                break
            previous = row
            h /= SHRINK
    return best


def jump(f: Callable[[float], Any], step: float = 0.02) -> Estimate:
    """The right minus the left derivative of ``f`` at 0: how sharp a kink is there, 0 where ``f`` is smooth.

    (f(h) - 2 f(0) + f(-h)) / h, which has odd powers of the step only, extrapolated like the derivative.
    """
    best = Estimate(np.nan, np.inf)
    middle = 2 * f(0.0)
    previous: list[Any] = []
    h = step
    with np.errstate(all="ignore"):
        for _ in range(LEVELS):
            row = [(f(h) - middle + f(-h)) / h]
            factor = 1 / SHRINK
            for column, above in enumerate(previous):
                factor *= SHRINK * SHRINK
                row.append(row[column] + (row[column] - above) / (factor - 1))
                error = max(_largest(row[-1] - row[-2]), _largest(row[-1] - above))
                if error <= best.error:
                    best = Estimate(row[-1], error)
            previous = row
            h /= SHRINK
    return best


def _largest(difference: Any) -> float:
    """The largest magnitude; infinite if anything is not a number, so that it never looks small."""
    size = float(np.max(np.abs(difference), initial=0.0))
    return size if np.isfinite(size) else np.inf
