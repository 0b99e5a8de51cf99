"""Activations. The smooth ones are fused ops with kernels; those with corners are a table of cases.

At a corner the derivative is torch's, so that of ``relu`` at 0 is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..declare import fused, method, primitive
from ..tensor import Tensor
from .compare import where
from .dims import normalize_dim
from .elementwise import floating
from .math import erfc, exp, expm1, logaddexp
from .precision import widened

__all__ = [
    "celu", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish", "prelu",
    "relu", "relu6", "selu", "sigmoid", "silu", "softplus", "softsign", "swish", "tanh", "tanhshrink", "threshold",
]  # fmt: skip

# --- smooth


@fused(save="y")
@widened
def _sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + exp(-x))


@_sigmoid.vjp_rule
def _sigmoid_rule(g: Tensor, y: Tensor, x: Any) -> tuple[Tensor]:
    return (g * y * (1 - y),)


@method()
def sigmoid(input: Tensor) -> Tensor:
    """``1 / (1 + e^-x)``, without overflow and without loss of small values."""
    return _sigmoid(floating(input))


@fused(save="y")
@widened
def _tanh(x: Tensor) -> Tensor:
    return 2 * sigmoid(2 * x) - 1


@_tanh.vjp_rule
def _tanh_rule(g: Tensor, y: Tensor, x: Any) -> tuple[Tensor]:
    return (g * (1 - y * y),)


@method()
def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return _tanh(floating(input))


@fused()
@widened
def _silu(x: Tensor) -> Tensor:
    return x * sigmoid(x)


def silu(input: Tensor) -> Tensor:
    """``x sigmoid(x)``, also called swish (Elfwing et al. 2018; Ramachandran et al. 2017)."""
    return _silu(floating(input))


swish = silu

GELU_SLOPE, GELU_CUBIC = 2 * (2 / np.pi) ** 0.5, 0.044715


@fused()
@widened
def _gelu(x: Tensor, *, approximate: str) -> Tensor:
    if approximate == "tanh":
        return x * sigmoid(GELU_SLOPE * x * (1 + GELU_CUBIC * x * x))  # 1 + tanh(u) = 2 sigmoid(2u)
    return x * (0.5 * erfc(x * -(0.5**0.5)))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """``x`` times the probability that a standard normal number is below it (Hendrycks and Gimpel 2016).

    ``approximate="tanh"``: their approximation ``0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))``.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return _gelu(floating(input), approximate=approximate)


@fused()
@widened
def _softplus(x: Tensor, *, beta: float, threshold: float) -> Tensor:
    z = beta * x
    return where(z > threshold, x, logaddexp(z, 0.0) / beta)


@_softplus.vjp_rule
def _softplus_rule(g: Tensor, y: None, x: Tensor, *, beta: float, threshold: float) -> tuple[Tensor]:
    z = beta * x
    return (where(z > threshold, g, g * sigmoid(z)),)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + e^(beta x)) / beta``; ``x`` itself where ``beta x`` is above ``threshold``."""
    return _softplus(floating(input), beta=beta, threshold=threshold)


@fused()
@widened
def _logsigmoid(x: Tensor) -> Tensor:
    return -logaddexp(-x, 0.0)


@_logsigmoid.vjp_rule
def _logsigmoid_rule(g: Tensor, y: None, x: Tensor) -> tuple[Tensor]:
    return (g * sigmoid(-x),)


def logsigmoid(input: Tensor) -> Tensor:
    """``log sigmoid(x)``, exact where the sigmoid itself would be 0."""
    return _logsigmoid(floating(input))


@fused()
@widened
def _mish(x: Tensor) -> Tensor:
    return x * tanh(_softplus(x, beta=1.0, threshold=np.inf))


def mish(input: Tensor) -> Tensor:
    """``x tanh(softplus(x))`` (Misra 2019)."""
    return _mish(floating(input))


def softsign(input: Tensor) -> Tensor:
    """``x / (1 + |x|)``."""
    return input / (1 + input.abs())


def tanhshrink(input: Tensor) -> Tensor:
    """``x - tanh(x)``."""
    return input - tanh(input)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along ``dim`` times the sigmoid of the second (Dauphin et al. 2017)."""
    dim = normalize_dim("glu", dim, input.shape)
    if input.ndim == 0 or input.shape[dim] % 2:
        raise ValueError(f"glu: dim {dim} of a tensor of shape {list(input.shape)} does not divide into two halves")
    half = input.shape[dim] // 2
    return input.narrow(dim, 0, half) * sigmoid(input.narrow(dim, half, half))


