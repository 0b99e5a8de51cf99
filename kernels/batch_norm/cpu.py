"""Batch norm in Numba, with or without an activation after it: once over x for its sums, once more for the result.

A channel is spread over the whole array, so it cannot stay in the cache as a group of group norm does. What can be
saved is a third pass for the variance, see ``row_norm``, and part of the second one's reading: it goes through each
thread's part backwards, beginning with what the first pass read last. The loops are those of ``channel_norm``.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np

from .. import channel_norm
from ..channel_norm import BLOCKS, COMPILED_FROM, PARALLEL_FROM, VERSION, as_matrices, channels_first, new_like, widths
from ..layout import read_only
from ..numba_config import prange, specialise
from ..registry import kernel
from ..vecmath import ZERO
from .reference import value_cost, vjp_cost

# `loops` gives these their values
column_sums: Any = None
column_values: Any = None
column_vjp_sums: Any = None
column_vjps: Any = None
row_sums: Any = None
row_values: Any = None
row_vjp_sums: Any = None
row_vjps: Any = None
fold: Any = None
sums_of: Any = None
values_of: Any = None
vjp_sums_of: Any = None
vjps_of: Any = None


def _fold(sums, total):
    for start in range(0, sums.size, total.size):
        for c in range(total.size):
            total[c] += sums[start + c]


# --- channels last: block ``b`` of x in one dimension. ``numbers`` has a row each for high, scale, shift, along, rest.


def _last_sums(x, first, sums, squares, piece, b):
    local = np.zeros((2, first.size))
    column_sums(x[b * piece : (b + 1) * piece], first, local[0], local[1])
    fold(local[0], sums[b])
    fold(local[1], squares[b])


def _last_values(x, numbers, parameter, y, piece, b):
    part = slice(b * piece, (b + 1) * piece)
    column_values(x[part], numbers[0], numbers[1], numbers[2], parameter, y[part], 0)


def _last_vjp_sums(g, x, numbers, parameter, sums, products, dx, narrow, piece, b):
    part = slice(b * piece, (b + 1) * piece)
    local = np.zeros((2, narrow))
    column_vjp_sums(g[part], x[part], numbers[0], numbers[1], numbers[2], parameter, local[0], local[1], dx[part])
    fold(local[0], sums[b])
    fold(local[1], products[b])


def _last_vjps(g, x, numbers, dx, piece, b):
    part = slice(b * piece, (b + 1) * piece)
    column_vjps(g[part], x[part], numbers[0], numbers[1], numbers[3], numbers[4], dx[part], 0)


# --- channels first: block ``b`` of the samples of x (N, C, positions)


def _first_sums(x, first, sums, squares, piece, b):
    for n in range(b * piece, min((b + 1) * piece, x.shape[0])):
        for c in range(x.shape[1]):
            total, square = row_sums(x[n, c], first[c])
            sums[b, c] += total
            squares[b, c] += square


def _first_values(x, numbers, parameter, y, piece, b):
    for n in range(b * piece, min((b + 1) * piece, x.shape[0])):
        for c in range(x.shape[1]):
            row_values(x[n, c], numbers[0, c], numbers[1, c], numbers[2, c], parameter, y[n, c])


def _first_vjp_sums(g, x, numbers, parameter, sums, products, dx, narrow, piece, b):
    for n in range(b * piece, min((b + 1) * piece, x.shape[0])):
        for c in range(x.shape[1]):
            high, scale, shift = numbers[0, c], numbers[1, c], numbers[2, c]
            total, product = row_vjp_sums(g[n, c], x[n, c], high, scale, shift, parameter, dx[n, c])
            sums[b, c] += total
            products[b, c] += product


def _first_vjps(g, x, numbers, dx, piece, b):
    for n in range(b * piece, min((b + 1) * piece, x.shape[0])):
        for c in range(x.shape[1]):
            row_vjps(g[n, c], x[n, c], numbers[0, c], numbers[1, c], numbers[3, c], numbers[4, c], dx[n, c])


# --- all blocks: each thread has a row of them


def _sums(x, first, sums, squares, piece, threads):
    blocks = sums.shape[0]
    for t in prange(threads):
        for b in range(blocks * t // threads, blocks * (t + 1) // threads):
            sums_of(x, first, sums, squares, piece, b)


def _values(x, numbers, parameter, y, piece, blocks, threads):
    for t in prange(threads):
        for b in range(blocks * (t + 1) // threads - 1, blocks * t // threads - 1, -1):
            values_of(x, numbers, parameter, y, piece, b)


def _vjp_sums(g, x, numbers, parameter, sums, products, dx, narrow, piece, threads):
    blocks = sums.shape[0]
    for t in prange(threads):
        for b in range(blocks * t // threads, blocks * (t + 1) // threads):
            vjp_sums_of(g, x, numbers, parameter, sums, products, dx, narrow, piece, b)


def _vjps(g, x, numbers, dx, piece, blocks, threads):
    for t in prange(threads):
        for b in range(blocks * (t + 1) // threads - 1, blocks * t // threads - 1, -1):
            vjps_of(g, x, numbers, dx, piece, b)


def _scaled_vjps(g, x, numbers, scaling, sums, products, dx, narrow, piece, threads):
    """With statistics that do not depend on x: the sums, and the gradient by the scale, while g is in the cache."""
    blocks = sums.shape[0]
    for t in prange(threads):
        for b in range(blocks * t // threads, blocks * (t + 1) // threads):
            vjp_sums_of(g, x, numbers, ZERO, sums, products, dx, narrow, piece, b)
            values_of(g, scaling, ZERO, dx, piece, b)


class Loops(NamedTuple):
    """The loops over all blocks, compiled for one thread and for all: index them by a bool."""

    sums: tuple[Any, Any]
    values: tuple[Any, Any]
    vjp_sums: tuple[Any, Any]
    vjps: tuple[Any, Any]
    scaled_vjps: tuple[Any, Any]


@cache
def loops(activation: str, first: bool) -> Loops:
    """For one activation and layout. Each is compiled when it is first called, or loaded from disk."""
    names = dict(channel_norm.names(activation))
    variant = f"{activation}_{'first' if first else 'last'}_{VERSION}"
    for name, body in (
        ("fold", _fold),
        ("sums_of", _first_sums if first else _last_sums),
        ("values_of", _first_values if first else _last_values),
        ("vjp_sums_of", _first_vjp_sums if first else _last_vjp_sums),
        ("vjps_of", _first_vjps if first else _last_vjps),
    ):
        names[name] = specialise(body, variant, names, error_model="numpy")

    def versions(body: Any) -> tuple[Any, Any]:
        return specialise(body, variant + "_serial", names), specialise(body, variant, names, parallel=True)

    return Loops(versions(_sums), versions(_values), versions(_vjp_sums), versions(_vjps), versions(_scaled_vjps))


class Plan:
    """How to go through x (N, C, ...): its layout, blocks and threads, and the loops with their numbers of channels."""

    def __init__(self, x: np.ndarray, activation: str = "none") -> None:
        self.like = x
        self.channels = x.shape[1]
        self.count = x.size // max(self.channels, 1)  # numbers of each channel
        self.first = channels_first(x)
        self.parallel = x.size >= PARALLEL_FROM
        self.loops = loops(activation, self.first)
        self.threads = numba.get_num_threads() if self.parallel else 1
        if self.first:
            self.narrow = self.wide = self.channels
            total, unit = len(x), 1
        else:
            self.narrow, self.wide = widths(self.channels, math.prod(x.shape[2:]) * len(x))
            total, unit = x.size, self.wide
        self.piece = unit * max(-(-total // (unit * BLOCKS)), 1)
        self.blocks = -(-total // self.piece)

    def numbers(self, *rows: np.ndarray) -> np.ndarray:
        """Numbers of each channel in float32, repeated along a row of the loops: (rows, width)."""
        return np.tile(np.asarray(rows, np.float32), self.wide // max(self.channels, 1))

    def array(self, a: np.ndarray) -> np.ndarray:
        """``a`` as the loops take it."""
        matrices = as_matrices(a, self.first)
        return matrices if self.first else matrices.reshape(-1)

    def new(self) -> tuple[np.ndarray, np.ndarray]:
        """An array like x, and its view as the loops take it."""
        y, out = new_like(self.like, self.first)
        return y, out if self.first else out.reshape(-1)

    def sums(self, x: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums of ``x - first`` and of its square, for each channel."""
        found = np.zeros((2, self.blocks, self.channels))
        firsts = np.tile(first, self.narrow // max(self.channels, 1))
        self.loops.sums[self.parallel](*read_only(x, firsts), found[0], found[1], self.piece, self.threads)
        return found[0].sum(0), found[1].sum(0)

    def vjp_sums(
        self, g: np.ndarray, x: np.ndarray, numbers: np.ndarray, parameter: np.float32, dx: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sums of the gradient before the activation, which with one goes to ``dx``, and of it times ``x - high``."""
        found = np.zeros((2, self.blocks, self.channels))
        inputs = read_only(g, x, numbers)
        run = self.loops.vjp_sums[self.parallel]
        run(*inputs, parameter, found[0], found[1], dx, self.narrow, self.piece, self.threads)
        return found[0].sum(0), found[1].sum(0)

    def scaled_vjps(
        self, g: np.ndarray, x: np.ndarray, numbers: np.ndarray, scaling: np.ndarray, dx: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sums of g and of ``g (x - high)``; and what ``values`` makes of g goes to ``dx``. Without an activation."""
        found = np.zeros((2, self.blocks, self.channels))
        run = self.loops.scaled_vjps[self.parallel]
        run(*read_only(g, x, numbers, scaling), found[0], found[1], dx, self.narrow, self.piece, self.threads)
        return found[0].sum(0), found[1].sum(0)

    def values(self, x: np.ndarray, numbers: np.ndarray, parameter: np.float32) -> np.ndarray:
        """``activate((x - high) * scale + shift)``, three rows of ``numbers``."""
        y, out = self.new()
        run = self.loops.values[self.parallel]
        run(*read_only(x, numbers), parameter, out, self.piece, self.blocks, self.threads)
        return y


def values(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    activation: str = "none",
    parameter: float = 0.0,
) -> tuple[np.ndarray, ...]:
    """y, mean and variance (C,); mean and 1 / standard deviation in float64 with axes kept."""
    plan = Plan(x, activation)
    first = x[(0, slice(None)) + (0,) * (x.ndim - 2)].astype(np.float64)
    a = plan.array(x)
    sums, squares = plan.sums(a, first)
    sums /= plan.count
    mean = first + sums
    var = np.maximum(squares / plan.count - sums * sums, 0)
    rstd = 1 / np.sqrt(var + eps)
    y = plan.values(a, plan.numbers(*_scaling(mean, rstd, weight, bias)), np.float32(parameter))
    kept = (1, -1) + (1,) * (x.ndim - 2)
    return y, mean.astype(np.float32), var.astype(np.float32), mean.reshape(kept), rstd.reshape(kept)


def _scaling(
    mean: np.ndarray, rstd: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None
) -> tuple[np.ndarray, ...]:
    """high, scale and shift of the loops."""
    high = mean.astype(np.float32)
    scale = rstd if weight is None else rstd * weight
    shift = (high - mean) * scale
    return high, scale, shift if bias is None else shift + bias


def vjps(
    g: tuple[np.ndarray, ...],
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    rstd: np.ndarray,
    activation: str = "none",
    parameter: float = 0.0,
) -> tuple[np.ndarray | None, ...]:
    """Gradients in x, weight and bias from those of y, mean and variance."""
    plan = Plan(x, activation)
    mean, rstd = (np.asarray(a, np.float64).reshape(-1) for a in (mean, rstd))
    high, scale, shift = _scaling(mean, rstd, weight, bias)
    low = high - mean
    gy, a = read_only(plan.array(g[0]), plan.array(x))
    dx, out = plan.new()
    dbias, products = plan.vjp_sums(gy, a, plan.numbers(high, scale, shift), np.float32(parameter), out)
    dweight = (products + low * dbias) * rstd
    # As in the reference: the gradient is scale g + along z + rest, with z made of x - high and low.
    along = (g[2] * 2.0 / rstd - scale * dweight) / plan.count * rstd
    rest = (g[1] - scale * dbias) / plan.count + along * low
    (numbers,) = read_only(plan.numbers(high, scale, shift, along, rest))
    plan.loops.vjps[plan.parallel](gy, a, numbers, out, plan.piece, plan.blocks, plan.threads)
    return (
        dx,
        None if weight is None else dweight.astype(np.float32),
        None if bias is None else dbias.astype(np.float32),
    )


def is_worth_it(x: np.ndarray, *_: Any, **__: Any) -> bool:
    """Whether x is large enough to compile for."""
    return x.size >= COMPILED_FROM


@kernel("batch_norm", impl="numba", device="cpu", dtypes="f4", when=is_worth_it, cost=value_cost)
def batch_norm(
    x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, *, eps: float
) -> tuple[np.ndarray, ...]:
    return values(x, weight, bias, eps)


@kernel("batch_norm_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def batch_norm_vjp(
    g: tuple[np.ndarray, ...],
    y: None,
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    rstd: np.ndarray,
    *,
    eps: float,
) -> tuple[np.ndarray | None, ...]:
    return vjps(g, x, weight, bias, mean, rstd)
