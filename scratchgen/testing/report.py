"""What a check found: a verdict with its evidence, and a name under which it can be found again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np


class Verdict(StrEnum):
    """``inconclusive``: the oracle cannot tell here. It is neither a pass nor a failure, and it is counted."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class GradientError(AssertionError):
    """Something differs from what an oracle says; ``report`` has the details."""

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


class Inconclusive(GradientError):
    """The oracle is not accurate enough at this point to judge (near a kink or a singularity)."""


@dataclass(frozen=True)
class Evidence:
    """What shows a wrong derivative: ``cotangent`` and ``direction``, where ``subject`` is off its oracle by ``error``.

    They have one array for each differentiable output and one for each variable; none where a value is wrong.
    """

    subject: Any
    cotangent: tuple[np.ndarray, ...] = ()
    direction: tuple[np.ndarray, ...] = ()
    oracle: str = ""
    error: float = np.inf
    recorded: bool = False  # the derivative is wrong as it is computed for a higher order to follow


@dataclass(frozen=True)
class Report:
    """The outcome of one check, or of several (``parts``).

    ``worst``: the largest error found, relative to the size of what was checked. ``resolution``: the largest error
    bar, in the same unit: a mistake smaller than this may have gone unseen. ``case_id`` depends on function and
    inputs only, so it is the same in every run.
    """

    check: str
    subject: str
    verdict: Verdict
    worst: float = 0.0
    resolution: float = 0.0
    case_id: str = ""
    message: str = ""
    oracle: str = ""
    parts: tuple[Report, ...] = ()
    evidence: Evidence | None = field(default=None, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether the verdict is ``pass``."""
        return self.verdict is Verdict.PASS

    def demand(self) -> Report:
        """Raise GradientError for a failure and Inconclusive where nothing could be told; return ``self`` otherwise."""
        if self.passed:
            return self
        error = GradientError if self.verdict is Verdict.FAIL else Inconclusive
        raise error(f"{self.subject}: {self.check}: {self.message} [{self.case_id}]", self)

    def repro(self) -> str:
        """A stand-alone script, as text, that shows the failure: exact inputs, one call, two numbers that differ."""
        from .repro import script

        return script(self)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it, without the evidence."""
        plain = {name: getattr(self, name) for name in ("check", "subject", "worst", "resolution", "case_id")}
        plain.update(verdict=str(self.verdict), message=self.message, oracle=self.oracle)
        if self.parts:
            plain["parts"] = [part.to_dict() for part in self.parts]
        return plain

    def __str__(self) -> str:
        line = f"{self.verdict:12} {self.subject}: {self.check}, error {self.worst:.1e} +- {self.resolution:.1e}"
        return f"{line} [{self.case_id}]" + (f": {self.message}" if self.message else "")


def together(check: str, subject: str, parts: Sequence[Report]) -> Report:
    """Several reports as one: it fails if any fails, and passes only if all pass."""
    order = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
    if not parts:
        return Report(check, subject, Verdict.PASS)
    decisive = min(parts, key=lambda part: order.index(part.verdict))
    return replace(
        decisive,
        check=check if decisive.passed or decisive.check == check else f"{check}, {decisive.check}",
        subject=subject,
        worst=max(part.worst for part in parts) if decisive.passed else decisive.worst,
        resolution=max(part.resolution for part in parts) if decisive.passed else decisive.resolution,
        parts=tuple(parts),
    )


def case_id(name: str, arrays: Sequence[Any], attrs: dict[str, Any]) -> str:
    """``name-0123456789``: a hash of the inputs' values, dtypes, strides and options."""
    digest = hashlib.sha256(name.encode())
    for x in arrays:
        if isinstance(x, np.ndarray):
            digest.update(f"{x.dtype.str}{x.shape}{x.strides}".encode())
            digest.update(np.ascontiguousarray(x).tobytes())
        else:
            digest.update(repr(x).encode())
    digest.update(repr(sorted(attrs.items())).encode())
    return f"{name}-{digest.hexdigest()[:10]}"


def name_of(function: Any) -> str:
    """The short name of a function, an op or a partial of either."""
    while hasattr(function, "func"):
        function = function.func
    name = getattr(function, "name", None) or getattr(function, "__name__", None) or type(function).__name__
    return str(name).strip("<>")
