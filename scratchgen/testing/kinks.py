"""Kinks: where the left and the right derivative differ, differences tell nothing and a gradient is a choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .differences import Estimate, directional_derivative, jump
from .oracles import Oracle, flat, orthonormal
from .report import Evidence, Report, Verdict
from .subject import Arrays, Subject

KINKS = ("avoid", "subgradient", "error")
TRIES = 3
AWAY = 0.05  # how far inputs are moved off a kink, relative to their size
SHARP = 1e-6  # a jump of the derivative, relative to the derivative, that is a kink
OUTPUTS = 24  # so many outputs, drawn at random, have their gradient held against one-sided derivatives


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


def around_kinks(
    report: Report, kinks: str, seed: int, base: Subject, again: Callable[[Subject], Report]
) -> Report:
    """What a report that did not pass is worth if the function has a kink at its point; ``report`` if it has none.

    Central differences do not see a kink that lies in their middle, so a failure counts only where the derivative
    demonstrably jumps by less than the error that was found.
    """
    evidence = report.evidence
    if evidence is None or evidence.error == np.inf:
        return report
    if report.verdict is Verdict.FAIL and _smooth(evidence):
        return report
    if kinks == "error" and _kinked(evidence):
        return replace(report, verdict=Verdict.FAIL, message="the function has a kink at this point")
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


def _kinked(evidence: Evidence) -> bool:
    """Whether the derivative jumps."""
    found = _jump_along(evidence)
    return found.error < np.inf and abs(float(found.value[0])) > 10 * found.error


def check_subgradient(subject: Subject, step: float, seed: int) -> Report | None:
    """At a kink: is the gradient of each output between its left and its right derivative? None where there is none.

    Outputs are taken one by one, since the sum of several has an interval of its own.
    """
    if not kinked(subject, step, seed):
        return None
    rng = np.random.default_rng(seed)
    shapes = [y.shape for y in subject.outputs()]
    total = sum(int(np.prod(shape)) for shape in shapes)
    worst, message = 0.0, ""
    for index in rng.permutation(total)[:OUTPUTS]:
        one = np.zeros(total)
        one[index] = 1.0
        u = _parts(one, shapes)
        gradient = flat(subject.gradients(u))
        oracle = Oracle(subject, [u], "richardson", step)
        for v in orthonormal(4, [x.shape for x in subject.variables], rng):
            low, high, bar = _sides(oracle, v, step)
            ours = float(gradient @ flat(v))
            error = max(low - ours, ours - high, 0.0)
            scale = max(abs(low), abs(high), 1e-300)
            if not error <= bar + SHARP * scale and (not np.isfinite(error) or error / scale > worst):
                worst = error / scale
                message = f"output {index}: {ours!r} is not between the one-sided derivatives {low!r} and {high!r}"
    verdict = Verdict.FAIL if message else Verdict.PASS
    return Report("subgradient", subject.name, verdict, worst, SHARP, subject.case_id, message, "richardson")


def _sides(oracle: Oracle, v: Arrays, step: float) -> tuple[float, float, float]:
    """The smaller and the larger of the one-sided derivatives, and their error bar."""
    along = oracle.along(v, "richardson")
    middle = directional_derivative(along, step / 50)
    half = jump(along, step / 50)
    centre, width = float(np.ravel(middle.value)[0]), abs(float(np.ravel(half.value)[0])) / 2
    return centre - width, centre + width, 3 * (middle.error + half.error)


def _parts(vector: np.ndarray, shapes: list[tuple[int, ...]]) -> Arrays:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(vector, ends), shapes)]
