"""From two numbers and their error bars to a verdict: the one place where tolerances live.

Nothing here is a guess about how well a derivative ought to be computed. The oracle comes with a bound on its error;
the rounding of the derivative under test is measured, by moving its inputs by a unit in the last place. What remains
unexplained is a failure; where bound and rounding together are too large to see a relative error of ``resolution``,
the verdict is inconclusive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .differences import Estimate
from .oracles import EPS
from .report import Verdict

TRUST = 3.0  # by how much an oracle's own bound is widened
FLOOR = 16 * EPS  # rounding that every product of vectors has, relative to their lengths
NOISE = 8.0  # the spread of six measurements is widened to what thousands would show


@dataclass(frozen=True)
class Judgement:
    """The verdict on one direction. ``error`` and ``bar`` are in the derivative's unit; ``row`` is the worst one's."""

    verdict: Verdict
    error: float
    bar: float
    row: int
    oracle: Estimate


def judge(
    ours: np.ndarray,
    lengths: np.ndarray,
    target: float,
    first: Estimate,
    others: Callable[[], Sequence[Estimate]],
    noise: Callable[[], float],
) -> Judgement:
    """Compare ``ours``, one number for each cotangent, with the oracle's ``first`` estimate, and in doubt with more.

    ``lengths``: of the gradients that ``ours`` are projections of. ``target``: the largest bar that passes. ``noise``
    measures the rounding of ours, and ``others`` asks further oracles; both are called only where they decide.
    """
    if not np.isfinite(ours).all():
        known = first.error < np.inf
        verdict = Verdict.FAIL if known else Verdict.INCONCLUSIVE
        return Judgement(verdict, np.inf, TRUST * first.error, int(np.argmin(np.isfinite(ours))), first)
    found = _compare(ours, first, FLOOR * lengths, target)
    if found.verdict is Verdict.PASS:
        return found
    rounding = FLOOR * lengths + NOISE * noise()
    found = _compare(ours, first, rounding, target)
    if found.verdict is Verdict.PASS:
        return found
    opinions = [found, *(_compare(ours, estimate, rounding, target) for estimate in others())]
    sharpest = min(opinions, key=lambda opinion: opinion.bar)
    in_favour = [opinion for opinion in opinions if opinion.verdict is not Verdict.FAIL]
    if sharpest.verdict is not Verdict.FAIL or not in_favour:
        return sharpest
    for opinion in in_favour:  # it counts if it contradicts the sharpest, which a kink may have misled
        gap = float(np.max(np.abs(opinion.oracle.value - sharpest.oracle.value)))
        if gap > TRUST * (opinion.oracle.error + sharpest.oracle.error):
            return opinion
    return sharpest


def _compare(ours: np.ndarray, oracle: Estimate, rounding: np.ndarray, target: float) -> Judgement:
    """What one estimate says, at the cotangent where the error exceeds its bar most."""
    if not oracle.error < np.inf:
        return Judgement(Verdict.INCONCLUSIVE, np.inf, np.inf, 0, oracle)
    error = np.abs(ours - oracle.value).astype(np.float64)
    bar = TRUST * oracle.error + rounding
    row = int(np.argmax(error - bar))
    blunt = float(np.max(bar)) > target
    verdict = Verdict.FAIL if not error[row] <= bar[row] else Verdict.INCONCLUSIVE if blunt else Verdict.PASS
    return Judgement(verdict, float(error[row]), float(bar[row]), row, oracle)
