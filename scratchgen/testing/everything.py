"""``op``: what a function is to be held against. ``check_all``: all of it at one point."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from .behaviour import check_nondeterminism, check_unchanged
from .comparisons import Backend, check_reference, check_torch
from .derivatives import check_dot, check_vjp
from .laws import Law, check_laws
from .report import Report, name_of, together


@dataclass(frozen=True)
class Tested:
    """What ``@op`` was told about a function."""

    function: Callable[..., Any]
    name: str
    reference: Callable[..., Any] | None = None
    torch: str | Callable[..., Any] | None = None
    cases: Any = None
    kinks: str = "avoid"
    laws: tuple[Law, ...] = ()
    order: int = 2


TESTED: dict[str, Tested] = {}  # by name


def op(
    *,
    ref: Callable[..., Any] | None = None,
    torch: str | Callable[..., Any] | None = None,
    cases: Any = None,
    kinks: str | None = None,
    laws: Sequence[Law] = (),
    order: int = 2,
    name: str | None = None,
) -> Callable[[Any], Any]:
    """Decorator: how to test a function of Tensors, or an op; the function itself stays as it is.

    ``ref``: the same on NumPy arrays, with the same arguments. ``torch``: the same in torch, as a path within it
    (``"nn.functional.conv2d"``) or a function of its tensors. ``cases``: a strategy of ``sgt.cases``. ``kinks``,
    ``order``: as ``check_vjp`` takes them. ``laws``: of ``sgt.laws``. All of it is optional.
    """

    def attach(function: Any) -> Any:
        label = name or name_of(function)
        TESTED[label] = Tested(function, label, ref, torch, cases, kinks or "avoid", tuple(laws), order)
        return function

    return attach


def tested(function: Any) -> Tested:
    """What ``@op`` was told about this function; bare defaults if it was not decorated."""
    found = next((t for t in TESTED.values() if t.function is function), None)
    return found or Tested(function, name_of(function))


def check_all(
    f: Callable[..., Any],
    case: Any,
    *,
    backend: Backend | None = None,
    k: int = 4,
    order: int | None = None,
    reference: Callable[..., Any] | None = None,
    torch: str | Callable[..., Any] | None = None,
    laws: Sequence[Law] | None = None,
    kinks: str | None = None,
    seed: int = 0,
    raises: bool = True,
) -> Report:
    """Every check that applies to ``f`` at ``case``.

    Derivatives to ``order`` and the dot test; inputs unchanged and layout without influence; same bits every time;
    and, where they are given here or by ``@op``, a reference, torch (where it is installed) and laws.
    """
    told = tested(f)
    reference = reference or told.reference
    torch = torch or told.torch
    laws = told.laws if laws is None else laws
    kinks = kinks or told.kinks
    order = told.order if order is None else order
    common: dict[str, Any] = {"name": told.name, "raises": False}
    here = common | {"device": backend.device if backend else "cpu"}
    with backend.use() if backend else nullcontext():
        parts = [
            check_vjp(f, case, k=k, order=order, kinks=kinks, seed=seed, **here),
            check_unchanged(f, case, **here),
            check_nondeterminism(f, case, runs=2, threads=(), **here),
        ]
        if kinks != "subgradient":
            parts.append(check_dot(f, case, k=min(k, 3), seed=seed, **here))
        if reference is not None:
            parts.append(check_reference(f, case, reference, **here))
        if torch is not None and importlib.util.find_spec("torch"):
            parts.append(check_torch(f, case, torch, order=min(order, 2), **common))
        if laws:
            parts.append(check_laws(f, case, laws, **here))
    report = together("all", told.name, parts)
    return report.demand() if raises else report
