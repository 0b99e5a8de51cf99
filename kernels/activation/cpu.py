"""Activations in Numba: one pass over memory, a polynomial exponential, no branches.

The formulas are those of ``reference``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..layout import flat, read_only
from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..vecmath import ONE, TWO, ZERO, exp, expm1, log1p, normal_cdf, vector
from ..vecmath import sigmoid as sigmoid_of
from ..vecmath import tanh as tanh_of
from .reference import GELU_CUBIC, GELU_SLOPE, corner_cost, corner_vjp_cost, value_cost, vjp_cost

COMPILED_FROM = 1 << 10  # elements; below, NumPy's few microseconds are not worth a compilation
CORNERS_FROM = 1 << 13  # likewise where NumPy needs but one pass or two
PARALLEL_FROM = 1 << 15  # elements; below this a second thread costs more than it saves

_SLOPE, _CUBIC, _THREE_CUBIC = np.float32(GELU_SLOPE), np.float32(GELU_CUBIC), np.float32(3 * GELU_CUBIC)


def _sigmoid(x, y):
    for i in prange(x.size):
        y[i] = sigmoid_of(x[i])


def _sigmoid_vjp(g, y, dx):
    for i in prange(y.size):
        dx[i] = g[i] * y[i] * (ONE - y[i])


def _tanh(x, y):
    for i in prange(x.size):
        y[i] = tanh_of(x[i])


def _tanh_vjp(g, y, dx):
    for i in prange(y.size):
        dx[i] = g[i] * (ONE - y[i] * y[i])


def _silu(x, y):
    for i in prange(x.size):
        y[i] = x[i] * sigmoid_of(x[i])


def _silu_vjp(g, x, dx):
    for i in prange(x.size):
        dx[i] = g[i] * sigmoid_of(x[i]) * (ONE + x[i] * sigmoid_of(-x[i]))


def _gelu(x, y):
    for i in prange(x.size):
        y[i] = x[i] * normal_cdf(x[i])[0]


def _gelu_vjp(g, x, dx):
    for i in prange(x.size):
        p, density = normal_cdf(x[i])
        dx[i] = g[i] * (p + x[i] * density)


def _gelu_tanh(x, y):
    for i in prange(x.size):
        y[i] = x[i] * sigmoid_of(_SLOPE * x[i] * (ONE + _CUBIC * x[i] * x[i]))


def _gelu_tanh_vjp(g, x, dx):
    for i in prange(x.size):
        u = _SLOPE * x[i] * (ONE + _CUBIC * x[i] * x[i])
        slope = _SLOPE * x[i] * (ONE + _THREE_CUBIC * x[i] * x[i])
        dx[i] = g[i] * sigmoid_of(u) * (ONE + slope * sigmoid_of(-u))


def _softplus(x, y, beta, threshold):
    for i in prange(x.size):
        z = beta * x[i]
        smooth = (max(z, ZERO) + log1p(exp(-abs(z)))) / beta
        y[i] = x[i] if z > threshold else smooth


def _softplus_vjp(g, x, dx, beta, threshold):
    for i in prange(x.size):
        z = beta * x[i]
        dx[i] = g[i] if z > threshold else g[i] * sigmoid_of(z)


def _logsigmoid(x, y):
    for i in prange(x.size):
        y[i] = min(x[i], ZERO) - log1p(exp(-abs(x[i])))


def _logsigmoid_vjp(g, x, dx):
    for i in prange(x.size):
        dx[i] = g[i] * sigmoid_of(-x[i])


@vector
def _tanh_softplus(x):
    """tanh(softplus(x)), its square's distance to 1, and sigmoid(x), as ``reference`` has them."""
    q = exp(-abs(x))
    square = q * q
    below = x < ZERO
    top = TWO * q + (square if below else ONE)
    rest = TWO * (ONE if below else square)
    whole = ONE / (top + rest)
    return top * whole, rest * (TWO * top + rest) * whole * whole, (q if below else ONE) / (ONE + q)


