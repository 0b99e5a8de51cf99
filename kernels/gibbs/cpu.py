"""The Gibbs chain in Numba: a chain at a time from its first step to its last, numbers drawn where they are used.

No layer of uniform numbers, logits or probabilities is ever written to memory. The units are zeros and ones, so a
product with the weights is a sum of those rows whose unit is on: no multiplications, and as many additions as there
are units on. Four rows are added at a time, which reads and writes the sums a quarter as often.

Where there is more to do, a layer of all chains is one product, which keeps its sums in registers and reads the weights
once for all chains: by lists of the units that are on, or of matrices, if too many are (``matmul.units``). Its draws
are one pass after it.
"""

from __future__ import annotations

import numpy as np

from ..layout import read_only
from ..matmul.units import linear
from ..numba_config import njit, prange, serial_and_parallel
from ..philox.cpu import block as random_block
from ..philox.cpu import normal_pair
from ..registry import kernel
from ..vecmath import ONE, ZERO, sigmoid, vector
from .reference import blocks_of, gibbs_cost

PARALLEL_FROM = 1 << 15  # products of a weight and a unit; below this a second thread costs more than it saves
CHAINS = 4  # that a thread takes at a time
LAYERS_FROM = 1 << 19  # chains times weights, from which a layer of all chains is a product of matrices
_8, _SCALE = np.uint32(8), np.float32(2.0**-24)


@vector
def _affine(x, weight, bias, on, z):
    """``z = bias + x weight``, with ``weight`` [inputs, outputs]; ``on`` is space for the inputs that are not zero."""
    count = 0
    for i in range(x.size):
        if x[i] != ZERO:
            on[count] = i
            count += 1
    z[:] = bias
    i = 0
    while i + 4 <= count:
        p, q, r, s = on[i], on[i + 1], on[i + 2], on[i + 3]
        _add_four(weight[p], weight[q], weight[r], weight[s], x[p], x[q], x[r], x[s], z)
        i += 4
    while i < count:
        row, scale = weight[on[i]], x[on[i]]
        for j in range(z.size):
            z[j] += scale * row[j]
        i += 1


@vector
def _add_four(a, b, c, d, p, q, r, s, z):
    for j in range(z.size):
        z[j] += (p * a[j] + q * b[j]) + (r * c[j] + s * d[j])


