"""Functions of one and of two elements, activations, reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .table import NOT_IN_TORCH, Draw, apart, case, inside, mask, normal, positive, probability, small, uniform

# ------------------------------------------------------------------------------------------------- functions of one


def pointwise(name: str, draw: Callable[..., Draw], function: Callable[..., Any] | None = None, **options: Any) -> None:
    """A function of each element: of a matrix, of a 0-d tensor and of nothing."""
    f = function or (lambda L, x: getattr(L, name)(x))
    case(name, f, draw(3, 4), **options)
    case(f"{name} of a 0-d tensor", f, draw(), **options)
    case(f"{name} of nothing", f, draw(2, 0), **options)


for name, draw in {
    "sqrt": positive, "rsqrt": positive, "reciprocal": apart, "square": normal, "exp": normal, "exp2": normal,
    "expm1": normal, "log": positive, "log2": positive, "log10": positive, "log1p": positive, "sin": normal,
    "cos": normal, "tan": inside, "asin": inside, "acos": inside, "atan": normal, "sinh": normal, "cosh": normal,
    "tanh": normal, "asinh": normal, "atanh": inside, "sigmoid": normal, "erf": normal, "erfc": normal,
    "erfinv": inside, "lgamma": positive, "digamma": positive, "abs": apart, "absolute": apart, "neg": normal,
    "negative": normal, "logit": probability, "relu": apart, "clone": normal, "nan_to_num": normal,
}.items():  # fmt: skip
    pointwise(name, draw)
for name in ("sign", "floor", "ceil", "trunc", "frac", "round"):
    pointwise(name, apart)
pointwise("acosh", lambda *shape: uniform(1.4, 2.5, *shape))
pointwise("alias", normal, unlike_torch=NOT_IN_TORCH)
case("contiguous", lambda L, x: x.mT.contiguous(), normal(3, 4))
case("logit with eps", lambda L, x: L.logit(x, eps=0.3), [0.1, 0.2, 0.4, 0.6, 0.9])
case("polygamma 1", lambda L, x: L.polygamma(1, x), positive(3, 4))
case("polygamma 3", lambda L, x: L.polygamma(3, x), positive(3))
case("round to decimals", lambda L, x: L.round(x, decimals=1), [0.12, -0.48, 1.77])
case("nan_to_num of infinities", lambda L, x: L.nan_to_num(x, nan=1, posinf=2, neginf=-3),
     [1.0, np.nan, np.inf, -np.inf])  # fmt: skip

# ---------------------------------------------------------------------------------------------------- activations

for name, draw in {
    "silu": normal, "gelu": normal, "softplus": normal, "logsigmoid": normal, "mish": normal, "softsign": apart,
    "tanhshrink": normal, "hardtanh": apart, "relu6": apart, "leaky_relu": apart, "elu": apart, "celu": apart,
    "selu": apart, "hardsigmoid": apart, "hardswish": apart,
}.items():  # fmt: skip
    pointwise(name, draw, lambda L, x, name=name: getattr(L.F, name)(x))
for name in ("softplus", "logsigmoid", "mish", "silu", "gelu", "relu6", "elu", "hardsigmoid", "hardswish"):
    case(f"{name} further out", lambda L, x, name=name: getattr(L.F, name)(x * 5), apart(12))
case("swish", lambda L, x: L.swish(x), normal(3), unlike_torch=NOT_IN_TORCH)
case("gelu by tanh", lambda L, x: L.F.gelu(x, approximate="tanh"), normal(3, 4))
case("softplus with beta and threshold", lambda L, x: L.F.softplus(x, beta=2.0, threshold=1.8), apart(12))
case("threshold", lambda L, x: L.F.threshold(x, threshold=0.1, value=20.0), apart(3, 4))
case("hardtanh with bounds", lambda L, x: L.F.hardtanh(x, min_val=-0.5, max_val=0.8), apart(3, 4))
case("leaky_relu with a slope", lambda L, x: L.F.leaky_relu(x, negative_slope=0.3), apart(3, 4))
case("elu with alpha", lambda L, x: L.F.elu(x, alpha=0.7), apart(3, 4))
case("celu with alpha", lambda L, x: L.F.celu(x, alpha=0.7), apart(3, 4))
case("glu", lambda L, x: L.F.glu(x), normal(3, 4))
case("glu along dim 0", lambda L, x: L.F.glu(x, dim=0), normal(4, 3))
case("prelu", lambda L, x, w: L.F.prelu(x, w), apart(3, 4), normal(1))
case("prelu of channels", lambda L, x, w: L.F.prelu(x, w), apart(2, 3, 2), normal(3))

# ------------------------------------------------------------------------------------------------- functions of two

PAIRS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "": ((3, 4), (3, 4)),
    " broadcast": ((3, 1), (2, 1, 4)),
    " and a 0-d tensor": ((2, 3), ()),
    " of 0-d tensors": ((), ()),
    " of nothing": ((2, 0), (1,)),
}


def pairwise(name: str, a: Callable[..., Draw], b: Callable[..., Draw]) -> None:
    """A function of pairs of elements, broadcast in every way."""
    for how, (shape, other) in PAIRS.items():
        case(name + how, lambda L, x, y: getattr(L, name)(x, y), a(*shape), b(*other))


for name, (a, b) in {
    "add": (normal, normal), "sub": (normal, normal), "subtract": (normal, normal), "mul": (normal, normal),
    "multiply": (normal, normal), "div": (normal, apart), "divide": (normal, apart), "pow": (positive, normal),
    "atan2": (apart, apart), "logaddexp": (normal, normal), "maximum": (apart, small), "minimum": (apart, small),
    "fmod": (small, positive), "remainder": (small, positive), "floor_divide": (small, positive),
}.items():  # fmt: skip
    pairwise(name, a, b)
case("fmod beyond the divisor", lambda L, x, y: L.fmod(x, y), [2.3, -2.3, 2.3], [0.7, 0.7, -0.7])
case("remainder beyond the divisor", lambda L, x, y: L.remainder(x, y), [2.3, -2.3, 2.3], [0.7, 0.7, -0.7])
case("div rounded down", lambda L, x, y: L.div(x, y, rounding_mode="floor"), [2.3, -2.3], [0.7, 0.7])
case("div rounded towards zero", lambda L, x, y: L.div(x, y, rounding_mode="trunc"), [2.3, -2.3], [0.7, 0.7])
case("divide rounded down", lambda L, x, y: L.divide(x, y, rounding_mode="floor"), [2.3, -2.3], [0.7, 0.7])
for name in ("add", "sub", "subtract"):
    case(f"{name} with alpha", lambda L, x, y, name=name: getattr(L, name)(x, y, alpha=-1.5), normal(3, 4), normal(4))
case("arithmetic with numbers", lambda L, x: (2 - x) * 3 / (x * x + 1) + 4 / (x * x + 2) - 1, normal(3, 4))
case("powers of numbers", lambda L, x: 1.7**x + L.pow(2.0, x), normal(3))
case("quotients by numbers", lambda L, x: x % 0.7 + (2.3 % (x + 1)), uniform(0.05, 0.1, 3))
for exponent in (2, 3, 0.5, -0.5, -1, -2, 1.7, 0, 1):
    case(f"pow {exponent}", lambda L, x, e=exponent: L.pow(x, e), positive(3, 4))
case("pow of negative numbers", lambda L, x: x**3 + x**2 + x**-1, apart(3, 4))
case("lerp", lambda L, x, y, w: L.lerp(x, y, w), normal(3, 4), normal(4), probability(3, 1))
case("lerp by a number", lambda L, x, y: L.lerp(x, y, 0.3) + L.lerp(x, y, 0.8), normal(3, 4), normal(3, 4))
case("addcmul", lambda L, x, y, z: L.addcmul(x, y, z, value=0.7), normal(3, 4), normal(4), normal(3, 1))
case("addcdiv", lambda L, x, y, z: L.addcdiv(x, y, z, value=0.7), normal(3, 4), normal(4), positive(3, 1))
case("clamp", lambda L, x: L.clamp(x, min=-0.5, max=0.7), apart(3, 4))
case("clip from one side", lambda L, x: L.clip(x, min=-0.5) + L.clip(x, max=0.7), apart(3, 4))
case("clamp to tensors", lambda L, x, low, high: L.clamp(x, low, high), apart(3, 4), uniform(-0.2, 0, 4), small(3, 1))
case("clamp with bounds crossed", lambda L, x, a, b: L.clamp(x, a, b), apart(4), small(4), uniform(-0.2, 0, 4))
case("clamp_min", lambda L, x, low: L.clamp_min(x, low), apart(3, 4), small(4))
case("clamp_max", lambda L, x, high: L.clamp_max(x, high), apart(3, 4), small(4))
case("where", lambda L, c, x, y: L.where(c, x, y), mask(3, 4), normal(4), normal(3, 1))
case("where with a number", lambda L, c, x: L.where(c, x, 2.0) + L.where(c, 3.0, x), mask(3, 4), normal(3, 4))

# ------------------------------------------------------------------------------------------------------ reductions

DIMS: dict[str, dict[str, Any]] = {
    "": {},
    " over dim 1": {"dim": 1},
    " over dims 0 and -1": {"dim": (0, -1)},
    " keeping dim 0": {"dim": 0, "keepdim": True},
}


def reduction(name: str, draw: Callable[..., Draw], function: Callable | None = None) -> None:
    """A reduction of everything, over a dimension, over several, with the dimension kept, and of a 0-d tensor."""
    f = function or (lambda L, x, **over: getattr(L, name)(x, **over))
    for how, over in DIMS.items():
        case(name + how, lambda L, x, over=over: f(L, x, **over), draw(2, 3, 2))
    case(f"{name} of a 0-d tensor", lambda L, x: f(L, x), draw())


reduction("sum", normal)
reduction("nansum", normal)
reduction("mean", normal)
reduction("amax", apart)
reduction("amin", apart)
reduction("norm", apart)
reduction("norm of order 3", apart, lambda L, x, dim=None, keepdim=False: L.norm(x, 3, dim, keepdim))
for ord in (1, 2, 4, 0.7, -1, np.inf, -np.inf):
    case(f"vector_norm of order {ord}", lambda L, x, ord=ord: L.linalg.vector_norm(x, ord, 1), apart(3, 4))
case("vector_norm, order 0", lambda L, x: L.linalg.vector_norm(x, 0), apart(3, 4))
case("vector_norm keeping dims", lambda L, x: L.linalg.vector_norm(x, 2, (0, 2), keepdim=True), apart(2, 3, 2))
for name in ("var", "std"):
    f = lambda L, x, name=name, **over: getattr(L, name)(x, **over)  # noqa: E731
    case(f"{name}", f, apart(3, 4))
    case(f"{name} over dims", lambda L, x, f=f: f(L, x, dim=(0, 2), keepdim=True), apart(2, 3, 2))
    case(f"{name} with correction", lambda L, x, f=f: f(L, x, dim=1, correction=0.5), apart(3, 4))
    case(f"{name} of the population", lambda L, x, f=f: f(L, x, dim=1, unbiased=False), apart(3, 4))
case("var_mean", lambda L, x: L.var_mean(x, dim=1, correction=0, keepdim=True), normal(3, 4))
case("std of equal numbers", lambda L, x: L.std(x * 0 + 2, 1), normal(2, 3), unlike_torch="0 there, NaN in torch")
case("sum of nothing", lambda L, x: L.sum(x, 1), normal(3, 0))
case("amax with ties", lambda L, x: L.amax(L.cat([x, x], 1), 1), apart(3, 2))
case("aminmax", lambda L, x: tuple(L.aminmax(x, dim=1, keepdim=True)), apart(3, 4))
case("max", lambda L, x: L.max(x), apart(3, 4))
case("max along a dim", lambda L, x: L.max(x, dim=1, keepdim=True)[0], apart(3, 4))
case("max of two", lambda L, x, y: L.max(x, y), apart(3), small(3))
case("min", lambda L, x: L.min(x), apart(3, 4))
case("min along a dim", lambda L, x: L.min(x, dim=0, keepdim=True)[0], apart(3, 4))
case("prod", lambda L, x: L.prod(x), normal(2, 3))
case("prod along a dim", lambda L, x: L.prod(x, dim=1, keepdim=True), normal(2, 3))
case("prod through zeros", lambda L, x: L.prod(x, dim=1), [[0.0, 1.5, -2.0], [0.0, 0.5, 0.0]])
case("prod of a 0-d tensor", lambda L, x: L.prod(x), normal())
case("prod of nothing", lambda L, x: L.prod(x, 1), normal(2, 0))
case("cumsum", lambda L, x: L.cumsum(x, 1), normal(3, 4))
case("cumprod", lambda L, x: L.cumprod(x, 0), normal(4, 2))
case("cumprod through zeros", lambda L, x: L.cumprod(x, 1), [[1.0, 0.0, -2.0, 3.0], [0.0, 0.5, 0.0, 1.0]])
case("logsumexp", lambda L, x: L.logsumexp(x, 1), normal(3, 4))
case("logsumexp over dims", lambda L, x: L.logsumexp(x, (0, 2), keepdim=True), normal(2, 3, 2))
case("count of a broadcast", lambda L, x: x.sum_to_size((3, 1)), normal(2, 3, 4))
