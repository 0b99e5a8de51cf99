"""Comparisons, logic, choice and limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..declare import method, primitive
from ..tensor import Tensor, as_tensor
from .elementwise import named, operands

__all__ = [
    "allclose", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "clamp", "clamp_max", "clamp_min", "clip",
    "eq", "equal", "ge", "gt", "isclose", "isfinite", "isinf", "isnan", "le", "logical_and", "logical_not",
    "logical_or", "logical_xor", "lt", "maximum", "minimum", "nan_to_num", "ne", "where",
]  # fmt: skip

# --- comparisons and logic: no derivatives


def _pairwise(name: str, forward: Any, doc: str, *operators: str) -> Callable[[Any, Any], Tensor]:
    op = primitive(name, forward)
    return named(name, doc, lambda input, other: op(*operands(input, other)), *operators)


def _each(name: str, forward: Any, doc: str, *operators: str) -> Callable[[Tensor], Tensor]:
    op = primitive(name, forward)
    return named(name, doc, lambda input: op(input), *operators)


eq = _pairwise("eq", np.equal, "``input == other``, elementwise.")
ne = _pairwise("ne", np.not_equal, "``input != other``, elementwise.")
lt = _pairwise("lt", np.less, "``input < other``.", "__lt__")
le = _pairwise("le", np.less_equal, "``input <= other``.", "__le__")
gt = _pairwise("gt", np.greater, "``input > other``.", "__gt__")
ge = _pairwise("ge", np.greater_equal, "``input >= other``.", "__ge__")

logical_and = _pairwise("logical_and", np.logical_and, "True where both are nonzero.")
logical_or = _pairwise("logical_or", np.logical_or, "True where at least one is nonzero.")
logical_xor = _pairwise("logical_xor", np.logical_xor, "True where exactly one is nonzero.")
logical_not = _each("logical_not", np.logical_not, "True where ``input`` is zero.")

bitwise_and = _pairwise("bitwise_and", np.bitwise_and, "``input & other`` of integers or bools.", "__and__", "__rand__")
bitwise_or = _pairwise("bitwise_or", np.bitwise_or, "``input | other`` of integers or bools.", "__or__", "__ror__")
bitwise_xor = _pairwise("bitwise_xor", np.bitwise_xor, "``input ^ other`` of integers or bools.", "__xor__", "__rxor__")
bitwise_not = _each("bitwise_not", np.invert, "``~input`` of integers or bools.", "__invert__")

isnan = _each("isnan", np.isnan, "Where ``input`` is not a number.")
isinf = _each("isinf", np.isinf, "Where ``input`` is infinite.")
isfinite = _each("isfinite", np.isfinite, "Where ``input`` is neither infinite nor NaN.")


def _is_numeric(x: Any) -> bool:
    return isinstance(x, (Tensor, int, float, complex, np.ndarray, np.generic)) or hasattr(x, "__dlpack__")


# What is not a number is unequal, as everywhere in Python: `x == None` must not raise.
method("__eq__")(lambda self, other: eq(self, other) if _is_numeric(other) else NotImplemented)
method("__ne__")(lambda self, other: ne(self, other) if _is_numeric(other) else NotImplemented)

_isclose = primitive("isclose", np.isclose)


@method()
def isclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Tensor:
    """Where ``|input - other| <= atol + rtol * |other|``."""
    return _isclose(*operands(input, other), rtol=rtol, atol=atol, equal_nan=equal_nan)


@method()
def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether ``isclose`` holds everywhere."""
    return bool(isclose(input, other, rtol, atol, equal_nan).array.all())


