"""Laws: what must hold between several calls of a function, whatever its formula is.

A law compares two ways to the same numbers, as far apart as rounding puts them, which is measured. It finds what a
derivative cannot: a wrong value whose derivative is consistently wrong with it.

``check_laws(F.softmax, case, [laws.shift(0, along="dim"), laws.batch_splitting([0])])``
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .comparisons import ULPS, compared, spread_of_values
from .report import Report, Verdict, together
from .subject import Arrays, Subject

Call = Callable[[Sequence[Any]], Arrays]


class Law(NamedTuple):
    """``sides(call, inputs, attrs, rng)`` gives the arrays of both sides; ``call(inputs)`` runs the function."""

    name: str
    sides: Callable[[Call, list[Any], dict[str, Any], np.random.Generator], tuple[Arrays, Arrays]]


def check_laws(
    f: Callable[..., Any],
    xs: Any,
    laws: Sequence[Law],
    *,
    seed: int = 0,
    device: Any = "cpu",
    name: str | None = None,
    raises: bool = True,
) -> Report:
    """Hold ``f`` against each law at ``xs`` in float64."""
    subject = Subject(f, xs, name=name, device=device)
    spread = max(spread_of_values(subject), default=0.0)
    rng = np.random.default_rng(seed)

    def call(inputs: Sequence[Any]) -> Arrays:
        case = subject.case()._replace(arrays=tuple(inputs))
        return Subject(f, case, name=subject.name, device=device).outputs()

    parts = []
    for law in laws:
        left, right = law.sides(call, list(subject.arrays), subject.attrs, rng)
        unit = 4 * ULPS * float(np.finfo(float).eps)
        parts.append(compared(f"law of {law.name}", subject, left, right, [4 * spread] * len(right), unit))
    report = together("laws", subject.name, parts) if parts else Report("laws", subject.name, Verdict.PASS)
    return report.demand() if raises else report


def linearity(i: int = 0) -> Law:
    """f(a x + b y) = a f(x) + b f(y) in input ``i``: convolutions, products, pooling by means, resizing, indexing."""

    def sides(call: Call, inputs: list[Any], attrs: dict[str, Any], rng: np.random.Generator) -> tuple[Arrays, Arrays]:
        x, y = inputs[i], rng.standard_normal(inputs[i].shape)
        a, b = rng.standard_normal(2)
        fx, fy = call(_with(inputs, i, x)), call(_with(inputs, i, y))
        return call(_with(inputs, i, np.asarray(a * x + b * y))), [np.asarray(a * p + b * q) for p, q in zip(fx, fy)]

    return Law(f"linearity in input {i}", sides)


def homogeneity(i: int = 0, degree: int = 1) -> Law:
    """f(2 x) = 2^degree f(x): ReLU and max-pooling are of degree 1, a norm's direction of degree 0."""

    def sides(call: Call, inputs: list[Any], attrs: dict[str, Any], rng: np.random.Generator) -> tuple[Arrays, Arrays]:
        return call(_with(inputs, i, 2 * inputs[i])), [2.0**degree * y for y in call(inputs)]

    return Law(f"homogeneity in input {i}", sides)


def shift(i: int = 0, along: str | int = "dim") -> Law:
    """f(x + c) = f(x) for numbers c that are constant along a dimension, or along that in an attribute: softmax."""

    def sides(call: Call, inputs: list[Any], attrs: dict[str, Any], rng: np.random.Generator) -> tuple[Arrays, Arrays]:
        dim = attrs[along] if isinstance(along, str) else along
        c = rng.standard_normal(inputs[i].shape).take([0], dim)
        return call(_with(inputs, i, inputs[i] + c)), call(inputs)

    return Law(f"shift invariance in input {i}", sides)


def permutation(places: Sequence[tuple[int, int]], outputs: Sequence[tuple[int, int]] = ()) -> Law:
    """Permuting inputs together, as (input, dim) pairs, permutes ``outputs`` likewise, or changes nothing.

    Attention: ``permutation([(1, -2), (2, -2)])`` over keys; ``permutation([(0, -2)], [(0, -2)])`` over queries.
    """

    def sides(call: Call, inputs: list[Any], attrs: dict[str, Any], rng: np.random.Generator) -> tuple[Arrays, Arrays]:
        order = rng.permutation(inputs[places[0][0]].shape[places[0][1]])
        moved = list(inputs)
        for i, dim in places:
            moved[i] = moved[i].take(order, dim)
        right = call(inputs)
        for i, dim in outputs:
            right[i] = right[i].take(order, dim)
        return call(moved), right

    return Law(f"permutation of {', '.join(f'input {i} along {dim}' for i, dim in places)}", sides)


