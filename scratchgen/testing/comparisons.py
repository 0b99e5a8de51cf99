"""The same function computed in another way: by a NumPy reference, by torch, by other implementations of its kernels.

How far two ways may differ is not guessed: inputs are moved by a unit in the last place of the number type under test,
and what that does to the exact result is what rounding may do, some units of the result aside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import kernels
from .judge import NOISE
from .report import Evidence, Report, Verdict, together
from .subject import Arrays, Subject, nudged

ULPS = 16  # units in the last place of the largest number, for what rounds within an op
TORCH_ULPS = 4 * ULPS  # torch has its own rounding


@dataclass(frozen=True, repr=False)
class Backend:
    """A way to run ops: on a device, with implementations of kernels chosen by name.

    ``looseness``: how many times the usual error its kernels declare for themselves.
    """

    name: str
    device: str = "cpu"
    kernels: dict[str, str] = field(default_factory=dict)
    looseness: float = 1.0

    def __repr__(self) -> str:
        return f"<backend {self.name}>"

    def use(self) -> AbstractContextManager[None]:
        """A context in which kernels are chosen so."""
        return kernels.use(**self.kernels)


def backends(op: str | None = None, devices: Sequence[str] = ("cpu",)) -> list[Backend]:
    """All implementations of ``op``, the reference first; its vjp is by the same name where it has such a kernel.

    Every other op is by its reference meanwhile. Without ``op``: every op by its reference, and every op by the kernel
    that would run.
    """
    references = {name: "reference" for name in kernels.ops() if "reference" in kernels.implementations(name, "any")}
    if op is None:
        return [Backend("reference", kernels=references), *(Backend(device, device) for device in devices)]
    found = []
    family = [name for name in (op, op + "_vjp") if kernels.has(name)]
    if not family:
        raise KeyError(f"no kernel named {op!r}; known: {', '.join(kernels.ops())}")
    for device in devices:
        table = {name: kernels.implementations(name, device) for name in family}
        for impl in dict.fromkeys(impl for name in family for impl in table[name]):
            chosen = references | {name: impl for name in family if impl in table[name]}
            loose = max(table[name][impl].looseness for name in family if impl in table[name])
            found.append(Backend(impl if device == "cpu" else f"{device}:{impl}", device, chosen, loose))
    return sorted(found, key=lambda backend: backend.name != "reference")


def check_backends(
    f: Callable[..., Any],
    xs: Any,
    backends: Sequence[Backend],
    *,
    mode: str = "ulp",
    dtype: str = "float32",
    ulps: float = ULPS,
    seed: int = 0,
    name: str | None = None,
    raises: bool = True,
) -> Report:
    """Compare values and gradients of ``f`` under each backend with those of the references in float64.

    ``mode="exact"``: inputs and cotangents are rounded to small integers, for functions that then make integers
    only: sums in any order are exact, and every backend must give the same bits, those apart that declare a
    ``looseness``. A backend that does not take the inputs is left out; if none does, the verdict is inconclusive.
    """
    if mode not in ("ulp", "exact"):
        raise ValueError(f"unknown mode={mode!r}; expected ulp or exact")
    rounded = Subject(f, xs, name=name, dtype=dtype)
    if mode == "exact":
        rounded = rounded.moved([np.asarray(np.rint(4 * x)).clip(-8, 8) for x in rounded.variables])
    exact = _references()
    rng = np.random.default_rng(seed)
    with exact.use():
        truth = Subject(rounded.function, rounded.case(), name=rounded.name)
        ys = truth.outputs()
    draw = (lambda shape: rng.integers(-3, 4, shape).astype(float)) if mode == "exact" else rng.standard_normal
    us = [np.asarray(draw(y.shape)).astype(dtype).astype(float) for y in ys]
    allowed = ulps if mode == "ulp" else 0.0
    with exact.use():
        expected, moves = derivatives(truth, us), spread(truth, us, dtype)
    if mode == "exact":
        moves = [0.0] * len(moves)
    parts = []
    for backend in backends:
        if mode == "exact" and backend.looseness > 1:
            continue
        subject = Subject(f, rounded.case(), name=rounded.name, dtype=dtype, device=backend.device)
        try:
            with backend.use():
                found = derivatives(subject, [u.astype(dtype) for u in us])
        except ValueError as error:
            if "asked for by name" in str(error):
                continue
            raise
        unit = backend.looseness * allowed * float(np.finfo(dtype).eps)
        parts.append(compared(f"backend {backend.name}", subject, found, expected, moves, unit, backend.looseness))
    if not parts:
        return Report("backends", rounded.name, Verdict.INCONCLUSIVE, message="no backend takes these inputs")
    report = together("backends", rounded.name, parts)
    return report.demand() if raises else report


def check_reference(
    f: Callable[..., Any],
    xs: Any,
    reference: Callable[..., Any],
    *,
    dtype: str = "float64",
    ulps: float = ULPS,
    device: Any = "cpu",
    name: str | None = None,
    raises: bool = True,
) -> Report:
    """Compare the values of ``f`` in ``dtype`` with those of ``reference``, a function of arrays, in long doubles.

    Where the reference does not take long doubles it is asked in float64.
    """
    subject = Subject(f, xs, name=name, dtype=dtype, device=device)
    truth = Subject(f, subject.case(), name=subject.name, reference=reference)
    finest: Any = np.longdouble
    try:
        with np.errstate(all="ignore"):
            expected = truth.values([x.astype(finest) for x in truth.variables])
    except TypeError:
        finest = np.float64
        expected = truth.values(truth.variables)
    rng = np.random.default_rng(3)
    eps = float(np.finfo(dtype).eps)
    with np.errstate(all="ignore"):
        moved = [truth.values([nudged(x.astype(finest), eps, rng) for x in truth.variables]) for _ in range(2)]
    moves = [max(_distance(m[i], y) for m in moved) for i, y in enumerate(expected)]
    report = compared("reference", subject, subject.outputs(), expected, moves, ulps * eps)
    return report.demand() if raises else report


def check_torch(
    f: Callable[..., Any],
    xs: Any,
    torch: str | Callable[..., Any],
    *,
    order: int = 1,
    ulps: float = TORCH_ULPS,
    seed: int = 0,
    name: str | None = None,
    raises: bool = True,
) -> Report:
    """Compare values and derivatives of ``f`` in float64, to ``order``, with torch's.

    ``torch``: a function of torch's tensors, or its path within torch: ``"nn.functional.conv2d"``. Torch is given
    what ``f`` is given, attributes by their names. Derivatives that torch itself refuses are not compared.
    """
    import torch as library

    function: Any = torch
    if isinstance(torch, str):
        function = library
        for part in torch.split("."):
            function = getattr(function, part)
    subject = Subject(f, xs, name=name)
    rng = np.random.default_rng(seed)
    us = [np.asarray(rng.standard_normal(y.shape)) for y in subject.outputs()]
    expected = _torch_derivatives(library, function, subject, us, order)
    has = len(expected)  # arrays that torch could give
    found, moves = derivatives(subject, us, order)[:has], spread(subject, us, "float64", order)[:has]
    report = compared("torch", subject, found, expected, moves, ulps * float(np.finfo(float).eps))
    return report.demand() if raises else report


def _torch_derivatives(library: Any, function: Any, subject: Subject, us: Arrays, order: int) -> Arrays:
    ts = [library.from_numpy(np.array(a)) if isinstance(a, np.ndarray) else a for a in subject.arrays]
    variables = [t.requires_grad_() for t, v in zip(ts, subject.variable) if v]
    made = function(*ts, **subject.attrs)
    ys = [y for y in (made if isinstance(made, (tuple, list)) else (made,)) if y.dtype.is_floating_point]
    found = [y.detach().numpy() for y in ys]
    for level in range(1, order + 1):
        live = [(y, library.from_numpy(u)) for y, u in zip(ys, us) if y.requires_grad]
        found_gradients: tuple = (None,) * len(variables)
        if live and variables:
            outputs, cotangents = zip(*live)
            try:
                found_gradients = library.autograd.grad(
                    outputs, variables, cotangents, create_graph=level < order, allow_unused=True
                )
            except RuntimeError:  # it has no such derivative, or stumbles over its own: what it has is compared
                return found
        ys = [library.zeros_like(x) if g is None else g for g, x in zip(found_gradients, variables)]
        found += [y.detach().numpy() for y in ys]
        us = _cotangents([y.shape for y in ys])
    return found


def derivatives(subject: Subject, us: Arrays, order: int = 1) -> Arrays:
    """Values, J'u, and to second order the gradient of <w, J'u> in the variables, for fixed random w."""
    found = [*subject.outputs(), *(subject.gradients(us) if order else [])]
    if order > 1:
        ws = _cotangents([x.shape for x in subject.variables])
        found += subject.derivative(us).gradients(ws)[: len(subject.variables)]
    return found


def _cotangents(shapes: Sequence[Any]) -> Arrays:
    rng = np.random.default_rng(11)
    return [np.asarray(rng.standard_normal(tuple(shape))) for shape in shapes]


def spread(subject: Subject, us: Arrays, dtype: str, order: int = 1) -> list[float]:
    """How far each array of ``_derivatives`` moves when inputs and cotangents move by a unit in their last place."""
    rng = np.random.default_rng(3)
    eps = float(np.finfo(dtype).eps)
    here = derivatives(subject, us, order)
    worst = [0.0] * len(here)
    for _ in range(2):
        moved = subject.moved([nudged(x, eps, rng) for x in subject.variables])
        there = derivatives(moved, [nudged(u, eps, rng) for u in us], order)
        worst = [max(w, _distance(a, b)) for w, a, b in zip(worst, there, here)]
    return worst


def spread_of_values(subject: Subject) -> list[float]:
    """How far each output moves when the inputs move by a unit in their last place."""
    return spread(subject, [], "float64", 0)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two arrays; equal infinities and NaNs do not differ, others differ without bound."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        largest = float(np.max(np.where(same, 0, np.abs(np.asarray(a, np.longdouble) - b)), initial=0.0))
    return largest if np.isfinite(largest) else np.inf


def compared(
    check: str, subject: Subject, found: Arrays, expected: Arrays, moves: list[float], unit: float, loose: float = 1.0
) -> Report:
    """The verdict on arrays that should be the same; ``unit``: what is allowed, relative to the largest number."""

    def told(verdict: Verdict, message: str = "", worst: float = 0.0, bar: float = 0.0) -> Report:
        evidence = Evidence(subject) if verdict is Verdict.FAIL else None
        return Report(
            check, subject.name, verdict, worst, bar, subject.case_id, message, "comparison", evidence=evidence
        )

    shapes = [[a.shape for a in arrays] for arrays in (found, expected)]
    if shapes[0] != shapes[1]:
        return told(Verdict.FAIL, f"shapes are {shapes[0]}, expected {shapes[1]}", np.inf)
    worst = bar = 0.0
    failure = ""
    sizes = [float(np.max(np.abs(b[np.isfinite(b)]), initial=0.0)) for b in expected]
    least = 1e-3 * max(sizes, default=0.0) or 1.0  # an array of nothing but rounding is seen beside the others
    for i, (a, b, move, size) in enumerate(zip(found, expected, moves, sizes)):
        error, size = _distance(a, b), max(size, least)
        allowed = unit * size + NOISE * loose * (move if np.isfinite(move) else 0.0)
        worst, bar = max(worst, error / size), max(bar, allowed / size)
        if not error <= allowed and not failure:
            at = np.unravel_index(np.argmax(np.nan_to_num(np.abs(a - b), nan=np.inf)), a.shape)
            what = "value" if i < len(subject.outputs()) else "gradient"
            failure = f"{what} {i} is {a[at]!r} at {tuple(map(int, at))}, expected {b[at]!r} +- {allowed:.1e}"
    return told(Verdict.FAIL if failure else Verdict.PASS, failure, worst, bar)


def _references() -> Backend:
    return backends()[0]
