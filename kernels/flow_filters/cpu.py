"""The filters of a flow in Numba, on one thread: each op is one call in place of a dozen array operations.

A matrix of four channels takes less time than the call of one of those. Of what is known to be zero, nothing is
multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import float32, types

from ..numba_config import specialise
from ..registry import kernel
from ..vecmath import ZERO, vector, vector_sums
from . import reference

WIDEST = 32  # channels; wider matrices are multiplied faster by BLAS


# --- scaled filters


def _scale(weight, bias, log_scale, gain, scaled, scaled_bias):
    for k in range(weight.shape[0]):
        s = math.exp(gain * log_scale[k])
        for j in range(weight.shape[1]):
            scaled[k, j] = weight[k, j] * s
        scaled_bias[k] = bias[k] * s


@vector_sums
def _scale_row(g, weight, s, out):
    """``out`` is g times s; the sum of that times the weights."""
    total = ZERO
    for j in range(g.size):
        out[j] = g[j] * s
        total += out[j] * weight[j]
    return total


def _scale_vjp(g, g_bias, weight, bias, log_scale, gain, dw, db, ds):
    for k in range(weight.shape[0]):
        s = math.exp(gain * log_scale[k])
        db[k] = g_bias[k] * s
        ds[k] = gain * (_scale_row(g[k], weight[k], s, dw[k]) + db[k] * bias[k])


# --- P L (U + diag s)


@vector
def _upper_triangle(upper, sign, log_s):
    """U + diag(sign exp(log_s))."""
    n = upper.shape[0]
    u = np.zeros((n, n), np.float32)
    for i in range(n):
        u[i, i] = sign[i] * math.exp(log_s[i])
        for j in range(i + 1, n):
            u[i, j] = upper[i, j]
    return u


@vector
def _add_row(factor, row, out):
    for j in range(row.size):
        out[j] += factor * row[j]


@vector_sums
def _dot(a, b):
    total = ZERO
    for j in range(a.size):
        total += a[j] * b[j]
    return total


def _mix(permutation, lower, upper, sign, log_s, log_scale, bias, weight, moved, log_det):
    n = lower.shape[0]
    product = _upper_triangle(upper, sign, log_s)
    for i in range(n - 1, -1, -1):  # of L U: the rows above are still those of U
        for k in range(i):
            _add_row(lower[i, k], product[k, k:], product[i, k:])
    scale = np.empty(n, np.float32)
    log_det[0] = ZERO
    for j in range(n):
        scale[j] = math.exp(log_scale[j])
        log_det[0] += log_s[j] + log_scale[j]
    weight[:] = ZERO
    for i in range(n):
        for k in range(n):
            _add_row(permutation[i, k], product[k], weight[i])
        for j in range(n):
            weight[i, j] *= scale[j]
        moved[i] = _dot(weight[i], bias)


def _mix_vjp(
    g, g_moved, g_log_det, weight, permutation, lower, upper, sign, log_s, log_scale, bias,
    d_lower, d_upper, d_sign, d_log_s, d_log_scale, d_bias,
):  # fmt: skip
    n = lower.shape[0]
    u = _upper_triangle(upper, sign, log_s)
    inner = np.zeros((n, n), np.float32)  # the gradient in L U
    row = np.empty(n, np.float32)
    d_log_scale[:], d_bias[:] = g_log_det[0], ZERO
    for i in range(n):
        _add_row(g_moved[i], weight[i], d_bias)
        for j in range(n):
            row[j] = g[i, j] + g_moved[i] * bias[j]
            d_log_scale[j] += row[j] * weight[i, j]
            row[j] *= math.exp(log_scale[j])
        for k in range(n):
            _add_row(permutation[i, k], row, inner[k])
    d_lower[:], d_upper[:] = ZERO, ZERO
    for i in range(n):
        for j in range(i):
            d_lower[i, j] = _dot(inner[i, j:], u[j, j:])
        d_upper[i, i:] = inner[i, i:]
        for k in range(i + 1, n):
            _add_row(lower[k, i], inner[k, i:], d_upper[i, i:])
        on_diagonal, d_upper[i, i] = d_upper[i, i], ZERO
        d_log_s[i] = on_diagonal * u[i, i] + g_log_det[0]
        d_sign[i] = on_diagonal * math.exp(log_s[i])


# --- calls


@cache
def _compiled(body: Callable[..., None], inputs: str, outputs: str) -> Any:
    """``body`` for arrays of so many dimensions each, of which the inputs may be read-only; f: a float32."""
    arrays = [float32 if d == "f" else types.Array(float32, int(d), "C", readonly=True) for d in inputs]
    made = [types.Array(float32, int(d), "C") for d in outputs]
    function = specialise(body, "", {}, error_model="numpy", fastmath={"contract"})
    function.compile(types.void(*arrays, *made))
    function.disable_compile()
    return function


def _rows(weight: np.ndarray) -> np.ndarray:
    """Filters [out, ...] as a matrix."""
    return np.ascontiguousarray(weight).reshape(len(weight), math.prod(weight.shape[1:]))


@kernel("scaled_filters", impl="numba", device="cpu", dtypes="f4")
def scaled_filters(
    weight: np.ndarray, bias: np.ndarray, log_scale: np.ndarray, *, gain: float
) -> tuple[np.ndarray, np.ndarray]:
    """As the reference."""
    scaled, scaled_bias = np.empty(weight.shape, np.float32), np.empty(bias.shape, np.float32)
    inputs = _rows(weight), np.ascontiguousarray(bias), np.ascontiguousarray(log_scale), np.float32(gain)
    _compiled(_scale, "211f", "21")(*inputs, _rows(scaled), scaled_bias)
    return scaled, scaled_bias


@kernel("scaled_filters_vjp", impl="numba", device="cpu", dtypes="f4")
def scaled_filters_vjp(
    g: tuple[np.ndarray, np.ndarray],
    y: None,
    weight: np.ndarray,
    bias: np.ndarray,
    log_scale: np.ndarray,
    *,
    gain: float,
) -> tuple[np.ndarray, ...]:
    """As the reference."""
    made = np.empty(weight.shape, np.float32), np.empty(bias.shape, np.float32), np.empty(bias.shape, np.float32)
    inputs = (_rows(g[0]), np.ascontiguousarray(g[1]), _rows(weight), *map(np.ascontiguousarray, (bias, log_scale)))
    _compiled(_scale_vjp, "21211f", "211")(*inputs, np.float32(gain), _rows(made[0]), *made[1:])
    return made


def _is_narrow(first: np.ndarray, *_: Any, **__: Any) -> bool:
    return len(first) <= WIDEST


@kernel("mixing_filters", impl="numba", device="cpu", dtypes="f4", when=_is_narrow)
def mixing_filters(*parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As the reference."""
    n = len(parameters[0])
    weight, moved, log_det = np.empty((n, n), np.float32), np.empty(n, np.float32), np.empty((), np.float32)
    inputs = map(np.ascontiguousarray, parameters)
    _compiled(_mix, "2221111", "211")(*inputs, weight, moved, log_det.reshape(1))
    return weight, moved, log_det


@kernel("mixing_filters_vjp", impl="numba", device="cpu", dtypes="f4", when=_is_narrow)
def mixing_filters_vjp(
    g: tuple[np.ndarray, ...], y: tuple[np.ndarray, ...], *parameters: np.ndarray, needs: tuple[bool, ...]
) -> tuple[np.ndarray | None, ...]:
    """As the reference, which also runs if the gradient in the permutation is wanted."""
    if needs[0]:
        return reference.mixing_filters_vjp(g, y, *parameters, needs=needs)
    n = len(parameters[0])
    made = [np.empty(shape, np.float32) for shape in ((n, n), (n, n), n, n, n, n)]
    inputs = map(np.ascontiguousarray, (g[0], g[1], g[2].reshape(1), y[0], *parameters))
    _compiled(_mix_vjp, "21122221111", "221111")(*inputs, *made)
    made_sign = made[2] if needs[3] else None
    return None, *made[:2], made_sign, *made[3:]
