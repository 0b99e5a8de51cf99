"""Kinks: where the left and the right derivative differ, differences tell nothing and a gradient is a choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from .differences import Estimate, jump
from .oracles import Oracle, flat, orthonormal, split
from .report import Evidence, Report, Verdict
from .subject import Subject

KINKS = ("avoid", "subgradient", "error")
TRIES = 3
AWAY = 0.05  # how far inputs are moved off a kink, relative to their size
SHARP = 1e-6  # a jump of the derivative, relative to the derivative, that is a kink
OUTPUTS, DIRECTIONS, POINTS = 24, 3, 64  # of which the slopes around a kink are taken
NEAR = 1e-4  # how far around, relative to the inputs
BETWEEN = 1e-2  # how far outside of the slopes found a gradient may be, relative to them: they bend within NEAR


def kinked(subject: Subject, step: float, seed: int) -> bool:
    """Whether the first derivative jumps at the subject's point, along any of three random directions."""
    rng = np.random.default_rng(seed)
    us = orthonormal(3, [y.shape for y in subject.outputs()], rng)
    if not us:
        return False
    oracle = Oracle(subject, us, "richardson", step)
    for direction in orthonormal(3, [x.shape for x in subject.variables], rng):
        along = oracle.along(direction, "richardson")
        for closer in (1, 50):  # another kink nearby spoils large steps
            found = jump(along, step / closer)
            size = float(np.max(np.abs(oracle.derivative(direction).value)))
            if float(np.max(np.abs(found.value))) > 10 * found.error + SHARP * size:
                return True
    return False


def around_kinks(report: Report, seed: int, base: Subject, again: Callable[[Subject], Report]) -> Report:
    """What a report that did not pass is worth if the function has a kink at its point; ``report`` if it has none.

    Central differences do not see a kink that lies in their middle, so a failure counts only where the derivative
    demonstrably jumps by less than the error that was found.
    """
    evidence = report.evidence
    if evidence is None or evidence.error == np.inf:
        return report
    if report.verdict is Verdict.FAIL and _smooth(evidence):
        return report
    rng = np.random.default_rng(seed)
    for _ in range(TRIES):
        moved = []
        for x in base.variables:
            reach = float(np.max(np.abs(x), initial=0.0)) or 1.0
            moved.append(np.asarray(x + AWAY * reach * rng.standard_normal(x.shape)))
        beside = again(base.moved(moved))
        if beside.passed or (beside.verdict is Verdict.FAIL and beside.evidence and _smooth(beside.evidence)):
            return replace(beside, case_id=base.case_id, message=beside.message or "judged beside a kink")
    return replace(report, verdict=Verdict.INCONCLUSIVE)


def _jump_along(evidence: Evidence) -> Estimate:
    """How the derivative jumps along the direction of the evidence, by the steps that tell best."""
    method = "longdouble" if evidence.oracle == "longdouble" else "richardson"
    along = Oracle(evidence.subject, [list(evidence.cotangent)], method).along(list(evidence.direction), method)
    return min((jump(along, step) for step in (0.02, 0.0004, 0.000008)), key=lambda found: found.error)


def _smooth(evidence: Evidence) -> bool:
    """Whether the derivative jumps by less than the error that was found."""
    found = _jump_along(evidence)
    return found.error < np.inf and abs(float(found.value[0])) + 3 * found.error < evidence.error / 2


def check_subgradient(subject: Subject, step: float, seed: int) -> Report:
    """At a kink: is the gradient of each output one that nearby points have, or between such?

    Along a direction, the derivatives at points around the kink span an interval, which must hold that of the gradient
    (F. Clarke, Optimization and Nonsmooth Analysis, 1983, section 2.1). Outputs are taken one by one, since the sum of
    several has an interval of its own.
    """
    rng = np.random.default_rng(seed)
    xs = subject.variables
    shapes = [y.shape for y in subject.outputs()]
    chosen = rng.permutation(sum(int(np.prod(shape)) for shape in shapes))[:OUTPUTS]
    gradients = {i: flat(subject.gradients(split(one, shapes))) for i, one in _units(chosen, shapes)}
    reach = float(np.max(np.abs(flat(xs)), initial=0.0)) or 1.0
    near, h = NEAR * reach, NEAR * reach / 1000
    worst, message = 0.0, ""
    for v in orthonormal(DIRECTIONS, [x.shape for x in xs], rng):
        slopes = []
        for _ in range(POINTS):
            at = [x + near * rng.standard_normal(x.shape) for x in xs]
            ahead, behind = (
                flat(subject.values([np.asarray(x + side * d) for x, d in zip(at, v)])) for side in (h, -h)
            )
            slopes.append((ahead - behind) / (2 * h))
        low, high = np.min(slopes, axis=0), np.max(slopes, axis=0)
        for i, gradient in gradients.items():
            ours, scale = float(gradient @ flat(v)), max(abs(low[i]), abs(high[i]), NEAR)
            error = max(low[i] - ours, ours - high[i], 0.0) / scale
            if not error <= max(worst, BETWEEN):
                worst = error
                slope = f"{low[i]:.9g} to {high[i]:.9g}"
                message = f"output {i}: {ours:.9g} along a direction in which nearby slopes are {slope}"
    verdict = Verdict.FAIL if message else Verdict.PASS
    return Report("subgradient", subject.name, verdict, worst, BETWEEN, subject.case_id, message, "nearby slopes")


def _units(chosen: np.ndarray, shapes: list[tuple[int, ...]]) -> Iterator[tuple[int, np.ndarray]]:
    """Unit vectors of the chosen outputs among all."""
    total = sum(int(np.prod(shape)) for shape in shapes)
    for i in chosen:
        one = np.zeros(total)
        one[i] = 1.0
        yield int(i), one
