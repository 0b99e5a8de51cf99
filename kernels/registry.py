"""The table of kernels: which implementations an op has, and which one runs.

A kernel is a function from arrays to arrays. It never mutates its inputs, never synchronises a device and never
draws from a global generator. ``@kernel("softmax", impl="numba", device="cpu")`` attaches one to an op; ``select``
picks the best that fits; ``use`` and the environment variable ``SCRATCHGEN_KERNELS=softmax=reference,...`` override it.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

DEVICES = ("any", "cpu", "cuda", "emu")


@dataclass(frozen=True)
class Cost:
    """What one call moves and computes; benchmarks print the fraction of the roof from it."""

    bytes: int
    flops: int


@dataclass(frozen=True)
class Kernel:
    """One implementation of one op, and when it may be chosen.

    ``priority``: the highest fitting one is chosen; the reference has 0. ``study``: a step of a teaching ladder,
    tested and benchmarked but never chosen. ``device``: where it runs, or several of them with spaces in between.
    ``when(*arrays, **attrs)``: a further condition, e.g. on sizes. ``unasked(*arrays, **attrs)``: one for being chosen
    without having been asked for by name, e.g. on the GPU.
    ``looseness``: how many times the usual error it may have, for algorithms that trade accuracy for speed.
    """

    op: str
    impl: str
    fn: Callable[..., Any]
    device: str = "any"
    dtypes: frozenset[np.dtype] | None = None
    when: Callable[..., bool] | None = None
    unasked: Callable[..., bool] | None = None
    cost: Callable[..., Cost] | None = None
    study: bool = False
    priority: int = 10
    takes_needs: bool = False
    takes_onto: bool = False
    looseness: float = 1.0

    def runs_on(self, device: str) -> bool:
        return self.device == "any" or device in self.device.split()

    def accepts(self, dtype: np.dtype | None) -> bool:
        return self.dtypes is None or dtype in self.dtypes

    def fits(self, arrays: tuple[Any, ...], attrs: dict[str, Any]) -> bool:
        return self.when is None or self.when(*arrays, **attrs)


_table: dict[str, dict[str, Kernel]] = {}
_providers: dict[tuple[str, str], list[str]] = {}  # (op, device) -> modules not imported yet
_candidates: dict[tuple[str, str, np.dtype | None], tuple[Kernel, ...]] = {}
_overrides: ContextVar[dict[str, str]] = ContextVar("scratchgen_kernels")


def kernel(
    op: str,
    *,
    impl: str = "reference",
    device: str = "any",
    dtypes: str | None = None,
    when: Callable[..., bool] | None = None,
    unasked: Callable[..., bool] | None = None,
    cost: Callable[..., Cost] | None = None,
    study: bool = False,
    priority: int | None = None,
    looseness: float = 1.0,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Attach the decorated function to ``op`` under the name ``impl``.

    ``dtypes`` is a string of NumPy codes, e.g. ``"f4 f8"``; they are matched against the first array argument.
    """
    if not set(device.split()) <= set(DEVICES):
        raise ValueError(f"kernel {op}/{impl}: unknown device {device!r}, expected of {DEVICES}")
    if priority is None:
        priority = 0 if impl == "reference" else 10

    def attach(fn: Callable[..., Any]) -> Callable[..., Any]:
        implementations = _table.setdefault(op, {})
        parameters = inspect.signature(fn).parameters
        if impl in implementations and implementations[impl].fn.__module__ != fn.__module__:
            raise ValueError(f"kernel {op}/{impl} is already defined in {implementations[impl].fn.__module__}")
        implementations[impl] = Kernel(
            op=op,
            impl=impl,
            fn=fn,
            device=device,
            dtypes=frozenset(np.dtype(code) for code in dtypes.split()) if dtypes else None,
            when=when,
            unasked=unasked,
            cost=cost,
            study=study,
            priority=priority,
            takes_needs="needs" in parameters,
            takes_onto="onto" in parameters,
            looseness=looseness,
        )
        _candidates.clear()
        return fn

    return attach


def provide(module: str, device: str, *ops: str) -> None:
    """Name a module that registers kernels of ``ops`` for ``device``; it is imported when one is first looked for.

    This keeps ``import scratchgen`` quick: Numba and CuPy load only when a kernel of theirs may run.
    """
    for op in ops:
        _providers.setdefault((op, device), []).append(module)