@njit(nogil=True)
def _uniform(key, counter, u):
    """Fill ``u``, whole blocks, with uniform numbers."""
    for b in range(u.size // 4):
        w0, w1, w2, w3 = random_block(key, counter + np.uint64(b))
        u[4 * b] = np.float32(w0 >> _8) * _SCALE
        u[4 * b + 1] = np.float32(w1 >> _8) * _SCALE
        u[4 * b + 2] = np.float32(w2 >> _8) * _SCALE
        u[4 * b + 3] = np.float32(w3 >> _8) * _SCALE


@njit(nogil=True)
def _normal(key, counter, u):
    """Fill ``u``, whole blocks, with standard normal numbers."""
    for b in range(u.size // 4):
        w0, w1, w2, w3 = random_block(key, counter + np.uint64(b))
        u[4 * b], u[4 * b + 1] = normal_pair(w0, w1)
        u[4 * b + 2], u[4 * b + 3] = normal_pair(w2, w3)


@vector
def _temper(z, beta, base):
    for j in range(z.size):
        z[j] = beta * z[j] + (ONE - beta) * base[j]


@vector
def _flip_coins(z, u, x):
    """The means take the place of ``z``: by another name for it LLVM would have to take one number at a time."""
    for j in range(z.size):
        p = sigmoid(z[j])
        z[j] = p
        x[j] = ONE if u[j] < p else ZERO


@vector
def _hold(clamped, v, mean, x):
    for j in range(v.size):
        if clamped[j]:
            mean[j] = x[j] = v[j]


@njit(nogil=True)
def _draw(key, place, z, temper, beta, base, gaussian, u, x):
    """A layer of one chain: units ``x`` of inputs ``z``, which their means replace; ``u`` is space for whole blocks."""
    if temper:
        _temper(z, beta, base)
    if gaussian:
        _normal(key, place, u)
        x[:] = z + u[: z.size]
    else:
        _uniform(key, place, u)
        _flip_coins(z, u, x)


@njit(nogil=True)
def _run(first, last, key, counter, v, to_hidden, to_visible, b, c, beta, base, clamped, steps, gaussian, x, mean, h):
    chains, visible, hidden = v.shape[0], v.shape[1], c.size
    blocks_v, blocks_h = (visible + 3) // 4, (hidden + 3) // 4
    u_v, u_h = np.empty(4 * blocks_v, np.float32), np.empty(4 * blocks_h, np.float32)
    z_h, none = np.empty(hidden, np.float32), np.zeros(hidden, np.float32)
    on = np.empty(max(visible, hidden), np.int64)
    temper = beta.size > 0
    for r in range(first, last):
        x[r] = v[r]
        level = beta[r] if temper else ONE
        for s in range(steps):
            place = counter + np.uint64(s * chains * (blocks_v + blocks_h) + r * blocks_h)
            _affine(x[r], to_hidden, c, on, z_h)
            _draw(key, place, z_h, temper, level, none, False, u_h, h[r])
            place = counter + np.uint64(s * chains * (blocks_v + blocks_h) + chains * blocks_h + r * blocks_v)
            _affine(h[r], to_visible, b, on, mean[r])
            _draw(key, place, mean[r], temper, level, base, gaussian, u_v, x[r])
            if clamped.size > 0:
                _hold(clamped[r], v[r], mean[r], x[r])


def _gibbs(key, counter, v, to_hidden, to_visible, b, c, beta, base, clamped, steps, gaussian, x, mean, h):
    chains = v.shape[0]
    for group in prange((chains + CHAINS - 1) // CHAINS):
        _run(
            group * CHAINS, min(chains, (group + 1) * CHAINS), key, counter, v, to_hidden, to_visible, b, c, beta,
            base, clamped, steps, gaussian, x, mean, h,
        )  # fmt: skip


def _layer(key, place, z, beta, base, clamped, v, gaussian, x):
    """Draws of a layer of all chains: the units ``x``, and their means in place of the inputs ``z``."""
    chains, units = z.shape
    blocks = (units + 3) // 4
    for group in prange((chains + CHAINS - 1) // CHAINS):
        u = np.empty(4 * blocks, np.float32)
        for r in range(group * CHAINS, min(chains, (group + 1) * CHAINS)):
            level = beta[r] if beta.size > 0 else ONE
            own = place + np.uint64(r * blocks)
            _draw(key, own, z[r], beta.size > 0, level, base, gaussian, u, x[r])
            if clamped.size > 0:
                _hold(clamped[r], v[r], z[r], x[r])


_compiled, _layers = serial_and_parallel(_gibbs), serial_and_parallel(_layer)
_NONE, _NO_BOOLS = np.empty(0, np.float32), np.empty((0, 0), np.bool_)


@kernel("gibbs", impl="numba", device="cpu", dtypes="f4", cost=gibbs_cost)
def gibbs(
    v: np.ndarray,
    weight: np.ndarray,
    visible_bias: np.ndarray,
    hidden_bias: np.ndarray,
    beta: np.ndarray | None = None,
    base: np.ndarray | None = None,
    clamped: np.ndarray | None = None,
    *,
    key: np.ndarray,
    counter: int,
    steps: int,
    gaussian: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chains, hidden = len(v), len(hidden_bias)
    x, mean, h = np.empty(v.shape, np.float32), np.empty(v.shape, np.float32), np.empty((chains, hidden), np.float32)
    levels, start = (_NONE, _NONE) if beta is None or base is None else (beta, base)
    held = np.ascontiguousarray(np.broadcast_to(clamped, v.shape)) if clamped is not None else _NO_BOOLS
    if chains * weight.size >= LAYERS_FROM:
        arrays = [np.ascontiguousarray(a, np.float32) for a in (v, weight, visible_bias, hidden_bias, levels, start)]
        return _by_layers(key[0], counter, steps, gaussian, held, *arrays)
    given = (v, weight.T, weight, visible_bias, hidden_bias, levels, start)
    inputs = [np.ascontiguousarray(a, np.float32) for a in given]
    large = steps * chains * weight.size >= PARALLEL_FROM
    _compiled[large](key[0], np.uint64(counter), *read_only(*inputs, held), steps, gaussian, x, mean, h)
    return x, mean, h


def _by_layers(
    key: np.uint64, counter: int, steps: int, gaussian: bool, clamped: np.ndarray, v: np.ndarray, weight: np.ndarray,
    b: np.ndarray, c: np.ndarray, beta: np.ndarray, base: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """The same chains, a layer of all of them at a time."""
    chains, (hidden, visible) = len(v), weight.shape
    x, h, mean = v, np.empty((chains, hidden), np.float32), v
    nothing = read_only(np.zeros(hidden, np.float32), _NO_BOOLS, v)
    start, place, draw = read_only(base, clamped, v), counter, _layers[True]
    (beta,) = read_only(beta)
    for _ in range(steps):
        z = linear(x, weight, c)
        draw(key, np.uint64(place), z, beta, *nothing, False, h)
        place += chains * blocks_of(hidden)
        mean = linear(h, weight.T, b)
        x = np.empty((chains, visible), np.float32)
        draw(key, np.uint64(place), mean, beta, *start, gaussian, x)
        place += chains * blocks_of(visible)
    return x, mean, h
