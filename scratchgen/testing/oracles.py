"""Oracles: Jacobian times vector, with an error bar, without the engine's derivatives.

- ``longdouble``: extrapolated central differences of the function in 80-bit numbers. Good to some 1e-15.
- ``complex``: the imaginary part of f(x + ihv), for functions that are analytic as they are written. Exact to
  rounding: nothing is subtracted. W. Squire, G. Trapp, SIAM Review 40 (1998) 110-112.
- ``richardson``: extrapolated central differences in float64. Good to some 1e-11, and works for everything.

None is believed blindly. The first two must give the function's own values, and the complex step the derivative that
a plain difference gives; where they do not, or where the function refuses such numbers, the next one is asked.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from .differences import Estimate, directional_derivative
from .subject import Arrays, Subject, nudged

METHODS = ("longdouble", "complex", "richardson")
DTYPES = {"longdouble": np.longdouble, "complex": np.complex128, "richardson": np.float64}
EPS = 2.0**-53  # of float64, in which the derivative under test is
SAME = 1e-10  # how well an oracle's values must agree with the function's
TINY = 1e-150  # the complex step


class Oracle:
    """J v of one subject, projected on given cotangents.

    ``method``: one of METHODS, or ``auto`` for the most accurate one that the function takes.
    """

    def __init__(self, subject: Subject, cotangents: Sequence[Arrays], method: str = "auto", step: float = 0.02):
        if method not in (*METHODS, "auto"):
            raise ValueError(f"unknown method {method!r}; expected one of {', '.join((*METHODS, 'auto'))}")
        self.subject = subject
        self.step = step
        self._us = np.stack([flat(u) for u in cotangents]).astype(np.longdouble)
        self._y = subject.outputs()
        candidates = METHODS if method == "auto" else (method,)
        self.methods = [m for m in candidates if self._available(m)]
        if not self.methods:
            raise TypeError(f"{subject.name}: the function does not take the numbers of the {method} oracle")

    @property
    def method(self) -> str:
        """The one that is asked first."""
        return self.methods[0]

    def _available(self, method: str) -> bool:
        dtype = DTYPES[method]
        if method == "richardson":
            return True
        if method == "longdouble" and np.finfo(np.longdouble).eps > 1e-17:  # it is float64 by another name
            return False
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                ys = self.subject.values([x.astype(dtype) for x in self.subject.variables])
        except Exception:  # whatever a function says to numbers it was not written for
            return False
        return len(ys) == len(self._y) and all(
            a.dtype == dtype and a.shape == b.shape and _same(a.real, b) for a, b in zip(ys, self._y)
        )

    def project(self, ys: Arrays) -> np.ndarray:
        """<u, y> for every cotangent, summed in long doubles."""
        return self._us @ flat(ys)

    def along(self, direction: Arrays, method: str) -> Callable[[Any], np.ndarray]:
        """The projections of f(x + t v) as a function of the number t."""
        dtype: Any = DTYPES[method]
        xs = [x.astype(dtype, order="K") for x in self.subject.variables]
        vs = [v.astype(dtype) for v in direction]
        return lambda t: self.project(self.subject.values([np.asarray(x + dtype(t) * v) for x, v in zip(xs, vs)]))

    def derivative(
        self, direction: Arrays, goal: float = 0.0, method: str | None = None, step: float | None = None
    ) -> Estimate:
        """<u, J v> for every cotangent, and one bound on all their errors."""
        method, step = method or self.method, step or self.step
        along = self.along(direction, method)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
            if method == "complex":
                return self._complex(along, direction)
            noise = self.noise if method == "richardson" else 0.0
            found = directional_derivative(along, step, goal, noise)
            if not found.error < np.inf:  # the function's domain ends nearby
                found = directional_derivative(along, step / 1000, goal, noise)
        return found

    def by_element(self) -> Estimate:
        """J'u of the first cotangent: one array for each variable, by differences along each of their elements."""
        xs = self.subject.variables
        value, worst = [np.zeros(x.shape) for x in xs], 0.0
        for i, x in enumerate(xs):
            for at in np.ndindex(x.shape):
                unit = [np.zeros(v.shape) for v in xs]
                unit[i][at] = 1.0
                found = self.derivative(unit)
                value[i][at] = np.ravel(found.value)[0]
                worst = max(worst, found.error)
        return Estimate(value, worst)

    def _complex(self, along: Callable[[Any], np.ndarray], direction: Arrays) -> Estimate:
        value = along(TINY * 1j).imag / TINY
        plain = self.derivative(direction, method="richardson")
        if not np.max(np.abs(value - plain.value), initial=0.0) <= 3 * plain.error:
            return plain  # not analytic: a conjugate, an absolute value or a branch is in the way
        size = float(np.max(np.abs(self._us) @ np.abs(flat(self._y)), initial=0.0))
        return Estimate(value, 16 * EPS * (size + float(np.max(np.abs(value), initial=0.0))))

    @cached_property
    def noise(self) -> float:
        """How far a projection of the function moves when its inputs move by a unit in the last place."""
        rng = np.random.default_rng(5)
        xs = self.subject.variables
        here = self.project(self.subject.values(xs))
        moved = [self.project(self.subject.values([nudged(x, 2 * EPS, rng) for x in xs])) for _ in range(2)]
        spread = max(float(np.max(np.abs(m - here), initial=0.0)) for m in moved)
        return spread + EPS * float(np.max(np.abs(here), initial=0.0))


def numeric_vjp(
    f: Callable[..., Any],
    xs: Any,
    u: Any = None,
    *,
    method: str = "auto",
    reference: Callable[..., Any] | None = None,
    step: float = 0.02,
) -> Estimate:
    """The gradient of <u, f(x)> by differences along each element: ``value`` (one array a variable), ``error``.

    ``u`` is one array, or one for each floating output; by default it is all ones. Costs a dozen evaluations for each
    element of each variable.
    """
    subject = Subject(f, xs, reference=reference)
    given = [np.ones(y.shape) for y in subject.outputs()] if u is None else u
    us = [np.asarray(a, np.float64) for a in (given if isinstance(given, (tuple, list)) else (given,))]
    return Oracle(subject, [us], method, step).by_element()


def orthonormal(count: int, shapes: Sequence[tuple[int, ...]], rng: np.random.Generator) -> list[Arrays]:
    """Up to ``count`` random vectors of the given parts, of length 1 and at right angles."""
    size = sum(int(np.prod(shape)) for shape in shapes)
    if size == 0:
        return []
    q = np.linalg.qr(rng.standard_normal((size, min(count, size))))[0]
    return [split(column, shapes) for column in q.T]


def split(vector: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> Arrays:
    """A flat vector as arrays of the given shapes, one after another."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return [np.ascontiguousarray(part).reshape(shape) for part, shape in zip(np.split(vector, ends), shapes)]


def flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """All elements of all arrays in a row."""
    return np.concatenate([a.reshape(-1) for a in arrays]) if arrays else np.zeros(0)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether values agree as well as float64 lets them, relative to the largest."""
    finite = np.abs(b[np.isfinite(b)])
    difference = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.abs(a - b))
    return bool(np.max(difference, initial=0.0) <= SAME * np.max(finite, initial=1e-300))
