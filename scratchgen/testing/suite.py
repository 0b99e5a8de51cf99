"""What a run over the op table is made of, and how much of it each profile asks for.

Kinds of part: the derivatives of a row of the catalogue; random cases of a function; the implementations of a kernel
against its specification; derivatives by each implementation; random programs against torch. A part has a name, and
running it gives a Report.
"""

from __future__ import annotations

import difflib
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

import scratchgen

from .. import kernels
from ..debug import Observer
from ..declare import OPS
from ..tensor import as_tensor
from .comparisons import TORCH_ULPS, Backend, check_torch
from .derivatives import check_dot, check_vjp
from .everything import TESTED
from .implementations import alternatives, check_implementation, check_kernel
from .report import Report, Verdict, together


class Profile(NamedTuple):
    """How thorough a run is.

    ``directions``: projections of each derivative. ``random``: cases of each function that has a strategy.
    ``dtypes``: in which kernels are compared. ``programs``: how many. ``torch``: whether rows are also held to torch.
    ``implementations``: whether each is differentiated twice.
    """

    name: str
    directions: int
    random: int
    dtypes: tuple[str, ...]
    programs: int
    torch: bool
    implementations: bool


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("quick", 2, 3, ("float32",), 100, False, False),
        Profile("ci", 6, 25, ("float32", "float64"), 1000, True, True),
        Profile("nightly", 8, 300, ("float32", "float64"), 20000, True, True),
    )
}
KINDS = ("derivatives", "random", "kernels", "implementations", "programs")
BACKENDS = ("cpu", "reference", "emu", "cuda")


class Part(NamedTuple):
    """One thing to run. ``kind``: one of KINDS."""

    kind: str
    name: str
    run: Callable[[], Report]


class UnknownOp(ValueError):
    """A name that is no op; the message has those that come close."""


def parts(
    profile: Profile, names: Sequence[str] = (), *, seed: int = 0, backend: str = "cpu", kinds: Sequence[str] = KINDS
) -> Iterator[Part]:
    """All parts of a run, or those that concern the named ops. Raises UnknownOp.

    ``backend``: a device, or ``reference`` for the specifications of all kernels on the CPU; it is for derivatives and
    random cases. Ops that ``@sgt.op`` was told cases of take part under their names.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; expected one of {', '.join(BACKENDS)}")
    for name in names:
        if name not in known():
            raise UnknownOp(_unknown(name))
    wanted = set(names)
    chosen = backend_of(backend)
    if "derivatives" in kinds:
        yield from _derivatives(profile, wanted, seed, chosen)
    if "random" in kinds:
        yield from _random(profile, wanted, seed, chosen)
    if "kernels" in kinds and backend == "cpu":
        yield from _kernels(profile, wanted, seed)
    if "implementations" in kinds and backend == "cpu" and profile.implementations:
        yield from _implementations(wanted)
    if "programs" in kinds and not wanted and importlib.util.find_spec("torch"):
        yield Part("programs", f"{profile.programs} programs", partial(_programs, profile.programs, seed))


@cache
def _ops_of(name: str) -> frozenset[str]:
    """The ops that a row of the catalogue goes through."""
    from .catalogue import CASES, Library

    with _Names() as seen:
        case = CASES[name]
        case.function(Library(scratchgen), *[as_tensor(a) for a in case.arrays()])
    return frozenset(seen.names)


class _Names(Observer):
    def __init__(self) -> None:
        self.names: set[str] = set()

    def on_forward(self, op: Any, inputs: tuple, output: Any, node: Any) -> None:
        self.names.add(op.name)


def first_word(name: str) -> str:
    """The function that a row of the catalogue is about, by which it can be asked for."""
    return name.replace(":", " ").replace(",", " ").split()[0]


def known() -> set[str]:
    """All names that can be asked for: ops, kernels, functions of the catalogue and of the families, ``@sgt.op``'s."""
    from .catalogue import CASES

    names = {first_word(row) for row in CASES} | {name for name in OPS if name[:5] != "test_"}
    return names | set(kernels.comparable()) | {member.name for member in _members()} | set(TESTED)


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, sorted(known()), n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    return f"no op is called {name!r}{hint} `python -m scratchgen.testing list` shows them all"


