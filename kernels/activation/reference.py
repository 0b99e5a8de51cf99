"""Activations and their derivatives: the specification.

Every exponential is of -|x|, so nothing overflows, and no difference of nearly equal numbers is formed, so both tails
keep their relative accuracy. float16 is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from ..arrays import array_module, widen
from ..registry import Cost, kernel

GELU_SLOPE = 2 * (2 / np.pi) ** 0.5  # of the sigmoid's argument at 0
GELU_CUBIC = 0.044715
INV_SQRT_2PI = (2 * np.pi) ** -0.5


def value_cost(x: Any, **_: Any) -> Cost:
    """Reads x and writes y once; an exponential is counted as 15 operations."""
    return Cost(bytes=2 * x.nbytes, flops=20 * x.size)


def vjp_cost(g: Any, y: Any, x: Any, **_: Any) -> Cost:
    """Reads g and x (or y) and writes the gradient once."""
    return Cost(bytes=3 * g.nbytes, flops=25 * g.size)


def corner_cost(x: Any, **_: Any) -> Cost:
    """Reads x and writes y once."""
    return Cost(bytes=2 * x.nbytes, flops=2 * x.size)


def corner_vjp_cost(g: Any, y: Any, x: Any, **_: Any) -> Cost:
    """Reads g and x (or y) and writes the gradient once."""
    return Cost(bytes=3 * g.nbytes, flops=2 * g.size)


def _in_float32_at_least(f: Callable) -> Callable:
    @wraps(f)
    def computed(*arrays: Any, **attrs: Any) -> Any:
        dtype = arrays[0].dtype
        if dtype != np.float16:
            return f(*arrays, **attrs)
        return f(*[None if a is None else widen(a) for a in arrays], **attrs).astype(dtype)

    return computed


def sigmoids(x: Any) -> tuple[Any, Any]:
    """1 / (1 + e^-x) and 1 / (1 + e^x), the probabilities of the two classes; neither is 1 minus the other."""
    e = np.exp(-np.abs(x))
    larger = 1 / (1 + e)
    smaller = e * larger
    return np.where(x < 0, smaller, larger), np.where(x < 0, larger, smaller)


@kernel("sigmoid", cost=value_cost)
@_in_float32_at_least
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    return sigmoids(x)[0]


@kernel("sigmoid_vjp", cost=vjp_cost)
@_in_float32_at_least
def sigmoid_vjp(g: Any, y: Any, x: Any) -> Any:
    """g y (1 - y)."""
    return g * y * (1 - y)


@kernel("tanh", cost=value_cost)
@_in_float32_at_least
def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return np.tanh(x)


@kernel("tanh_vjp", cost=vjp_cost)
@_in_float32_at_least
def tanh_vjp(g: Any, y: Any, x: Any) -> Any:
    """g (1 - y^2)."""
    return g * (1 - y * y)


def normal_cdf(x: Any) -> Any:
    """Distribution function of the standard normal, by erfc so that the lower tail is not 1 - 1."""
    if array_module(x) is np:
        from scipy.special import erfc  # not needed to import scratchgen, and slow to load
    else:
        from cupyx.scipy.special import erfc
    return 0.5 * erfc(x * -(0.5**0.5))


@kernel("silu", cost=value_cost)
@_in_float32_at_least
def silu(x: Any) -> Any:
    """x sigmoid(x)."""
    return x * sigmoids(x)[0]


@kernel("silu_vjp", cost=vjp_cost)
@_in_float32_at_least
def silu_vjp(g: Any, y: Any, x: Any) -> Any:
    """g times silu'(x), where sigmoid' = sigmoid(x) sigmoid(-x)."""
    s, t = sigmoids(x)
    return g * s * (1 + x * t)


@kernel("gelu", cost=value_cost)
@_in_float32_at_least
def gelu(x: Any, *, approximate: str) -> Any:
    """x P(N < x) for a standard normal N, or its approximation by tanh, as a sigmoid: 1 + tanh(u) = 2 sigmoid(2u)."""
    if approximate == "tanh":
        return x * sigmoids(GELU_SLOPE * x * (1 + GELU_CUBIC * x * x))[0]
    return x * normal_cdf(x)


@kernel("gelu_vjp", cost=vjp_cost)
@_in_float32_at_least
def gelu_vjp(g: Any, y: Any, x: Any, *, approximate: str) -> Any:
    """g times gelu'(x): the distribution function plus x times the density."""
    if approximate == "tanh":
        s, t = sigmoids(GELU_SLOPE * x * (1 + GELU_CUBIC * x * x))
        return g * s * (1 + t * GELU_SLOPE * x * (1 + 3 * GELU_CUBIC * x * x))
    return g * (normal_cdf(x) + x * (INV_SQRT_2PI * np.exp(-0.5 * x * x)))