@method()
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and the same elements."""
    return input.shape == other.shape and bool(eq(input, other).array.all())


# --- choice

_where = primitive(
    "where",
    np.where,
    (
        lambda g, y, condition, a, b: None,
        lambda g, y, condition, a, b: where(condition, g, 0),
        lambda g, y, condition, a, b: where(condition, 0, g),
    ),
    save="condition",
    broadcasts=True,
)


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """``input`` where the bool tensor ``condition`` is True, ``other`` where it is not; all three broadcast.

    With the condition alone, a tuple of the indices where it is True, one tensor for each dimension.
    """
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if not isinstance(condition, Tensor):
        condition = as_tensor(condition, device=next(x.device for x in (input, other) if isinstance(x, Tensor)))
    if condition.dtype.kind != "b":
        raise TypeError(f"where: the condition must be a bool tensor, got {condition.dtype}; write x != 0")
    if not (isinstance(input, Tensor) or isinstance(other, Tensor)):
        input = as_tensor(input, device=condition.device)
    return _where(condition, *operands(input, other))


method("where")(lambda self, condition, other: where(condition, self, other))

# --- limits

_maximum = primitive(
    "maximum",
    np.maximum,
    (lambda g, y, a, b: _winner(g, a == b, a < b), lambda g, y, a, b: _winner(g, b == a, b < a)),
    save="a b",
    broadcasts=True,
)
_minimum = primitive(
    "minimum",
    np.minimum,
    (lambda g, y, a, b: _winner(g, a == b, a > b), lambda g, y, a, b: _winner(g, b == a, b > a)),
    save="a b",
    broadcasts=True,
)


def _winner(g: Tensor, ties: Tensor, loses: Tensor) -> Tensor:
    """The gradient goes to the operand that was taken; equal ones get half of it each."""
    return where(loses, 0, where(ties, g / 2, g))


@method()
def maximum(input: Any, other: Any) -> Tensor:
    """The larger of two, elementwise; NaN if either is."""
    return _maximum(*operands(input, other))


@method()
def minimum(input: Any, other: Any) -> Tensor:
    """The smaller of two, elementwise; NaN if either is."""
    return _minimum(*operands(input, other))


def _clamp_forward(x: Any, low: Any, high: Any) -> Any:
    if low is not None:
        x = np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _clamp_rule(g: Tensor, y: Any, x: Tensor, low: Any, high: Any) -> Tensor:
    if low is None or high is None:
        inside = x <= high if low is None else x >= low
    else:
        inside = (x >= low) & (x <= high)
    return where(inside, g, 0)


def _low_rule(g: Tensor, y: Any, x: Tensor, low: Tensor, high: Any) -> Tensor:
    return where(x < low if high is None else (x < low) & (low < high), g, 0)


def _high_rule(g: Tensor, y: Any, x: Tensor, low: Any, high: Tensor) -> Tensor:
    return where(x > high if low is None else (x > high) | (high < low), g, 0)


_clamp = primitive("clamp", _clamp_forward, (_clamp_rule, _low_rule, _high_rule), save="x low high", broadcasts=True)


@method("clamp", "clip")
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """``input`` limited to [min, max]; bounds are numbers or tensors, either may be None.

    The derivative is 1 on the bounds too. Where ``min > max`` the result is ``max``.
    """
    if min is None and max is None:
        raise ValueError("clamp: at least one of min and max must be given")
    if min is not None:
        input, min = operands(input, min)
    if max is not None:
        input, max = operands(input, max)
    return _clamp(input, min, max)


clip = clamp


@method()
def clamp_min(input: Tensor, min: Any) -> Tensor:
    """``clamp(input, min=min)``."""
    return clamp(input, min)


@method()
def clamp_max(input: Tensor, max: Any) -> Tensor:
    """``clamp(input, max=max)``."""
    return clamp(input, None, max)


_nan_to_num = primitive(
    "nan_to_num",
    lambda x, *, nan, posinf, neginf: np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf),
    (lambda g, y, x, *, nan, posinf, neginf: where(isfinite(x), g, 0),),
    save="x",
)


@method()
def nan_to_num(input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """Finite numbers instead of NaN and infinities; by default 0 and the largest and lowest of the dtype."""
    return _nan_to_num(input, nan=nan, posinf=posinf, neginf=neginf)
