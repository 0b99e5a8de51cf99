"""Free energies in Numba: a product, then one pass that makes of each row of inputs its energy and its activity.

The pass finds the inputs in the cache, and one exponential serves for the softplus, its logarithm and its slope. Units
that are zeros and ones are not multiplied by but listed, where few are on (``matmul.units``).
"""

from __future__ import annotations

import numpy as np

from ..layout import read_only
from ..matmul.cpu import F4, multiply
from ..matmul.units import add_up, linear, lists_of
from ..numba_config import prange, serial_and_parallel
from ..registry import kernel
from ..vecmath import ONE, ZERO, exp, log1p, vector, vector_sums
from .reference import value_cost, vjp_cost

COMPILED_FROM = 1 << 14  # multiplications; below, NumPy's few microseconds are not worth a compilation
PARALLEL_FROM = 1 << 14  # hidden units; below this a second thread costs more than it saves
ROWS = 4  # that a thread takes at a time


@vector_sums
def _dot(a, b):
    total = ZERO
    for j in range(a.size):
        total += a[j] * b[j]
    return total


@vector_sums
def _finish(z, offset):
    """Of a row of inputs the sum of log(1 + e^z) - offset z; it becomes sigmoid(z) - offset."""
    total = ZERO
    for j in range(z.size):
        x = z[j]
        e = exp(-abs(x))
        s = ONE / (ONE + e)
        total += ((x if x > ZERO else ZERO) + log1p(e)) - offset[j] * x
        z[j] = (e * s if x < ZERO else s) - offset[j]
    return total


@vector
def _some(first, v, visible_bias, offset, z, energy):
    for i in range(first, min(first + ROWS, v.shape[0])):
        energy[i] = -_dot(v[i], visible_bias) - _finish(z[i], offset)


@vector
def _scale(first, g, activity, signed):
    for i in range(first, min(first + ROWS, g.size)):
        for j in range(activity.shape[1]):
            signed[i, j] = -g[i] * activity[i, j]


def _energies(v, visible_bias, offset, z, energy):
    for part in prange(-(-v.shape[0] // ROWS)):
        _some(part * ROWS, v, visible_bias, offset, z, energy)


def _signed(g, activity, signed):
    for part in prange(-(-g.size // ROWS)):
        _scale(part * ROWS, g, activity, signed)


_compiled = {body: serial_and_parallel(body) for body in (_energies, _signed)}


def _is_worth_it(v: np.ndarray, weight: np.ndarray, *_: np.ndarray) -> bool:
    return len(v) * weight.size >= COMPILED_FROM


@kernel("free_energy", impl="numba", device="cpu", dtypes="f4", when=_is_worth_it, cost=value_cost)
def free_energy(
    v: np.ndarray, weight: np.ndarray, visible_bias: np.ndarray, hidden_bias: np.ndarray, hidden_offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    v = np.ascontiguousarray(v)
    activity, energy = linear(v, weight, hidden_bias), np.empty(len(v), F4)
    given = read_only(v, *map(np.ascontiguousarray, (visible_bias, hidden_offset)))
    _compiled[_energies][activity.size >= PARALLEL_FROM](*given, activity, energy)
    return energy, activity


@kernel("free_energy_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def free_energy_vjp(
    g: np.ndarray,
    y: None,
    v: np.ndarray,
    weight: np.ndarray,
    visible_bias: np.ndarray,
    hidden_bias: np.ndarray,
    hidden_offset: np.ndarray,
    activity: np.ndarray,
    *,
    needs: tuple[bool, ...],
) -> tuple:
    dv = dw = db = dc = d_offset = None
    signed = np.empty(activity.shape, F4)
    given = read_only(np.ascontiguousarray(g), np.ascontiguousarray(activity))
    _compiled[_signed][signed.size >= PARALLEL_FROM](*given, signed)
    if needs[0]:
        dv = np.empty(v.shape, F4)
        multiply(signed, weight, dv, -g[:, None] * visible_bias)
    if needs[1]:
        dw, v = np.empty(weight.shape, F4), np.ascontiguousarray(v)
        lists = lists_of(v, len(weight), turned=True)
        if lists is None:
            multiply(signed.T, v, dw)
        else:
            add_up(lists, signed, dw, turned=True)
    if needs[2]:
        db = np.empty(visible_bias.shape, F4)
        multiply(-g[None], v, db[None])
    if needs[3]:
        dc = np.empty(hidden_bias.shape, F4)
        multiply(-g[None], activity, dc[None])
    if needs[4]:
        d_offset = np.empty(hidden_offset.shape, F4)
        multiply(g[None], linear(v, weight, hidden_bias), d_offset[None])
    return dv, dw, db, dc, d_offset