def backend_of(name: str) -> Backend:
    """The backend of that name."""
    if name == "reference":
        references = {op: "reference" for op in kernels.ops() if "reference" in kernels.implementations(op)}
        return Backend(name, kernels=references)
    return Backend(name, name)


# ------------------------------------------------------------------------------------------------ the kinds of part


def _derivatives(profile: Profile, wanted: set[str], seed: int, backend: Backend) -> Iterator[Part]:
    from .catalogue import CASES

    for name, case in CASES.items():
        if case.order and (not wanted or first_word(name) in wanted or wanted & _ops_of(name)):
            yield Part("derivatives", name, partial(check_row, name, profile, seed, backend))


def check_row(name: str, profile: Profile, seed: int = 0, backend: Backend | None = None) -> Report:
    """Every derivative of a row of the catalogue, the dot test, and torch where it has the function."""
    from .catalogue import CASES, Library

    case = CASES[name]
    function, arrays = partial(case.function, Library(scratchgen)), case.arrays()
    how: dict[str, Any] = {"seed": seed, "name": name, "raises": False}
    device = backend.device if backend else "cpu"
    with backend.use() if backend else nullcontext():
        found = [check_vjp(function, arrays, k=profile.directions, order=case.order, device=device, **how)]
        if profile.directions > 2:
            found.append(check_dot(function, arrays, k=2, device=device, **how))
        if profile.torch and not case.unlike_torch and device == "cpu" and importlib.util.find_spec("torch"):
            import torch

            there = partial(case.function, Library(torch))
            ulps = max(TORCH_ULPS, case.torch_error / float(np.finfo(float).eps))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's advice on its own reductions and defaults
                found.append(check_torch(function, arrays, there, ulps=ulps, **how))
    return together("derivatives", name, found)


def _members() -> list[Any]:
    """The functions with strategies; none without hypothesis."""
    if not importlib.util.find_spec("hypothesis"):
        return []
    from .families import FAMILIES

    return [member for members in FAMILIES.values() for member in members]


def _random(profile: Profile, wanted: set[str], seed: int, backend: Backend) -> Iterator[Part]:
    own = [(t.name, t.function, t.cases) for t in TESTED.values() if t.cases is not None]
    for name, function, cases in [*own, *_members()]:
        if not wanted or name in wanted:
            yield Part("random", name, partial(_check_random, function, cases, profile, seed, backend))


def _check_random(function: Any, cases: Any, profile: Profile, seed: int, backend: Backend) -> Report:
    from .random_cases import check

    return check(
        function, cases, examples=profile.random, seed=seed, backend=[backend], k=profile.directions, raises=False
    )


def _kernels(profile: Profile, wanted: set[str], seed: int) -> Iterator[Part]:
    for op in kernels.comparable():
        if not wanted or {op, op.removesuffix("_vjp")} & wanted:
            for dtype in profile.dtypes:
                yield Part("kernels", f"{op} {dtype}", partial(check_kernel, op, dtype, seed))


def _implementations(wanted: set[str]) -> Iterator[Part]:
    for op, impl in alternatives():
        if not wanted or op in wanted:
            yield Part("implementations", f"{op}/{impl}", partial(check_implementation, op, impl))


def _programs(count: int, seed: int) -> Report:
    from .fuzz import Outcome, fuzz

    refused, worst = 0, 0.0
    for found in fuzz(count, seed=seed, until_different=True):
        if found.outcome is Outcome.DIFFERENT:
            return Report("torch", "programs", Verdict.FAIL, found.error, case_id=found.case_id, message=str(found))
        refused += found.outcome is Outcome.REFUSED
        worst = max(worst, found.error)
    return Report("torch", "programs", Verdict.PASS, worst, message=f"{refused} refused: a saved value was changed")
