"""``check_vjp`` and ``check_dot``: is every derivative of a function, to a given order, what an oracle says it is?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .differences import Estimate
from .judge import Judgement, judge
from .kinks import KINKS, around_kinks, check_subgradient, kinked
from .oracles import EPS, Oracle, flat, orthonormal, split
from .report import Evidence, Report, Verdict, together
from .subject import Arrays, Subject, nudged

CLOSER = 50  # how much smaller the steps of a second opinion are
ALONE = 1e-3  # a variable whose part of the derivative is smaller than this of the largest is checked by itself
LOCATED = 3000  # with at most so many numbers in its variables, a failure says which of them is furthest off
NOTHING = 1e-12  # a derivative this small, of values as small, has its measure one step away
MEASURED = 48  # roundings that a measurement of noise should see at least; few numbers are moved the more often
UNITS = 32  # in the last place, by which numbers are moved at most
BESIDE_VALUES = 1e-3  # a derivative this much smaller than value / argument is measured by those instead


@dataclass(frozen=True)
class Settings:
    """What the checks of derivatives have in common; see ``check_vjp``."""

    k: int = 6
    method: str = "auto"
    resolution: float = 1e-7
    step: float = 0.02


def check_vjp(
    f: Callable[..., Any],
    xs: Any,
    *,
    k: int = 6,
    order: int = 2,
    kinks: str = "avoid",
    reference: Callable[..., Any] | None = None,
    method: str = "auto",
    resolution: float = 1e-7,
    step: float = 0.02,
    seed: int = 0,
    device: Any = "cpu",
    name: str | None = None,
    raises: bool = True,
) -> Report:
    """Check the derivatives of ``f`` to ``order`` at ``xs``, in float64.

    ``xs``: the inputs as arrays, or a ``Case``; floating ones are variables, others are passed as they are. ``f`` maps
    Tensors to a Tensor or a tuple of them. U'J V is compared for ``k`` random orthonormal cotangents U and directions
    V: with J'U by the engine, and with J V by an oracle (``method``, see ``oracles.py``) that differentiates ``f``, or
    ``reference`` on arrays. The vjp is then itself a function of inputs and cotangent, checked the same way.

    The verdict is ``inconclusive`` where a relative error of ``resolution`` could go unseen. ``kinks``: what to do
    where the function has one: ``avoid`` it by moving the inputs; check that the gradient is a ``subgradient`` there
    (first order); or count it as an ``error``. ``raises``: GradientError for a failure, Inconclusive for such.
    """
    if kinks not in KINKS:
        raise ValueError(f"unknown kinks={kinks!r}; expected one of {', '.join(KINKS)}")
    settings = Settings(k, method, resolution, step)
    subject = Subject(f, xs, name=name, reference=reference, device=device)
    if kinks != "avoid" and kinked(subject, step, seed):
        if kinks == "subgradient":
            report = check_subgradient(subject, step, seed)
        else:
            message = "the function has a kink at this point"
            report = Report("kinks", subject.name, Verdict.FAIL, case_id=subject.case_id, message=message)
    else:
        report = _orders(subject, order, settings, seed)
        if not report.passed:
            report = around_kinks(report, seed, subject, lambda at: _orders(at, order, settings, seed))
    return report.demand() if raises else report


def check_dot(
    f: Callable[..., Any],
    xs: Any,
    *,
    k: int = 8,
    jvp: str | Callable[..., Any] = "auto",
    reference: Callable[..., Any] | None = None,
    resolution: float = 1e-7,
    step: float = 0.02,
    seed: int = 0,
    device: Any = "cpu",
    name: str | None = None,
    raises: bool = True,
) -> Report:
    """The dot test <u, J v> = <J'u, v> for ``k`` random pairs (u, v), first order only.

    ``jvp`` gives J v, independently of the backward pass under test: a method of ``oracles.py``, or a function of
    (inputs, directions), lists of arrays, that returns the derivative of each floating output, exact to rounding.
    """
    subject = Subject(f, xs, name=name, reference=reference, device=device)
    rng = np.random.default_rng(seed)
    ys, xs = subject.outputs(), subject.variables
    if not flat(xs).size or not flat(ys).size:
        return Report("dot", subject.name, Verdict.PASS, case_id=subject.case_id)
    settings = Settings(k, "auto" if callable(jvp) else jvp, resolution, step)
    level = Level(subject, settings, [[rng.standard_normal(y.shape) for y in ys] for _ in range(k)], False)
    directions = [[rng.standard_normal(x.shape) for x in xs] for _ in range(k)]
    given = None
    if callable(jvp):
        given = [Estimate(level.oracle.project(list(jvp(list(subject.arrays), v))), 0.0) for v in directions]
    report = level.report("dot", directions, given, rows=lambda j: [j])
    return report.demand() if raises else report


def _orders(subject: Subject, order: int, settings: Settings, seed: int) -> Report:
    """The check of every order up to ``order``, as far as the orders below pass."""
    rng = np.random.default_rng(seed)
    parts: list[Report] = []
    current = subject
    for level in range(1, order + 1):
        parts.append(_one_order(current, level, level < order, settings, rng))
        if not parts[-1].passed:
            break
        if level < order:
            current = current.derivative([np.asarray(rng.standard_normal(y.shape)) for y in current.outputs()])
    return together("vjp", subject.name, parts)


def _one_order(subject: Subject, order: int, recorded: bool, settings: Settings, rng: np.random.Generator) -> Report:
    check = f"derivative of order {order}"
    ys = subject.outputs()

    def told(verdict: Verdict, message: str = "") -> Report:
        return Report(check, subject.name, verdict, case_id=subject.case_id, message=message)

    if not flat(subject.variables).size or not flat(ys).size:
        return told(Verdict.PASS)
    if not all(np.isfinite(y).all() for y in ys):
        return told(Verdict.INCONCLUSIVE, "the function is not finite here")
    if not all(np.array_equal(a, b) for a, b in zip(ys, subject.outputs())):
        return told(Verdict.INCONCLUSIVE, "two calls with the same inputs give different values")
    us = orthonormal(settings.k, [y.shape for y in ys], rng)
    level = Level(subject, settings, us, recorded)
    parts = []
    for group in level.groups():
        inside = [x.shape if i in group else (0,) for i, x in enumerate(subject.variables)]
        directions = [
            [v if i in group else np.zeros(x.shape) for i, (v, x) in enumerate(zip(vs, subject.variables))]
            for vs in orthonormal(settings.k, inside, rng)
        ]
        if directions:
            parts.append(level.report(check, directions))
    return together(check, subject.name, parts)


class Level:
    """One order of derivative of one subject: gradients of all cotangents by the engine, and the oracle beside them.

    ``recorded``: the first cotangent's gradient is also taken as it is computed when a higher order is to follow,
    which may be by another rule; it is one more row.
    """

    def __init__(self, subject: Subject, settings: Settings, us: list[Arrays], recorded: bool) -> None:
        self.subject, self.settings = subject, settings
        self.us = us + us[:1] if recorded else us
        self.recorded = recorded
        self.oracle = Oracle(subject, self.us, settings.method, settings.step)
        self.gradients = self._gradients(subject.variables, self.us)
        self._spread: list[np.ndarray] = []
        values = self.oracle.project(subject.outputs()).astype(np.float64)
        reach = float(np.max(np.abs(flat(subject.variables)), initial=1.0))
        self._slope = float(np.sqrt(np.mean(values**2))) / reach  # what a derivative may be made of, if it cancels

    def _gradients(self, xs: Arrays, us: list[Arrays]) -> np.ndarray:
        found = [flat(self.subject.gradients(u, xs, self.recorded and i == len(us) - 1)) for i, u in enumerate(us)]
        return np.stack(found)

    def groups(self) -> list[list[int]]:
        """The variables that are checked together: all but those whose part is too small to be seen beside the rest."""
        ends = np.cumsum([x.size for x in self.subject.variables])[:-1]
        sizes = [float(np.linalg.norm(np.nan_to_num(part))) for part in np.split(self.gradients, ends, axis=1)]
        alone = [i for i, size in enumerate(sizes) if size < ALONE * max(sizes)]
        return [[i for i in range(len(sizes)) if i not in alone], *([i] for i in alone)]

    def report(
        self,
        check: str,
        directions: list[Arrays],
        given: list[Estimate] | None = None,
        rows: Callable[[int], list[int]] | None = None,
    ) -> Report:
        """The verdict on all directions; ``rows``: which cotangents each is compared at, by default all."""
        inside = np.any([flat(v) != 0 for v in directions], axis=0)
        lengths = np.linalg.norm(self.gradients[:, inside], axis=1)
        ours = [self.gradients @ flat(v) for v in directions]
        goal = float(np.max(lengths, initial=0.0)) * 1e-15
        estimates = given or [self.oracle.derivative(v, goal) for v in directions]
        scale = self._scale(ours, estimates)
        target = self.settings.resolution * scale
        judged = []
        for j, (mine, first, v) in enumerate(zip(ours, estimates, directions)):
            at = np.array(rows(j)) if rows else np.arange(len(self.us))
            others = partial(self._others, v, at) if given is None else list
            length = lengths[at] * float(np.linalg.norm(flat(v)))
            judged.append(judge(mine[at], length, target, _rows(first, at), others, partial(self.noise, v, at)))
        return self._told(check, judged, directions, scale, rows)

    def _scale(self, ours: list[np.ndarray], estimates: list[Estimate]) -> float:
        """The usual size of a projected derivative; that of value by argument, where it is nearly zero."""
        numbers = [np.ravel(e.value) for e in estimates if e.error < np.inf] + ours
        finite = np.concatenate(numbers).astype(np.float64)
        finite = finite[np.isfinite(finite)]
        size = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
        found = max(size, BESIDE_VALUES * self._slope)
        return found if found > NOTHING else max(found, BESIDE_VALUES * self._slope_nearby)

    @property
    def _slope_nearby(self) -> float:
        """The size of the function one step away, over that step, for where it and its derivative are all zero."""
        step = self.settings.step
        nearby = self.subject.values([np.asarray(x + step) for x in self.subject.variables])
        return float(np.max(np.abs(flat(nearby)), initial=0.0)) / step or 1.0

    def _others(self, v: Arrays, at: np.ndarray) -> list[Estimate]:
        closer = self.settings.step / CLOSER
        found = [self.oracle.derivative(v, step=closer)]
        if self.oracle.method != "richardson":
            found.append(self.oracle.derivative(v, method="richardson", step=closer))
        return [_rows(estimate, at) for estimate in found]

    def noise(self, v: Arrays, at: np.ndarray) -> float:
        """How far the projections of the gradients move when inputs and cotangents move by units in the last place.

        By one, and by some more: numbers that cancel lie on a grid, whose places one unit may be too small to leave.
        """
        if not self._spread:
            rng = np.random.default_rng(7)
            numbers = max(1, flat(self.subject.variables).size)
            for i in range(max(6, MEASURED // numbers)):
                far = 2 * EPS * (1 if i % 2 else UNITS)
                xs, *us = [[nudged(x, far, rng) for x in xs] for xs in (self.subject.variables, *self.us)]
                moved = self._gradients(xs, us)
                self._spread.append(moved - self.gradients)
        return max(4 * EPS * self._slope, *(float(np.max(np.abs(spread @ flat(v))[at])) for spread in self._spread))

    def _told(
        self,
        check: str,
        judged: list[Judgement],
        directions: list[Arrays],
        scale: float,
        rows: Callable[[int], list[int]] | None,
    ) -> Report:
        rank = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
        j = min(range(len(judged)), key=lambda j: (rank.index(judged[j].verdict), -judged[j].error))
        worst = judged[j]
        row = rows(j)[worst.row] if rows else worst.row
        message, evidence = "", None
        if worst.verdict is not Verdict.PASS:
            mine = float(self.gradients[row] @ flat(directions[j]))
            theirs = float(np.ravel(worst.oracle.value)[worst.row]) if worst.oracle.error < np.inf else float("nan")
            recorded = self.recorded and row == len(self.us) - 1
            what = "recorded derivative" if recorded else "derivative"
            message = (
                f"{what} along random direction {j + 1} is {mine!r}, the oracle ({self.oracle.method}) says "
                f"{theirs!r} +- {worst.bar:.1e}"
            )
            if worst.verdict is Verdict.FAIL:
                message += f": relative error {worst.error / scale:.1e}" + self._located(row)
            else:
                message += (
                    f", which does not tell to {self.settings.resolution:.0e}: is there a kink or a pole nearby? "
                    "Move the inputs or take another step"
                )
            u, v = tuple(self.us[row]), tuple(directions[j])
            evidence = Evidence(self.subject, u, v, self.oracle.method, worst.error, recorded)
        return Report(
            check,
            self.subject.name,
            worst.verdict,
            max(x.error for x in judged) / scale,
            max(x.bar for x in judged) / scale,
            self.subject.case_id,
            message,
            self.oracle.method,
            evidence=evidence,
        )

    def _located(self, row: int) -> str:
        """Where the gradient of one cotangent is wrong: the element of each variable that is furthest off."""
        xs = self.subject.variables
        if flat(xs).size > LOCATED:
            return ""
        lines = []
        numeric = Oracle(self.subject, [self.us[row]], self.oracle.method, self.settings.step).by_element().value
        for i, (g, theirs) in enumerate(zip(split(self.gradients[row], [x.shape for x in xs]), numeric)):
            if g.size:
                at = np.unravel_index(np.argmax(np.abs(np.nan_to_num(g - theirs, nan=np.inf))), g.shape)
                place = f"variable {i} {list(g.shape)}: {g[at]:.12g} at [{', '.join(map(str, at))}]"
                lines.append(f"\n  {place}, where the oracle says {theirs[at]:.12g}")
        return "".join(lines)


def _rows(estimate: Estimate, at: np.ndarray) -> Estimate:
    """The estimate at some of the cotangents; one that found nothing has no rows."""
    value = np.asarray(estimate.value)
    return Estimate(value[at] if value.ndim else np.full(len(at), np.nan), estimate.error)
