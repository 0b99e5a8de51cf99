"""One function that holds every implementation of an op against its reference in float64: tests and benchmarks call it.

What to compare on is declared beside an op's kernels: ``@cases("softmax")`` on a function that yields named inputs.
Gradients are ops of their own here (``softmax_vjp``), with cases of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .registry import Kernel, has, implementations, ops


class Case(NamedTuple):
    """Inputs to compare on: float arrays are given in float64 and cast to the dtype under test."""

    name: str
    arrays: tuple[Any, ...]
    attrs: dict[str, Any] = {}  # noqa: RUF012 - never written to


@dataclass(frozen=True)
class Comparison:
    """How one implementation did on one case.

    ``error``: largest deviation of any output from the float64 reference, relative to that output's largest value.
    ``seconds``: median of the timed calls, or None. ``bandwidth`` (bytes/s) and ``throughput`` (flop/s) by its cost.
    """

    op: str
    impl: str
    case: str
    dtype: str
    error: float
    tolerance: float
    seconds: float | None = None
    bandwidth: float | None = None
    throughput: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return self.error <= self.tolerance


TOLERANCE = {"float16": 4e-3, "float32": 4e-6, "float64": 1e-13}
_cases: dict[str, Callable[[np.random.Generator], Iterable[Case]]] = {}


def cases(op: str) -> Callable[[Callable], Callable]:
    """Declare what ``op`` is compared on: the decorated function takes a NumPy generator and yields ``Case``s."""

    def declare(make: Callable[[np.random.Generator], Iterable[Case]]) -> Callable:
        _cases[op] = make
        return make

    return declare


def comparable() -> list[str]:
    """The ops that have cases."""
    return sorted(_cases)


def compare(
    op: str,
    impls: str | Sequence[str] = "all",
    *,
    device: str = "cpu",
    dtype: str = "float32",
    seed: int = 0,
    repeats: int = 0,
) -> Iterator[Comparison]:
    """Run implementations of ``op``, study versions included, on all its cases; yields one Comparison for each pair.

    ``impls``: names, or ``"all"`` that accept ``dtype`` on ``device``. ``repeats``: timed calls after one to warm up.
    Raises KeyError with the known names for an op without kernels or cases, or an unknown implementation.
    """
    if not has(op) or op not in _cases:
        raise KeyError(f"no cases for {op!r}; ops with cases: {', '.join(comparable())}; all ops: {', '.join(ops())}")
    available = implementations(op, device)
    wanted = list(available) if impls == "all" else [impls] if isinstance(impls, str) else list(impls)
    if unknown := set(wanted) - set(available):
        raise KeyError(f"{op} has no implementation {sorted(unknown)} on {device}; it has: {', '.join(available)}")
    for case in drawn(op, seed):
        truth = outputs(available["reference"].fn(*case.arrays, **case.attrs))
        arrays = tuple(cast(a, dtype) for a in case.arrays)
        made = np.dtype(case.attrs.get("dtype", dtype)).name  # random numbers come in the dtype that is asked for
        for impl in wanted:
            k = available[impl]
            fits = k.accepts(np.dtype(dtype)) and (k.when is None or k.when(*arrays, **case.attrs))
            if not fits:
                continue
            got = outputs(k.fn(*arrays, **case.attrs))
            error = max((deviation(g, t) for g, t in zip(got, truth, strict=True)), default=0.0)
            seconds = _median_seconds(k, arrays, case.attrs, repeats) if repeats else None
            cost = k.cost(*arrays, **case.attrs) if k.cost and seconds else None
            yield Comparison(
                op,
                impl,
                case.name,
                made,
                error,
                TOLERANCE[made] * k.looseness,
                seconds,
                cost.bytes / seconds if cost and seconds else None,
                cost.flops / seconds if cost and seconds else None,
            )


def drawn(op: str, seed: int = 0) -> Iterator[Case]:
    """The cases of ``op``, which has some."""
    yield from _cases[op](np.random.default_rng(seed))


def cast(array: Any, dtype: str) -> Any:
    """What a kernel gets of a case's array, or tuple of arrays: floats in the dtype under test, read-only."""
    if isinstance(array, tuple):
        return tuple(cast(a, dtype) for a in array)
    if array is None or array.dtype.kind != "f":
        return array
    narrow = np.array(array, dtype, order="K")
    narrow.flags.writeable = False  # kernels never mutate their inputs
    return narrow


def outputs(result: Any) -> list[np.ndarray]:
    """What a kernel returned, as a list without the gradients that are None."""
    return [np.asarray(a) for a in (result if isinstance(result, tuple) else (result,)) if a is not None]


def deviation(got: np.ndarray, truth: np.ndarray) -> float:
    """The largest difference, relative to the largest true value; equal infinities and NaNs are equal."""
    if got.shape != truth.shape:
        raise AssertionError(f"an output has shape {got.shape}, the reference's has {truth.shape}")
    if truth.size == 0:
        return 0.0
    same = (got == truth) | (np.isnan(got) & np.isnan(truth))  # covers equal infinities
    difference = np.where(same, 0.0, np.abs(np.where(same, 0.0, got) - np.where(same, 0.0, truth).astype(np.float64)))
    finite = np.abs(truth[np.isfinite(truth)])
    return (
        float(difference.max() / max(finite.max(initial=0.0), np.finfo(np.float64).tiny)) if difference.any() else 0.0
    )


def _median_seconds(k: Kernel, arrays: tuple, attrs: dict, repeats: int) -> float:
    k.fn(*arrays, **attrs)
    samples = []
    for _ in range(repeats):
        start = time.perf_counter()
        k.fn(*arrays, **attrs)
        samples.append(time.perf_counter() - start)
    return float(np.median(samples))