def _mish(x, y):
    for i in prange(x.size):
        y[i] = x[i] * _tanh_softplus(x[i])[0]


def _mish_vjp(g, x, dx):
    for i in prange(x.size):
        t, slope, s = _tanh_softplus(x[i])
        dx[i] = g[i] * (t + x[i] * slope * s)


def _elu(x, y, alpha, scale, rate):
    for i in prange(x.size):
        y[i] = scale * (x[i] if x[i] > ZERO else alpha * expm1(min(rate * x[i], ZERO)))


def _elu_vjp(g, x, dx, alpha, scale, rate):
    for i in prange(x.size):
        slope = ONE if x[i] > ZERO else alpha * rate * exp(min(rate * x[i], ZERO))
        dx[i] = scale * g[i] * slope


def _relu(x, y):
    for i in prange(x.size):
        y[i] = ZERO if x[i] <= ZERO else x[i]


def _relu_vjp(g, y, dx):
    for i in prange(y.size):
        dx[i] = ZERO if y[i] <= ZERO else g[i]


def _leaky_relu(x, y, slope):
    for i in prange(x.size):
        y[i] = x[i] if x[i] > ZERO else slope * x[i]


def _leaky_relu_vjp(g, x, dx, slope):
    for i in prange(x.size):
        dx[i] = g[i] if x[i] > ZERO else slope * g[i]


_compiled = {
    body: serial_and_parallel(body, error_model="numpy", fastmath={"contract"})
    for body in (
        _sigmoid, _sigmoid_vjp, _tanh, _tanh_vjp, _silu, _silu_vjp, _gelu, _gelu_vjp, _gelu_tanh, _gelu_tanh_vjp,
        _softplus, _softplus_vjp, _logsigmoid, _logsigmoid_vjp, _mish, _mish_vjp, _elu, _elu_vjp,
        _relu, _relu_vjp, _leaky_relu, _leaky_relu_vjp,
    )
}  # fmt: skip


def _on_cpu(cost: Callable, least: int) -> dict[str, Any]:
    """How these kernels are registered: for float32 arrays of at least so many elements."""
    return {
        "impl": "numba",
        "device": "cpu",
        "dtypes": "f4",
        "when": lambda *arrays, **_: arrays[0].size >= least,
        "cost": cost,
    }


_smooth, _smooth_vjp = _on_cpu(value_cost, COMPILED_FROM), _on_cpu(vjp_cost, COMPILED_FROM)
_corner, _corner_vjp = _on_cpu(corner_cost, CORNERS_FROM), _on_cpu(corner_vjp_cost, CORNERS_FROM)


def _map(body: Callable, x: np.ndarray, *numbers: np.float32) -> np.ndarray:
    out = np.empty_like(x)
    y, x = flat(out, x)
    _compiled[body][x.size >= PARALLEL_FROM](*read_only(x), y, *numbers)
    return out


def _map_vjp(body: Callable, g: np.ndarray, x: np.ndarray, *numbers: np.float32) -> np.ndarray:
    """``x``: the input, or the output for an activation whose derivative is a function of that."""
    out = np.empty_like(x)
    dx, g, x = flat(out, g, x)
    _compiled[body][x.size >= PARALLEL_FROM](*read_only(g, x), dx, *numbers)
    return out


@kernel("sigmoid", **_smooth)
def sigmoid(x: np.ndarray) -> np.ndarray:
    return _map(_sigmoid, x)


@kernel("sigmoid_vjp", **_smooth_vjp)
def sigmoid_vjp(g: np.ndarray, y: np.ndarray, x: None) -> np.ndarray:
    return _map_vjp(_sigmoid_vjp, g, y)


@kernel("tanh", **_smooth)
def tanh(x: np.ndarray) -> np.ndarray:
    return _map(_tanh, x)