# --- with corners

_threshold = primitive(
    "threshold",
    lambda x, *, threshold, value: np.where(x <= threshold, x.dtype.type(value), x),
    (lambda g, y, x, *, threshold, value: where(x <= threshold, 0, g),),
    save="x",
)
_hardtanh = primitive(
    "hardtanh",
    lambda x, *, low, high: np.minimum(np.maximum(x, low), high),
    (lambda g, y, x, *, low, high: where((x <= low) | (x >= high), 0, g),),
    save="x",
)
_hardswish = primitive(
    "hardswish",
    lambda x: x * np.minimum(np.maximum(x + 3, 0), 6) / 6,
    (lambda g, y, x: where(x <= -3, 0, where(x < 3, g * (x / 3 + 0.5), g)),),
    save="x",
)


# Those that are used most have kernels.


@fused()
@widened
def _elu(x: Tensor, *, alpha: float, scale: float, rate: float) -> Tensor:
    return scale * where(x > 0, x, alpha * expm1(rate * x.clamp(max=0)))


@_elu.vjp_rule
def _elu_rule(g: Tensor, y: None, x: Tensor, *, alpha: float, scale: float, rate: float) -> tuple[Tensor]:
    return (where(x > 0, scale * g, (scale * alpha * rate) * g * exp(rate * x.clamp(max=0))),)


@fused(save="y")
def _relu(x: Tensor) -> Tensor:
    return where(x <= 0, 0, x)


@_relu.vjp_rule
def _relu_rule(g: Tensor, y: Tensor, x: Any) -> tuple[Tensor]:
    return (where(y <= 0, 0, g),)


@fused()
def _leaky_relu(x: Tensor, *, slope: float) -> Tensor:
    return where(x > 0, x, slope * x)


@_leaky_relu.vjp_rule
def _leaky_relu_rule(g: Tensor, y: None, x: Tensor, *, slope: float) -> tuple[Tensor]:
    return (where(x > 0, g, slope * g),)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017, eq. 14


@method()
def relu(input: Tensor) -> Tensor:
    """``max(x, 0)``."""
    return _relu(input)


def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """``x`` where it is above ``threshold``, else ``value``."""
    return _threshold(input, threshold=threshold, value=value)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """``x`` limited to [``min_val``, ``max_val``]; its derivative at the limits is 0, where that of ``clamp`` is 1."""
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} is above max_val {max_val}")
    return _hardtanh(floating(input), low=min_val, high=max_val)


def relu6(input: Tensor) -> Tensor:
    """``min(max(x, 0), 6)``."""
    return hardtanh(input, 0.0, 6.0)


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """``x`` where positive, else ``negative_slope * x``."""
    return _leaky_relu(floating(input), slope=negative_slope)


@method()
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """``x`` where positive, else ``weight * x`` (He et al. 2015).

    ``weight`` has one element, or one for each channel: dimension 1 of ``input``.
    """
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim > 1 or weight.numel() not in (1, channels):
        raise ValueError(
            f"prelu: weight of shape {list(weight.shape)} for an input of shape {list(input.shape)}: expected 1 "
            f"element, or one for each of {channels} channels"
        )
    if weight.numel() == 1:
        weight = weight.reshape((1,) * input.ndim)
    else:
        weight = weight.reshape((-1,) + (1,) * (input.ndim - 2))
    return where(input > 0, input, weight * input)


def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """``x`` where positive, else ``alpha (e^x - 1)`` (Clevert et al. 2016)."""
    return _elu(floating(input), alpha=alpha, scale=1.0, rate=1.0)


def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """``x`` where positive, else ``alpha (e^(x / alpha) - 1)``: smooth for any alpha (Barron 2017)."""
    if alpha == 0:
        raise ValueError("celu: alpha must not be 0")
    return _elu(floating(input), alpha=alpha, scale=1.0, rate=1.0 / alpha)


def selu(input: Tensor) -> Tensor:
    """``elu`` scaled so that activations keep mean 0 and variance 1 from layer to layer (Klambauer et al. 2017)."""
    return _elu(floating(input), alpha=SELU_ALPHA, scale=SELU_SCALE, rate=1.0)


def hardsigmoid(input: Tensor) -> Tensor:
    """``min(max(x + 3, 0), 6) / 6``."""
    return hardtanh(input + 3, 0.0, 6.0) / 6


def hardswish(input: Tensor) -> Tensor:
    """``x hardsigmoid(x)`` (Howard et al. 2019)."""
    return _hardswish(floating(input))