def _load(op: str, device: str) -> None:
    for module in _providers.pop((op, device), ()):
        importlib.import_module(module)


def ops() -> list[str]:
    """Names of all ops that have a kernel."""
    return sorted(set(_table) | {op for op, _ in _providers})


def has(op: str) -> bool:
    """Whether any kernel of ``op`` exists."""
    return op in _table or any(name == op for name, _ in _providers)


def implementations(op: str, device: str | None = None) -> dict[str, Kernel]:
    """All implementations of ``op`` by name, study versions included, of one device or of all."""
    if not has(op):
        raise KeyError(f"no kernel named {op!r}; known: {', '.join(ops())}")
    for each in (device,) if device else DEVICES[1:]:
        _load(op, each)
    found = _table.get(op, {})
    return {name: k for name, k in found.items() if device is None or k.runs_on(device)}


def _parse(text: str) -> dict[str, str]:
    chosen = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        op, separator, impl = item.partition("=")
        if not separator:
            raise ValueError(f"SCRATCHGEN_KERNELS: {item!r} is not of the form op=implementation")
        chosen[op.strip()] = impl.strip()
    return chosen


def _check(chosen: dict[str, str]) -> None:
    for op, impl in chosen.items():
        if not has(op):
            raise ValueError(f"unknown op {op!r}; ops with kernels: {', '.join(ops())}")
        for device in DEVICES[1:]:
            if impl not in _table.get(op, {}):
                _load(op, device)
        if impl not in _table.get(op, {}):
            raise ValueError(f"{op} has no implementation {impl!r}; it has: {', '.join(_table.get(op, {}))}")


def overrides() -> dict[str, str]:
    """The choices in force: those of ``use`` over those of the environment."""
    chosen = _overrides.get(None)
    if chosen is None:
        chosen = _parse(os.environ.get("SCRATCHGEN_KERNELS", ""))
        _check(chosen)
        _overrides.set(chosen)
    return chosen


@contextmanager
def use(**chosen: str) -> Iterator[None]:
    """Choose implementations by name within a ``with`` block: ``use(softmax="reference")``.

    Unknown ops and implementations raise with the list of known ones.
    """
    _check(chosen)
    token = _overrides.set({**overrides(), **chosen})
    try:
        yield
    finally:
        _overrides.reset(token)


def select(op: str, device: str, arrays: tuple[Any, ...], attrs: dict[str, Any], prefer: str | None = None) -> Kernel:
    """The kernel that runs ``op`` on these arguments.

    Order: an override by ``use`` or the environment; ``prefer`` (what the forward pass chose); the highest priority
    that fits device, dtype and ``when``.
    """
    chosen = overrides()
    dtype = next((a.dtype for a in arrays if a is not None), None)
    if chosen and op in chosen:
        asked = _table[op][chosen[op]]
        if not (asked.runs_on(device) and asked.accepts(dtype) and asked.fits(arrays, attrs)):
            raise ValueError(f"{op}: {asked.impl!r}, asked for by name, does not take {_shown(arrays)} on {device}")
        return asked
    key = (op, device, dtype)
    candidates = _candidates.get(key)
    if candidates is None:
        _load(op, device)
        fitting = [k for k in _table.get(op, {}).values() if k.runs_on(device) and k.accepts(dtype) and not k.study]
        candidates = _candidates[key] = tuple(sorted(fitting, key=lambda k: -k.priority))
    if prefer is not None:
        for candidate in candidates:
            if candidate.impl == prefer and candidate.fits(arrays, attrs):
                return candidate
    for candidate in candidates:
        if candidate.fits(arrays, attrs) and (candidate.unasked is None or candidate.unasked(*arrays, **attrs)):
            return candidate
    known = ", ".join(_table.get(op, {})) or "none"
    raise NotImplementedError(f"{op} has no kernel for {_shown(arrays)} on {device}; implementations: {known}")


def _shown(arrays: tuple[Any, ...]) -> str:
    return ", ".join("None" if a is None else f"{a.dtype}{list(a.shape)}" for a in arrays)
