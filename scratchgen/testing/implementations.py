"""Every implementation of an op against its specification in float64: values, and derivatives to second order.

Values and gradient kernels are compared on the cases declared beside the kernels (``kernels.compare``). An op that has
implementations is also differentiated twice with each of them, and with its specification, at the same points.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from .. import kernels
from ..declare import OPS
from ..kernels.compare import _cases as declared
from .report import Evidence, Report, Verdict, together
from .subject import Subject

# Largest errors of value and derivatives, relative to the largest number of the same array: those that rounding the
# inputs to the dtype brings with it. Two orders of derivative lose some digits that a value keeps.
TOLERANCE = {"float32": (1e-5, 1e-4), "float64": (1e-13, 1e-11)}


def check_kernel(op: str, dtype: str = "float32", seed: int = 0) -> Report:
    """All implementations of a kernel on the CPU, study versions included, on the cases declared beside it."""
    by_impl: dict[str, list[kernels.Comparison]] = {}
    for found in kernels.compare(op, dtype=dtype, seed=seed):
        by_impl.setdefault(found.impl, []).append(found)
    return together("kernels", f"{op} {dtype}", [_of_impl(op, impl, dtype, all) for impl, all in by_impl.items()])


def _of_impl(op: str, impl: str, dtype: str, found: list[kernels.Comparison]) -> Report:
    worst = max(found, key=lambda c: (not c.passed, c.error / c.tolerance))
    message = "" if worst.passed else f"case {worst.case!r} is off by {worst.error:.1e}, allowed {worst.tolerance:.0e}"
    verdict = Verdict.PASS if worst.passed else Verdict.FAIL
    check = f"kernel {impl}, {len(found)} cases"
    return Report(check, f"{op} {dtype}", verdict, worst.error, worst.tolerance, f"{op}/{impl}", message, "float64")


def alternatives() -> list[tuple[str, str]]:
    """Every (op, implementation) on the CPU beside the specifications, of ops that can be differentiated."""
    return [
        (op, impl)
        for op in kernels.ops()
        if op in OPS
        for impl in kernels.implementations(op, "cpu")
        if impl != "reference"
    ]


def points(op: str, impl: str) -> Iterator[tuple[kernels.Case, str]]:
    """The finite cases of an op that an implementation takes, and the dtype it takes each in."""
    chosen = kernels.implementations(op, "cpu")[impl]
    for case in declared[op](np.random.default_rng(3)):
        for dtype in TOLERANCE:
            arrays = _cast(case, dtype)
            fits = chosen.accepts(np.dtype(dtype)) and (chosen.when is None or chosen.when(*arrays, **case.attrs))
            if fits and all(np.isfinite(a).all() for a in arrays if a is not None):
                yield case, dtype


def check_implementation(op: str, impl: str) -> Report:
    """Values and two orders of derivatives of ``op`` by one implementation, and its gradient kernel of that name."""
    from .catalogue import two_orders

    family = [name for name in (op, op + "_vjp") if kernels.has(name) and impl in kernels.implementations(name, "cpu")]
    parts = []
    for case, dtype in points(op, impl):
        function = partial(OPS[op], **case.attrs)
        with kernels.use(**dict.fromkeys(family, "reference")):
            truth = two_orders(function, _cast(case, "float64"))
        with kernels.use(**dict.fromkeys(family, impl)):
            found = two_orders(function, _cast(case, dtype))
        parts.append(_compared(op, impl, case, dtype, found, truth))
    if not parts:
        return Report(f"implementation {impl}", op, Verdict.INCONCLUSIVE, message=f"no case of {op} is one it takes")
    return together(f"implementation {impl}", op, parts)


def _compared(op: str, impl: str, case: kernels.Case, dtype: str, found: list[Any], truth: list[Any]) -> Report:
    value, derivative = TOLERANCE[dtype]
    worst, message = 0.0, "" if len(found) == len(truth) else f"{len(found)} results, expected {len(truth)}"
    for i, (a, b) in enumerate(zip(found, truth)):
        allowed = value if i == 0 else derivative
        if a.dtype != dtype or a.shape != b.shape:
            message = message or f"number {i} is {a.dtype}{list(a.shape)}, expected {dtype}{list(b.shape)}"
            continue
        error = float(np.abs(a - b).max(initial=0) / np.abs(b).max(initial=1e-30))
        if not error <= allowed:
            message = message or f"number {i} of value and derivatives is off by {error:.1e}, allowed {allowed:.0e}"
        worst = max(worst, error if error == error else np.inf)
    subject = Subject(OPS[op], case, name=op)
    verdict = Verdict.FAIL if message else Verdict.PASS
    return Report(
        f"{case.name}, {dtype}", op, verdict, worst, derivative, f"{op}/{impl}",
        message and f"case {case.name!r}, {dtype}: {message}", "specification",
        evidence=Evidence(subject) if message else None,
    )  # fmt: skip


def _cast(case: kernels.Case, dtype: str) -> list[Any]:
    return [a.astype(dtype) if a is not None and a.dtype.kind == "f" else a for a in case.arrays]
