"""How a function behaves, whatever it computes: same bits every time, inputs left alone, errors that help."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..kernels import Case
from .comparisons import ULPS, compared, derivatives, spread
from .report import Evidence, Report, Verdict, case_id, name_of, together
from .subject import Arrays, Subject, relaid

CLEAR = (TypeError, ValueError, RuntimeError, IndexError, NotImplementedError)


def check_nondeterminism(
    f: Callable[..., Any],
    xs: Any,
    *,
    runs: int = 3,
    dtype: str = "float32",
    threads: Sequence[int] = (1, 2),
    device: Any = "cpu",
    seed: int = 0,
    name: str | None = None,
    raises: bool = True,
) -> Report:
    """Values and gradients must have the same bits in ``runs`` calls, and with each number of Numba's ``threads``."""
    subject = Subject(f, xs, name=name, dtype=dtype, device=device)
    rng = np.random.default_rng(seed)
    us = [np.asarray(rng.standard_normal(y.shape)).astype(dtype) for y in subject.outputs()]
    first, message = derivatives(subject, us), ""
    for _ in range(runs - 1):
        if not _equal(first, derivatives(subject, us)):
            message = "two calls with the same inputs give different bits"
    if not message:
        message = _threads_disagree(subject, us, first, threads)
    report = Report(
        "determinism",
        subject.name,
        Verdict.FAIL if message else Verdict.PASS,
        case_id=subject.case_id,
        message=message,
        evidence=Evidence(subject) if message else None,
    )
    return report.demand() if raises else report


def _threads_disagree(subject: Subject, us: Arrays, first: Arrays, threads: Sequence[int]) -> str:
    import sys

    numba = sys.modules.get("numba")  # where nothing has loaded it, nothing runs on its threads
    if numba is None:
        return ""
    before = numba.get_num_threads()
    try:
        for count in threads:
            if count <= numba.config.NUMBA_NUM_THREADS:
                numba.set_num_threads(count)
                if not _equal(first, derivatives(subject, us)):
                    return f"{count} threads give other bits than {before}"
    finally:
        numba.set_num_threads(before)
    return ""


def check_unchanged(
    f: Callable[..., Any], xs: Any, *, device: Any = "cpu", name: str | None = None, raises: bool = True
) -> Report:
    """Inputs come out as they went in, and their memory layout has no influence on values and gradients.

    The same numbers in C order must give the same results up to rounding. Works on copies of the inputs.
    """
    given = Subject(f, xs, name=name, device=device)
    subject = given.moved([relaid(x, x.dtype) for x in given.variables])
    before = [a.copy() if isinstance(a, np.ndarray) else a for a in subject.arrays]
    us = [np.ones(y.shape) for y in subject.outputs()]
    found = derivatives(subject, us)
    message = "" if _equal(before, list(subject.arrays)) else "an input is changed"
    plain = given.case()._replace(arrays=tuple(map(_in_c_order, before)))
    if message:
        return _told("inputs and layout", subject, message, raises)
    other = derivatives(Subject(f, plain, name=subject.name, device=device), us)
    unit = ULPS * float(np.finfo(float).eps)
    report = compared("inputs and layout", subject, found, other, spread(subject, us, "float64"), unit)
    return report.demand() if raises else report


def _told(check: str, subject: Subject, message: str, raises: bool) -> Report:
    verdict = Verdict.FAIL if message else Verdict.PASS
    evidence = Evidence(subject) if message else None
    report = Report(check, subject.name, verdict, case_id=subject.case_id, message=message, evidence=evidence)
    return report.demand() if raises else report


def check_errors(
    f: Callable[..., Any],
    cases: Iterable[Any],
    *,
    expected: type[Exception] | tuple[type[Exception], ...] = CLEAR,
    mentions: str = "",
    name: str | None = None,
    raises: bool = True,
) -> Report:
    """Each of ``cases`` (inputs, or ``Case``s) is a wrong call, and must raise one of ``expected`` with a message.

    ``mentions``: a word that the message must have, such as the op's name. An AttributeError or an assertion from
    somewhere inside is no answer to a user.
    """
    subject = name or name_of(f)
    parts = []
    for number, given in enumerate(cases):
        case = given if isinstance(given, Case) else Case(f"{subject} {number}", tuple(given))
        try:
            f(*[_tensor(a) for a in case.arrays], **case.attrs)
            message = f"{case.name} is accepted"
        except expected as error:
            text = str(error)
            message = "" if text and mentions in text else f"{case.name}: the message does not help: {text!r}"
        except Exception as error:
            message = f"{case.name}: it raises {type(error).__name__}: {error}"
        verdict = Verdict.FAIL if message else Verdict.PASS
        found = case_id(subject, case.arrays, case.attrs)
        parts.append(Report("errors", subject, verdict, case_id=found, message=message))
    report = together("errors", subject, parts)
    return report.demand() if raises else report


def _tensor(a: Any) -> Any:
    from ..tensor import as_tensor

    return as_tensor(a) if isinstance(a, np.ndarray) else a


def _equal(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return all(
        np.array_equal(x, y, equal_nan=x.dtype.kind in "fc") if isinstance(x, np.ndarray) else x == y
        for x, y in zip(a, b, strict=True)
    )


def _in_c_order(a: Any) -> Any:
    return np.array(a, order="C") if isinstance(a, np.ndarray) else a
