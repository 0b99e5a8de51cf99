"""Random programs in scratchgen and in torch: values, gradients of all inputs, second derivatives.

Programs change memory in place, also memory that their graph has saved. Torch then runs with saved values copied before
they change, so its derivatives are right in any case; scratchgen may give the same numbers or refuse, and nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from .grammar import random_program
from .programs import Program, labels
from .shrink import pruned, shrink

CLOSE = 1e-9  # relative to the largest number of the same array
LARGE = 1e8  # programs with larger numbers lose too many digits to tell
NUDGES = 3
SPREAD = 100.0  # how many times the effect of a unit in the last place of the inputs is still rounding


class Outcome(StrEnum):
    """``refused``: scratchgen says that a saved value was changed. ``unfit``: numbers too large, or not numbers."""

    SAME = "same"
    REFUSED = "refused"
    UNFIT = "unfit"
    DIFFERENT = "DIFFERENT"


@dataclass(frozen=True)
class Comparison:
    """One program in two libraries. ``error``: largest difference, relative to the largest number of its array."""

    program: Program
    outcome: Outcome
    error: float = 0.0
    message: str = ""
    number: int | None = None

    @property
    def different(self) -> bool:
        """Whether the libraries disagree."""
        return self.outcome is Outcome.DIFFERENT

    @property
    def case_id(self) -> str:
        """``program-12`` for number 12, by which it can be drawn again; of others a hash."""
        return self.program.case_id if self.number is None else f"program-{self.number}"

    def __str__(self) -> str:
        return f"{self.case_id}: {self.message}\n{self.program}"


def compare_with_torch(program: Program, number: int | None = None) -> Comparison:
    """Run ``program``, which may be that of a ``number``, in both libraries."""
    return replace(_compare(program), number=number)


def _compare(program: Program) -> Comparison:
    try:
        expected = _in_torch(program)
    except Exception as error:
        return Comparison(program, Outcome.UNFIT, message=f"torch: {error}")
    if not all(np.isfinite(a).all() and np.abs(a).max(initial=0.0) < LARGE for a in expected):
        return Comparison(program, Outcome.UNFIT, message="numbers too large")
    try:
        found = _ours(program)
    except Exception as error:
        if program.writes and "changed in place since" in str(error):
            return Comparison(program, Outcome.REFUSED, message=str(error))
        return Comparison(program, Outcome.DIFFERENT, np.inf, f"scratchgen raises {type(error).__name__}: {error}")
    worst, message = 0.0, ""
    allowed: list[float] | None = None
    for i, (label, a, b) in enumerate(zip(labels(program), found, expected, strict=True)):
        if a.shape != b.shape:
            return Comparison(program, Outcome.DIFFERENT, np.inf, f"{label} has shape {a.shape}, in torch {b.shape}")
        difference = float(np.max(np.abs(a - b), initial=0.0))
        size = float(np.max(np.abs(b), initial=0.0))
        if not difference <= CLOSE * max(size, 1.0):
            allowed = allowed or _rounding(program, expected)
            if not difference <= SPREAD * allowed[i] + CLOSE * size:
                at = np.unravel_index(np.argmax(np.abs(a - b)), a.shape)
                place = f"[{', '.join(map(str, at))}]"
                text = f"{label} is {float(a[at])!r} at {place}, in torch {float(b[at])!r}"
                if not difference / max(size, 1e-300) <= worst:
                    worst, message = difference / max(size, 1e-300), text
    return Comparison(program, Outcome.DIFFERENT if message else Outcome.SAME, worst, message)


def fuzz(
    count: int = 2000,
    *,
    seed: int = 0,
    max_nodes: int = 12,
    until_different: bool = False,
) -> Iterator[Comparison]:
    """Compare ``count`` programs, those with numbers too large not counted; one Comparison for each, as it is made.

    Program number i depends on ``seed`` + i only. Those that differ are yielded shrunk.
    """
    done, number = 0, seed
    while done < count:
        found = compare_with_torch(random_program(number, max_nodes), number)
        number += 1
        done += found.outcome is not Outcome.UNFIT
        if found.different:
            yield smallest(found)
            if until_different:
                return
        else:
            yield found


def smallest(found: Comparison) -> Comparison:
    """The same difference in a program as small as it can be made."""

    def differs(program: Program) -> bool:
        return compare_with_torch(program).different

    start = pruned(found.program)
    return compare_with_torch(shrink(start if differs(start) else found.program, differs), found.number)


def _ours(program: Program) -> list[np.ndarray]:
    import scratchgen

    return program.run(scratchgen)


def _in_torch(program: Program) -> list[np.ndarray]:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    copied = torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t)
    # The attention kernels that torch would choose have no second derivative.
    with copied, sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reminders of torch's that are about style
        return program.run(torch)


def _rounding(program: Program, expected: list[np.ndarray]) -> list[float]:
    """How far each result moves in torch when the inputs move by a unit in the last place."""
    rng = np.random.default_rng(0)
    spread = [0.0] * len(expected)
    for _ in range(NUDGES):
        leaves = tuple(
            replace(x, values=x.values * (1 + 2.0**-52 * rng.integers(-1, 2, x.values.shape))) for x in program.leaves
        )
        moved = _in_torch(replace(program, leaves=leaves))
        spread = [max(s, float(np.max(np.abs(m - e), initial=0.0))) for s, m, e in zip(spread, moved, expected)]
    return spread


def tally(comparisons: list[Comparison]) -> dict[str, Any]:
    """How many of each outcome."""
    return {str(outcome): sum(c.outcome is outcome for c in comparisons) for outcome in Outcome}