@kernel("softplus", cost=value_cost)
@_in_float32_at_least
def softplus(x: Any, *, beta: float, threshold: float) -> Any:
    """log(1 + e^(beta x)) / beta; x itself where beta x is above the threshold."""
    z = beta * x
    return np.where(z > threshold, x, (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / beta)


@kernel("softplus_vjp", cost=vjp_cost)
@_in_float32_at_least
def softplus_vjp(g: Any, y: Any, x: Any, *, beta: float, threshold: float) -> Any:
    """g times sigmoid(beta x); g itself above the threshold."""
    z = beta * x
    return np.where(z > threshold, g, g * sigmoids(z)[0])


@kernel("logsigmoid", cost=value_cost)
@_in_float32_at_least
def logsigmoid(x: Any) -> Any:
    """log sigmoid(x)."""
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


@kernel("logsigmoid_vjp", cost=vjp_cost)
@_in_float32_at_least
def logsigmoid_vjp(g: Any, y: Any, x: Any) -> Any:
    """g times sigmoid(-x)."""
    return g * sigmoids(x)[1]


def _tanh_softplus(x: Any) -> tuple[Any, Any]:
    """tanh(softplus(x)) and its square's distance to 1, as fractions in q = e^-|x|.

    With e = e^x, tanh(log(1 + e)) = (e^2 + 2e) / (e^2 + 2e + 2); for x >= 0 both are divided by e^2.
    """
    q = np.exp(-np.abs(x))
    top = 2 * q + np.where(x < 0, q * q, 1)
    rest = 2 * np.where(x < 0, 1, q * q)
    return top / (top + rest), rest * (2 * top + rest) / (top + rest) ** 2


@kernel("mish", cost=value_cost)
@_in_float32_at_least
def mish(x: Any) -> Any:
    """x tanh(softplus(x))."""
    return x * _tanh_softplus(x)[0]


@kernel("mish_vjp", cost=vjp_cost)
@_in_float32_at_least
def mish_vjp(g: Any, y: Any, x: Any) -> Any:
    """g times mish'(x), where softplus' = sigmoid."""
    t, slope = _tanh_softplus(x)
    return g * (t + x * slope * sigmoids(x)[0])


@kernel("elu", cost=value_cost)
@_in_float32_at_least
def elu(x: Any, *, alpha: float, scale: float, rate: float) -> Any:
    """scale (x if x > 0 else alpha (e^(rate x) - 1))."""
    return scale * np.where(x > 0, x, alpha * np.expm1(rate * np.minimum(x, 0)))


@kernel("elu_vjp", cost=vjp_cost)
@_in_float32_at_least
def elu_vjp(g: Any, y: Any, x: Any, *, alpha: float, scale: float, rate: float) -> Any:
    """g scale, for x <= 0 times alpha rate e^(rate x)."""
    return scale * g * np.where(x > 0, 1, alpha * rate * np.exp(rate * np.minimum(x, 0)))


@kernel("relu", cost=corner_cost)
def relu(x: Any) -> Any:
    """max(x, 0)."""
    return np.maximum(x, 0)


@kernel("relu_vjp", cost=corner_vjp_cost)
def relu_vjp(g: Any, y: Any, x: Any) -> Any:
    """g where y is positive, else 0."""
    return np.where(y <= 0, 0, g)


@kernel("leaky_relu", cost=corner_cost)
def leaky_relu(x: Any, *, slope: float) -> Any:
    """x where positive, else slope x."""
    return np.where(x > 0, x, slope * x)


@kernel("leaky_relu_vjp", cost=corner_vjp_cost)
def leaky_relu_vjp(g: Any, y: Any, x: Any, *, slope: float) -> Any:
    """g where x is positive, else slope g."""
    return np.where(x > 0, g, slope * g)