@kernel("tanh_vjp", **_smooth_vjp)
def tanh_vjp(g: np.ndarray, y: np.ndarray, x: None) -> np.ndarray:
    return _map_vjp(_tanh_vjp, g, y)


@kernel("silu", **_smooth)
def silu(x: np.ndarray) -> np.ndarray:
    return _map(_silu, x)


@kernel("silu_vjp", **_smooth_vjp)
def silu_vjp(g: np.ndarray, y: None, x: np.ndarray) -> np.ndarray:
    return _map_vjp(_silu_vjp, g, x)


@kernel("gelu", **_smooth)
def gelu(x: np.ndarray, *, approximate: str) -> np.ndarray:
    return _map(_gelu_tanh if approximate == "tanh" else _gelu, x)


@kernel("gelu_vjp", **_smooth_vjp)
def gelu_vjp(g: np.ndarray, y: None, x: np.ndarray, *, approximate: str) -> np.ndarray:
    return _map_vjp(_gelu_tanh_vjp if approximate == "tanh" else _gelu_vjp, g, x)


@kernel("softplus", **_smooth)
def softplus(x: np.ndarray, *, beta: float, threshold: float) -> np.ndarray:
    return _map(_softplus, x, np.float32(beta), np.float32(threshold))


@kernel("softplus_vjp", **_smooth_vjp)
def softplus_vjp(g: np.ndarray, y: None, x: np.ndarray, *, beta: float, threshold: float) -> np.ndarray:
    return _map_vjp(_softplus_vjp, g, x, np.float32(beta), np.float32(threshold))


@kernel("logsigmoid", **_smooth)
def logsigmoid(x: np.ndarray) -> np.ndarray:
    return _map(_logsigmoid, x)


@kernel("logsigmoid_vjp", **_smooth_vjp)
def logsigmoid_vjp(g: np.ndarray, y: None, x: np.ndarray) -> np.ndarray:
    return _map_vjp(_logsigmoid_vjp, g, x)


@kernel("mish", **_smooth)
def mish(x: np.ndarray) -> np.ndarray:
    return _map(_mish, x)


@kernel("mish_vjp", **_smooth_vjp)
def mish_vjp(g: np.ndarray, y: None, x: np.ndarray) -> np.ndarray:
    return _map_vjp(_mish_vjp, g, x)


@kernel("elu", **{**_smooth, "when": lambda x, *, rate, **_: x.size >= COMPILED_FROM and rate > 0})
def elu(x: np.ndarray, *, alpha: float, scale: float, rate: float) -> np.ndarray:
    return _map(_elu, x, np.float32(alpha), np.float32(scale), np.float32(rate))


@kernel("elu_vjp", **{**_smooth_vjp, "when": lambda g, *_, rate, **__: g.size >= COMPILED_FROM and rate > 0})
def elu_vjp(g: np.ndarray, y: None, x: np.ndarray, *, alpha: float, scale: float, rate: float) -> np.ndarray:
    return _map_vjp(_elu_vjp, g, x, np.float32(alpha), np.float32(scale), np.float32(rate))


@kernel("relu", **_corner)
def relu(x: np.ndarray) -> np.ndarray:
    return _map(_relu, x)


@kernel("relu_vjp", **_corner_vjp)
def relu_vjp(g: np.ndarray, y: np.ndarray, x: None) -> np.ndarray:
    return _map_vjp(_relu_vjp, g, y)


@kernel("leaky_relu", **_corner)
def leaky_relu(x: np.ndarray, *, slope: float) -> np.ndarray:
    return _map(_leaky_relu, x, np.float32(slope))


@kernel("leaky_relu_vjp", **_corner_vjp)
def leaky_relu_vjp(g: np.ndarray, y: None, x: np.ndarray, *, slope: float) -> np.ndarray:
    return _map_vjp(_leaky_relu_vjp, g, x, np.float32(slope))