def batch_splitting(batched: Sequence[int] = (0,), dim: int = 0) -> Law:
    """Calls on two parts of a batch, put together, are one call on the whole; all outputs have the batch first."""

    def sides(call: Call, inputs: list[Any], attrs: dict[str, Any], rng: np.random.Generator) -> tuple[Arrays, Arrays]:
        size = inputs[batched[0]].shape[dim]
        cut = int(rng.integers(1, size)) if size > 1 else size
        parts = []
        for piece in (slice(0, cut), slice(cut, size)) if cut < size else (slice(0, size),):
            index = (slice(None),) * dim + (piece,)
            parts.append(call([x[index] if k in batched else x for k, x in enumerate(inputs)]))
        return [np.concatenate(ys, dim) for ys in zip(*parts)], call(inputs)

    return Law("batch splitting", sides)


def translation(i: int = 0, by: int = 1, stride: int = 1) -> Law:
    """Moving an image by ``by`` strides moves the output by ``by``: convolution, pooling.

    The last dimension gets a border of zeros of that width first, and the comparison leaves out what the border of the
    output saw.
    """

    def sides(call: Call, inputs: list[Any], attrs: dict[str, Any], rng: np.random.Generator) -> tuple[Arrays, Arrays]:
        x = inputs[i]
        border = np.zeros((*x.shape[:-1], by * stride))
        late, early = (np.concatenate(parts, -1) for parts in ((border, x, border), (x, border, border)))
        left, right = call(_with(inputs, i, late)), call(_with(inputs, i, early))
        reach = max(1, right[0].shape[-1] - 2 * by)
        return [y[..., by : by + reach] for y in left], [y[..., :reach] for y in right]

    return Law("translation", sides)


def adjoint(other: Callable[..., Any], i: int = 0) -> Law:
    """<u, f(x)> = <g(u), x> for f linear in input ``i``; g, its adjoint, is ``other``, called with u in x's place."""

    def sides(call: Call, inputs: list[Any], attrs: dict[str, Any], rng: np.random.Generator) -> tuple[Arrays, Arrays]:
        (y,) = call(inputs)
        u = np.asarray(rng.standard_normal(y.shape))
        (back,) = Subject(other, _with(inputs, i, u)).outputs()
        return [np.asarray(np.vdot(u, y))], [np.asarray(np.vdot(back, inputs[i]))]

    return Law("adjoint pair", sides)


def inverse(other: Callable[..., Any]) -> Law:
    """g(f(x)) = x for ``other`` = g, which takes all outputs of f and gives its variables back."""

    def sides(call: Call, inputs: list[Any], attrs: dict[str, Any], rng: np.random.Generator) -> tuple[Arrays, Arrays]:
        back = Subject(other, call(inputs)).outputs()
        return back, [x for x in inputs if isinstance(x, np.ndarray) and x.dtype.kind == "f"][: len(back)]

    return Law("inverse", sides)


def log_determinant(f: Callable[..., Any], batch: int = 1) -> Law:
    """For f(x) -> (y, log |det dy/dx|): the second output is that of the Jacobian of the first.

    The Jacobian is taken by the engine, one row for each output; the first ``batch`` dimensions are not mixed.
    """

    def sides(call: Call, inputs: list[Any], attrs: dict[str, Any], rng: np.random.Generator) -> tuple[Arrays, Arrays]:
        subject = Subject(lambda *xs: f(*xs, **attrs)[0], inputs)
        y, logdet = call(inputs)
        points = int(np.prod(y.shape[:batch]))
        jacobian = np.zeros((points, y.size // points, y.size // points))
        for row in range(jacobian.shape[1]):
            u = np.zeros((points, y.size // points))
            u[:, row] = 1
            jacobian[:, row] = subject.gradients([u.reshape(y.shape)])[0].reshape(points, -1)
        return [logdet.reshape(-1)], [np.linalg.slogdet(jacobian)[1]]

    return Law("log-determinant", sides)


def _with(inputs: Sequence[Any], i: int, x: np.ndarray) -> list[Any]:
    return [x if k == i else given for k, given in enumerate(inputs)]
