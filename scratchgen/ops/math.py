"""Functions of one argument and their derivatives: a table of calculus."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..declare import method, primitive
from ..tensor import Tensor
from .elementwise import flat, floating, named, operands, quiet

__all__ = [
    "abs", "absolute", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "cos", "cosh", "digamma",
    "erf", "erfc", "erfinv", "exp", "exp2", "expm1", "floor", "frac", "lgamma", "log", "log10", "log1p", "log2",
    "logaddexp", "logit", "polygamma", "reciprocal", "round", "rsqrt", "sign", "sin", "sinh", "sqrt",
    "tan", "trunc",
]  # fmt: skip


def _smooth(name: str, forward: Any, rule: Any, save: str, doc: str) -> Callable[[Tensor], Tensor]:
    """A function of floating-point numbers: integers become floats. Poles give inf or nan without a warning."""
    op = primitive(name, quiet(forward), (rule,), save)
    return named(name, doc, lambda input: op(floating(input)))


def _stepped(name: str, forward: Any, rule: Any, save: str, doc: str) -> Callable[[Tensor], Tensor]:
    """A function that keeps integers as they are."""
    op = primitive(name, forward, (rule,), save)
    return named(name, doc, lambda input: op(input))


# --- powers, exponentials, logarithms

LN2, LN10 = math.log(2.0), math.log(10.0)

sqrt = _smooth("sqrt", np.sqrt, lambda g, y, x: g / (2 * y), "y", "The square root.")
rsqrt = _smooth("rsqrt", lambda x: 1 / np.sqrt(x), lambda g, y, x: -0.5 * g * y**3, "y", "``1 / sqrt(input)``.")
reciprocal = _smooth("reciprocal", lambda x: 1 / x, lambda g, y, x: -g * y * y, "y", "``1 / input``.")
exp = _smooth("exp", np.exp, lambda g, y, x: g * y, "y", "``e ** input``.")
exp2 = _smooth("exp2", np.exp2, lambda g, y, x: g * y * LN2, "y", "``2 ** input``.")
expm1 = _smooth("expm1", np.expm1, lambda g, y, x: g * (y + 1), "y", "``e ** input - 1``, accurate near 0.")
log = _smooth("log", np.log, lambda g, y, x: g / x, "x", "The natural logarithm.")
log2 = _smooth("log2", np.log2, lambda g, y, x: g / (x * LN2), "x", "The logarithm to base 2.")
log10 = _smooth("log10", np.log10, lambda g, y, x: g / (x * LN10), "x", "The logarithm to base 10.")
log1p = _smooth("log1p", np.log1p, lambda g, y, x: g / (x + 1), "x", "``log(1 + input)``, accurate near 0.")

# --- circular and hyperbolic functions

sin = _smooth("sin", np.sin, lambda g, y, x: g * x.cos(), "x", "The sine of an angle in radians.")
cos = _smooth("cos", np.cos, lambda g, y, x: -g * x.sin(), "x", "The cosine of an angle in radians.")
tan = _smooth("tan", np.tan, lambda g, y, x: g * (y * y + 1), "y", "The tangent of an angle in radians.")
asin = _smooth("asin", np.arcsin, lambda g, y, x: g * (1 - x * x).rsqrt(), "x", "The inverse sine, in radians.")
acos = _smooth("acos", np.arccos, lambda g, y, x: -g * (1 - x * x).rsqrt(), "x", "The inverse cosine, in radians.")
atan = _smooth("atan", np.arctan, lambda g, y, x: g / (x * x + 1), "x", "The inverse tangent, in radians.")
sinh = _smooth("sinh", np.sinh, lambda g, y, x: g * x.cosh(), "x", "The hyperbolic sine.")
cosh = _smooth("cosh", np.cosh, lambda g, y, x: g * x.sinh(), "x", "The hyperbolic cosine.")
asinh = _smooth("asinh", np.arcsinh, lambda g, y, x: g * (x * x + 1).rsqrt(), "x", "The inverse hyperbolic sine.")
acosh = _smooth("acosh", np.arccosh, lambda g, y, x: g * (x * x - 1).rsqrt(), "x", "The inverse hyperbolic cosine.")
atanh = _smooth("atanh", np.arctanh, lambda g, y, x: g / (1 - x * x), "x", "The inverse hyperbolic tangent.")

# --- special functions


def _special(name: str) -> Any:
    """The function of that name in SciPy, or in CuPy's copy of it, in the input's precision."""

    def forward(x: Any, *order: int) -> Any:
        if isinstance(x, np.ndarray):
            from scipy import special
        else:
            from cupyx.scipy import special
        return getattr(special, name)(*order, x).astype(x.dtype)

    return forward


ROOT_PI = math.sqrt(math.pi)

erf = _smooth(
    "erf", _special("erf"), lambda g, y, x: g * (2 / ROOT_PI) * (-x * x).exp(), "x",
    "The error function, ``2 / sqrt(pi)`` times the integral of ``e ** -t**2`` from 0 to ``input``.",
)  # fmt: skip
erfc = _smooth(
    "erfc", _special("erfc"), lambda g, y, x: g * (-2 / ROOT_PI) * (-x * x).exp(), "x",
    "``1 - erf(input)``, accurate where that is small.",
)  # fmt: skip
erfinv = _smooth(
    "erfinv", _special("erfinv"), lambda g, y, x: g * (ROOT_PI / 2) * (y * y).exp(), "y",
    "The inverse of ``erf``, on (-1, 1).",
)  # fmt: skip
lgamma = _smooth(
    "lgamma", _special("gammaln"), lambda g, y, x: g * x.digamma(), "x",
    "The logarithm of the absolute value of the gamma function.",
)  # fmt: skip
digamma = _smooth(
    "digamma", _special("digamma"), lambda g, y, x: g * polygamma(1, x), "x",
    "The derivative of ``lgamma``.",
)  # fmt: skip

_polygamma = primitive(
    "polygamma",
    quiet(lambda x, *, n: _special("polygamma")(x, n)),
    (lambda g, y, x, *, n: g * polygamma(n + 1, x),),
    save="x",
)


def polygamma(n: int, input: Tensor) -> Tensor:
    """The derivative of ``digamma`` of order ``n``."""
    if n < 0:
        raise ValueError(f"polygamma: the order must not be negative, got {n}")
    return _polygamma(floating(input), n=n) if n else digamma(input)


method("polygamma")(lambda self, n: polygamma(n, self))

# --- steps and corners

abs = _stepped("abs", np.abs, lambda g, y, x: g * x.sign(), "x", "The absolute value; its derivative at 0 is 0.")
sign = _stepped("sign", np.sign, flat, "", "The sign: -1, 0 or 1.")
floor = _stepped("floor", np.floor, flat, "", "Rounded down.")
ceil = _stepped("ceil", np.ceil, flat, "", "Rounded up.")
trunc = _stepped("trunc", np.trunc, flat, "", "Rounded towards zero.")
frac = _stepped("frac", quiet(lambda x: x - np.trunc(x)), lambda g, y, x: g, "", "What ``trunc`` leaves.")
absolute = abs
method("__abs__", "absolute")(abs)

_round = primitive("round", lambda x, *, decimals: np.round(x, decimals), (flat,))


@method()
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Rounded to ``decimals`` places, halves to the even neighbour."""
    return _round(input, decimals=decimals)


