"""What group, instance and batch norm do over channels, in Numba: sums, results and gradients, in both layouts.

Channels last, a row is one position, which is short. So rows of several positions are taken together until they are
long enough for vectors, with the channels' numbers repeated along them, and sums are folded together at the end.
Channels first, a row is one channel of one sample.

Sums are float64, taken in one pass, of distances from a number of the set itself: see ``row_norm`` for why that is
exact enough whatever the mean, and for what ``high`` is. A result is ``activate((x - high) * scale + shift)``, in
which ``shift`` holds the bias and what ``high`` lacks of the mean. Sums in float64 and results in float32 by one
formula: that is why both layouts give the same numbers.

With an activation the backward pass first turns the gradient into that before the activation. It keeps it in ``dx``,
which it is about to write anyway.

While the numbers of one sample are worked on in the cache, those that lie ``ahead`` bytes further are fetched: the next
sample's, which the sums would have to wait for.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .column_sums import LANES, column_sums
from .column_sums import VERSION as column_sums_version
from .numba_config import specialise
from .vecmath import ONE, ZERO, exp, vector

COMPILED_FROM = 1 << 10  # elements; below, NumPy's few microseconds are not worth a compilation
PARALLEL_FROM = 1 << 15  # elements; below this a second thread costs more than it saves
BLOCKS = 64  # of samples or positions, each with its own sums: results do not depend on the number of threads
LONG_ENOUGH = 512  # elements of a row, to be worth starting a loop of vectors
CHUNK = 8192  # elements that stay in the first-level cache while all their columns are added up
POSITIONS = 32  # of a sample with channels first; with fewer, a copy with channels last is quicker
# For the names of what calls these loops: Numba's disk cache looks only at the file of the function that it caches.
VERSION = hashlib.sha256(Path(__file__).read_bytes() + column_sums_version.encode()).hexdigest()[:8]


@intrinsic
def _fetch(typing, address):
    """Ask for the line at an address, to have it in the second-level cache."""

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        line, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [line, word, word, word])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(fetch, [builder.inttoptr(values[0], line), word(0), word(2), word(1)])
        return context.get_dummy_value()

    return types.void(types.int64), emit


# --- activations: the value and the slope at u


@vector
def _itself(u, parameter):
    return u


@vector
def _one(u, parameter):
    return ONE


@vector
def _silu(u, parameter):
    e = exp(-abs(u))
    s = ONE / (ONE + e)
    return u * (e * s if u < ZERO else s)


@vector
def _silu_slope(u, parameter):
    e = exp(-abs(u))
    larger = ONE / (ONE + e)
    smaller = e * larger
    s = smaller if u < ZERO else larger
    return s * (ONE + u * (larger if u < ZERO else smaller))


@vector
def _leaky_relu(u, parameter):
    return u if u > ZERO else parameter * u


@vector
def _leaky_relu_slope(u, parameter):
    return ONE if u > ZERO else parameter


ACTIVATIONS = {
    "none": (_itself, _one),
    "silu": (_silu, _silu_slope),
    "leaky_relu": (_leaky_relu, _leaky_relu_slope),
}

ACTIVE = False  # `names` gives these their values
activate: Any = None
slope: Any = None
square_strips: Any = None
product_strips: Any = None
sum_row: Any = None
fetch_row: Any = None
scale_rows: Any = None
activation_vjp: Any = None
sum_vjp_row: Any = None
vjp_rows: Any = None


# --- channels last: numbers of each channel in arrays as long as a row


def _sum_row(x, first, sums, squares):
    for j in range(x.size):
        d = np.float64(x[j]) - first[j]
        sums[j] += d
        squares[j] += d * d


def _column_sums(x, first, sums, squares):
    """Adds the distances of x from ``first``, and their squares. x: any number of whole positions in one dimension."""
    w = sums.size
    rows = x.size // w if w % LANES == 0 else 0
    chunk = max(CHUNK // w, 1)
    for i in range(0, rows, chunk):
        square_strips(0, x.ctypes.data + 4 * i * w, w, min(chunk, rows - i), first.ctypes.data, sums.ctypes.data,
                      squares.ctypes.data)  # fmt: skip
    for a in range(rows * w, x.size, w):
        sum_row(x[a : a + w], first, sums, squares)


def _fetch_row(x, i, ahead):
    """What lies ``ahead`` of row i of x, unless that is 0."""
    if ahead:
        start = x.ctypes.data + 4 * i * x.shape[1] + ahead
        for line in range(start, start + 4 * x.shape[1], 64):
            _fetch(line)


def _scale_rows(x, high, scale, shift, parameter, y, ahead):
    for i in range(x.shape[0]):
        fetch_row(x, i, ahead)
        for j in range(x.shape[1]):
            y[i, j] = activate((x[i, j] - high[j]) * scale[j] + shift[j], parameter)


def _column_values(x, high, scale, shift, parameter, y, ahead):
    w = high.size
    rows = x.size // w
    a = rows * w
    scale_rows(x[:a].reshape(rows, w), high, scale, shift, parameter, y[:a].reshape(rows, w), ahead)
    if a < x.size:
        scale_rows(x[a:].reshape(1, x.size - a), high, scale, shift, parameter, y[a:].reshape(1, x.size - a), ahead)


def _activation_vjp(g, x, high, scale, shift, parameter, dx):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            dx[i, j] = g[i, j] * slope((x[i, j] - high[j]) * scale[j] + shift[j], parameter)


def _sum_vjp_row(g, x, high, sums, products):
    for j in range(g.size):
        sums[j] += np.float64(g[j])
        products[j] += np.float64(g[j]) * np.float64(x[j] - high[j])


def _column_vjp_sums(g, x, high, scale, shift, parameter, sums, products, dx):
    """Adds the gradient before the activation, and its products with ``x - high``."""
    w, narrow = high.size, sums.size
    whole = x.size - x.size % w if narrow % LANES == 0 else 0
    chunk = max(CHUNK // w, 1) * w
    source = dx.ctypes.data if ACTIVE else g.ctypes.data
    for a in range(0, whole, chunk):
        b = min(a + chunk, whole)
        if ACTIVE:
            rows = (b - a) // w
            activation_vjp(g[a:b].reshape(rows, w), x[a:b].reshape(rows, w), high, scale, shift, parameter,
                           dx[a:b].reshape(rows, w))  # fmt: skip
        product_strips(source + 4 * a, x.ctypes.data + 4 * a, narrow, (b - a) // narrow, high.ctypes.data,
                       sums.ctypes.data, products.ctypes.data)  # fmt: skip
    for a in range(whole, x.size, narrow):
        b = min(a + narrow, x.size)
        if ACTIVE:
            activation_vjp(g[a:b].reshape(1, b - a), x[a:b].reshape(1, b - a), high, scale, shift, parameter,
                           dx[a:b].reshape(1, b - a))  # fmt: skip
            sum_vjp_row(dx[a:b], x[a:b], high, sums, products)
        else:
            sum_vjp_row(g[a:b], x[a:b], high, sums, products)


def _vjp_rows(g, x, high, scale, along, rest, dx, ahead):
    for i in range(x.shape[0]):
        if not ACTIVE:  # the loop of the activation's gradient leaves no time in which to wait
            fetch_row(g, i, ahead)
            fetch_row(x, i, ahead)
        for j in range(x.shape[1]):
            gj = dx[i, j] if ACTIVE else g[i, j]
            dx[i, j] = gj * scale[j] + ((x[i, j] - high[j]) * along[j] + rest[j])


def _column_vjps(g, x, high, scale, along, rest, dx, ahead):
    w = high.size
    rows = x.size // w
    a = rows * w
    vjp_rows(g[:a].reshape(rows, w), x[:a].reshape(rows, w), high, scale, along, rest, dx[:a].reshape(rows, w), ahead)
    if a < x.size:
        b = x.size - a
        vjp_rows(g[a:].reshape(1, b), x[a:].reshape(1, b), high, scale, along, rest, dx[a:].reshape(1, b), ahead)


# --- channels first: a row has one channel


def _row_sums(x, first):
    total = 0.0
    squares = 0.0
    for j in range(x.size):
        d = np.float64(x[j]) - first
        total += d
        squares += d * d
    return total, squares


def _row_values(x, high, scale, shift, parameter, y):
    for j in range(x.size):
        y[j] = activate((x[j] - high) * scale + shift, parameter)


def _row_vjp_sums(g, x, high, scale, shift, parameter, dx):
    total = 0.0
    products = 0.0
    for j in range(x.size):
        distance = x[j] - high
        gj = g[j]
        if ACTIVE:
            gj = gj * slope(distance * scale + shift, parameter)
            dx[j] = gj
        total += np.float64(gj)
        products += np.float64(gj) * np.float64(distance)
    return total, products


def _row_vjps(g, x, high, scale, along, rest, dx):
    for j in range(x.size):
        gj = dx[j] if ACTIVE else g[j]
        dx[j] = gj * scale + ((x[j] - high) * along + rest)


@cache
def names(activation: str) -> dict[str, Any]:
    """The loops above, compiled for one activation, under their names without underscore."""
    activate, slope = ACTIVATIONS[activation]
    found: dict[str, Any] = {"ACTIVE": activation != "none", "activate": activate, "slope": slope}
    found |= {"square_strips": column_sums(paired=False), "product_strips": column_sums(paired=True)}
    plain = {"error_model": "numpy", "fastmath": {"contract"}}
    sums = {"error_model": "numpy", "fastmath": {"contract", "reassoc"}}
    for body, options in (
        (_sum_row, plain), (_column_sums, plain), (_fetch_row, plain), (_scale_rows, plain), (_column_values, plain),
        (_activation_vjp, plain), (_sum_vjp_row, plain), (_column_vjp_sums, plain), (_vjp_rows, plain),
        (_column_vjps, plain), (_row_sums, sums), (_row_values, plain), (_row_vjp_sums, sums), (_row_vjps, plain),
    ):  # fmt: skip
        found[body.__name__[1:]] = specialise(body, f"{activation}_{column_sums_version}", found, **options)
    return found


# --- from arrays to rows


def widths(channels: int, positions: int) -> tuple[int, int]:
    """How many elements make a row when channels are last: for sums, whole vectors; for the others, long enough."""
    whole = min(LANES // math.gcd(channels, LANES), positions)
    narrow = max(whole * channels, 1)
    return narrow, narrow * max(min(-(-LONG_ENOUGH // narrow), positions // whole if whole else 1), 1)


def channels_first(x: np.ndarray) -> bool:
    """Whether to work on x (N, C, ...) with channels first: it lies so, and its rows of positions are long enough."""
    return x.flags.c_contiguous and x[:1, :1].size >= POSITIONS


def as_matrices(a: np.ndarray, first: bool) -> np.ndarray:
    """(N, C, ...) as a contiguous (N, C, positions), or (N, positions * C) with channels last; copied if it must be."""
    positions = math.prod(a.shape[2:])
    if first:
        return np.ascontiguousarray(a).reshape(*a.shape[:2], positions)
    return np.ascontiguousarray(a.transpose(_last(a.ndim))).reshape(a.shape[0], positions * a.shape[1])


def new_like(x: np.ndarray, first: bool) -> tuple[np.ndarray, np.ndarray]:
    """An array of x's shape in the layout that the loops write, and its view as they take it."""
    if first:
        y = np.empty(x.shape, np.float32)
        return y, y.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    last = _last(x.ndim)
    shell = np.empty([x.shape[i] for i in last], np.bool_).transpose(0, x.ndim - 1, *range(1, x.ndim - 1))
    y = np.empty_like(shell, np.float32)  # in the shell's memory order, and owner of its memory
    return y, y.transpose(last).reshape(x.shape[0], math.prod(x.shape[1:]))


def _last(ndim: int) -> tuple[int, ...]:
    return (0, *range(2, ndim), 1)


def parameter(p: np.ndarray | None, default: np.float32, channels: int) -> np.ndarray:
    """A number for each channel."""
    return np.full(channels, default) if p is None else np.ascontiguousarray(p)