# --- the inverse of the sigmoid, and functions of two arguments

_logit = primitive("logit", quiet(lambda p: np.log(p / (1 - p))), (lambda g, y, p: g / (p * (1 - p)),), save="p")


@method()
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """The inverse of ``sigmoid``, ``log(p / (1 - p))``; with ``eps``, of ``input`` clamped to [eps, 1 - eps]."""
    p = floating(input)
    return _logit(p if eps is None else p.clamp(eps, 1 - eps))


def _inverse_square(y: Tensor, x: Tensor) -> Tensor:
    return 1 / (x * x + y * y)


_atan2 = primitive(
    "atan2",
    np.arctan2,
    (lambda g, out, y, x: g * x * _inverse_square(y, x), lambda g, out, y, x: -g * y * _inverse_square(y, x)),
    save="y x",
    broadcasts=True,
)


@method()
def atan2(input: Any, other: Any) -> Tensor:
    """The angle of the point (x = ``other``, y = ``input``), in radians from -pi to pi."""
    return _atan2(*[floating(x) for x in operands(input, other)])


def _share(a: Any, b: Any) -> Tensor:
    """``e**a / (e**a + e**b)``; two equal infinities share alike."""
    return (a - b).where((a != b) | a.isfinite(), 0).sigmoid()


_logaddexp = primitive(
    "logaddexp",
    quiet(np.logaddexp),
    (lambda g, y, a, b: g * _share(a, b), lambda g, y, a, b: g * _share(b, a)),
    save="a b",
    broadcasts=True,
)


@method()
def logaddexp(input: Any, other: Any) -> Tensor:
    """``log(e**input + e**other)``, without overflow."""
    return _logaddexp(*[floating(x) for x in operands(input, other)])
