"""Group norm in Numba, with or without an activation after it: a sample comes from memory once.

Its sums are taken, the groups' statistics made of them, and the result written while the sample is in the cache. The
loops over channels are those of ``channel_norm``; here is what happens between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .. import channel_norm
from ..channel_norm import BLOCKS, COMPILED_FROM, PARALLEL_FROM, VERSION, as_matrices, channels_first, new_like, widths
from ..layout import read_only
from ..numba_config import prange, specialise
from ..onto import VERSION as ONTO_VERSION
from ..onto import add_rows, table
from ..registry import kernel
from ..vecmath import ONE, ZERO
from .reference import value_cost, vjp_cost

CHUNK = 1 << 12  # elements that stay in the first-level cache until they are added up

# `loops` gives these their values
column_sums: Any = None
column_values: Any = None
column_vjp_sums: Any = None
column_vjps: Any = None
row_sums: Any = None
row_values: Any = None
row_vjp_sums: Any = None
row_vjps: Any = None
statistics: Any = None
repeat: Any = None
fold: Any = None
of_channel: Any = None
of_sample: Any = None
of_group: Any = None
some_values: Any = None
vjps_of_block: Any = None
some_vjps: Any = None


def _statistics(first, total, squares, count, eps):
    """Mean and 1 / standard deviation from sums of distances from ``first`` and of their squares."""
    total /= count
    return first + total, 1 / math.sqrt(max(squares / count - total * total, 0.0) + eps)


def _of_channel(mean, rstd, weight, bias):
    """high, scale and shift of the loops."""
    high = np.float32(mean)
    return high, np.float32(rstd * weight), np.float32(bias + (high - mean) * rstd * weight)


def _repeat(a, period):
    for start in range(period, a.size, period):
        for j in range(period):
            a[start + j] = a[j]


def _fold(a, period):
    for start in range(period, a.size, period):
        for j in range(period):
            a[j] += a[start + j]


def _of_sample(means, rstds, weight, bias, added, numbers):
    """``of_channel`` for every channel, repeated along a row of several positions.

    What is ``added`` to x is taken from the mean instead.
    """
    size = weight.size // means.size
    high, scale, shift = numbers[0], numbers[1], numbers[2]
    for group in range(means.size):
        for c in range(group * size, (group + 1) * size):
            high[c], scale[c], shift[c] = of_channel(means[group] - added[c], rstds[group], weight[c], bias[c])
    repeat(high, weight.size)
    repeat(scale, weight.size)
    repeat(shift, weight.size)


def _last_values(x, weight, bias, added, eps, parameter, y, means, rstds, narrow, width, start, stop):
    """Samples ``start`` to ``stop`` of x (N, positions * C).

    ``added`` (N or 1, C) to all positions of a sample changes its sums by what is known of them.
    """
    channels, groups = weight.size, means.shape[1]
    size = channels // groups
    count = x.shape[1] // groups
    positions = x.shape[1] // channels
    numbers = np.empty((3, width), np.float32)
    totals = np.empty((3, narrow))
    first, sums, squares = totals[0], totals[1], totals[2]
    for n in range(start, stop):
        more = added[min(n, added.shape[0] - 1)]
        for group in range(groups):
            for c in range(group * size, (group + 1) * size):
                first[c] = x[n, group * size]
        repeat(first, channels)
        for j in range(narrow):
            sums[j] = 0.0
            squares[j] = 0.0
        column_sums(x[n], first, sums, squares)
        fold(sums, channels)
        fold(squares, channels)
        for group in range(groups):
            total = 0.0
            square = 0.0
            for c in range(group * size, (group + 1) * size):
                a = np.float64(more[c])
                total += sums[c] + positions * a
                square += squares[c] + a * (2 * sums[c] + positions * a)
            means[n, group], rstds[n, group] = statistics(first[group * size], total, square, count, eps)
        of_sample(means[n], rstds[n], weight, bias, more, numbers)
        ahead = x.strides[0] if n + 1 < x.shape[0] else 0
        column_values(x[n], numbers[0], numbers[1], numbers[2], parameter, y[n], ahead)


def _first_values(x, weight, bias, added, eps, parameter, y, means, rstds, narrow, width, start, stop):
    """Samples ``start`` to ``stop`` of x (N, C, positions)."""
    groups = means.shape[1]
    size = weight.size // groups
    positions = x.shape[2]
    count = size * positions
    for n in range(start, stop):
        more = added[min(n, added.shape[0] - 1)]
        for group in range(groups):
            first = np.float64(x[n, group * size, 0])
            total = 0.0
            square = 0.0
            for c in range(group * size, (group + 1) * size):
                a = np.float64(more[c])
                sums, squares = row_sums(x[n, c], first)
                total += sums + positions * a
                square += squares + a * (2 * sums + positions * a)
            means[n, group], rstds[n, group] = statistics(first, total, square, count, eps)
            for c in range(group * size, (group + 1) * size):
                high, scale, shift = of_channel(means[n, group] - more[c], rstds[n, group], weight[c], bias[c])
                row_values(x[n, c], high, scale, shift, parameter, y[n, c])


def _of_group(weight, sums, products, high, added, mean, rstd, start, stop, count, dweight, dbias):
    """What the gradient of a group has along ``x - mean``, and the rest; adds to the gradients of weight and bias.

    ``sums`` of the gradient and of its ``products`` with ``x - high``, for each channel from ``start`` to ``stop``.
    """
    total = 0.0
    along = 0.0
    for c in range(start, stop):
        product = (products[c] + (high[c] - (mean - added[c])) * sums[c]) * rstd
        dweight[c] += product
        dbias[c] += sums[c]
        total += weight[c] * sums[c]
        along += weight[c] * product
    return -along / count * rstd * rstd, -total / count * rstd


def _last_vjps(
    g, x, weight, bias, added, means, rstds, parameter, onto, dx, dweight, dbias, dadded, narrow, width, start, stop
):
    channels, groups = weight.size, means.shape[1]
    size = channels // groups
    count = x.shape[1] // groups
    numbers = np.empty((5, width), np.float32)
    high, scale, shift, along, rest = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    totals = np.empty((3, narrow))
    sums, products, nothing = totals[0], totals[1], totals[2]
    chunk = max(CHUNK // width, 1) * width
    for j in range(narrow):
        nothing[j] = 0.0
    for n in range(start, stop):
        more = added[min(n, added.shape[0] - 1)]
        of_sample(means[n], rstds[n], weight, bias, more, numbers)
        for j in range(narrow):
            sums[j] = 0.0
            products[j] = 0.0
        column_vjp_sums(g[n], x[n], high, scale, shift, parameter, sums, products, dx[n])
        fold(sums, channels)
        fold(products, channels)
        for group in range(groups):
            mean, rstd = means[n, group], rstds[n, group]
            a, b = of_group(weight, sums, products, high, more, mean, rstd, group * size, (group + 1) * size, count,
                            dweight, dbias)  # fmt: skip
            for c in range(group * size, (group + 1) * size):
                along[c] = a
                rest[c] = (high[c] - (mean - more[c])) * a + b
        repeat(along, channels)
        repeat(rest, channels)
        ahead = x.strides[0] if n + 1 < x.shape[0] else 0
        for j in range(narrow):
            sums[j] = 0.0
        for a in range(0, x.shape[1], chunk):
            b = min(a + chunk, x.shape[1])
            part = dx[n, a:b]
            column_vjps(g[n, a:b], x[n, a:b], high, scale, along, rest, part, ahead)
            if dadded.shape[0]:
                column_sums(part, nothing, sums, products)
            add_rows(part, onto, (n * x.shape[1] + a) // channels, channels)
        if dadded.shape[0]:
            fold(sums, channels)
            for c in range(channels):
                dadded[n, c] = sums[c]


def _first_vjps(
    g, x, weight, bias, added, means, rstds, parameter, onto, dx, dweight, dbias, dadded, narrow, width, start, stop
):
    groups = means.shape[1]
    size = weight.size // groups
    count = size * x.shape[2]
    sums, products = np.empty(weight.size), np.empty(weight.size)
    numbers = np.empty((3, weight.size), np.float32)
    high, scale, shift = numbers[0], numbers[1], numbers[2]
    for n in range(start, stop):
        more = added[min(n, added.shape[0] - 1)]
        of_sample(means[n], rstds[n], weight, bias, more, numbers)
        for group in range(groups):
            mean, rstd = means[n, group], rstds[n, group]
            for c in range(group * size, (group + 1) * size):
                sums[c], products[c] = row_vjp_sums(
                    g[n, c], x[n, c], high[c], scale[c], shift[c], parameter, dx[n, c]
                )  # fmt: skip
            a, b = of_group(weight, sums, products, high, more, mean, rstd, group * size, (group + 1) * size, count,
                            dweight, dbias)  # fmt: skip
            for c in range(group * size, (group + 1) * size):
                rest = np.float32((high[c] - (mean - more[c])) * a + b)
                row_vjps(g[n, c], x[n, c], high[c], scale[c], np.float32(a), rest, dx[n, c])
                if dadded.shape[0]:
                    dadded[n, c], _ = row_sums(dx[n, c], 0.0)
                add_rows(dx[n, c], onto, n * weight.size + c, x.shape[2])


def _all_values(x, weight, bias, added, eps, parameter, y, means, rstds, narrow, width, blocks):
    size = -(-x.shape[0] // blocks)
    for b in prange(blocks):
        some_values(x, weight, bias, added, eps, parameter, y, means, rstds, narrow, width,
                    b * size, min((b + 1) * size, x.shape[0]))  # fmt: skip


def _some_vjps(
    g, x, weight, bias, added, means, rstds, parameter, onto, dx, dweight, dbias, dadded, narrow, width, first, last
):
    """Blocks ``first`` to ``last`` of samples."""
    size = -(-x.shape[0] // dweight.shape[0])
    for b in range(first, last):
        vjps_of_block(g, x, weight, bias, added, means, rstds, parameter, onto, dx, dweight[b], dbias[b], dadded,
                      narrow, width, b * size, min((b + 1) * size, x.shape[0]))  # fmt: skip


def _all_vjps(
    g, x, weight, bias, added, means, rstds, parameter, onto, dx, dweight, dbias, dadded, narrow, width, blocks
):
    for b in prange(blocks):
        some_vjps(g, x, weight, bias, added, means, rstds, parameter, onto, dx, dweight, dbias, dadded, narrow, width,
                  b, b + 1)  # fmt: skip


class Loops(NamedTuple):
    """The compiled loops: over some samples or blocks on one thread, and over all on all threads."""

    values: Any
    all_values: Any
    vjps: Any
    all_vjps: Any


@cache
def loops(activation: str, first: bool) -> Loops:
    """For one activation and layout. Each is compiled when it is first called, or loaded from disk."""
    names = dict(channel_norm.names(activation))
    variant = f"{activation}_{'first' if first else 'last'}_{VERSION}_{ONTO_VERSION}"
    for helper in (_statistics, _repeat, _fold, _of_channel, _of_sample, _of_group):
        names[helper.__name__[1:]] = specialise(helper, variant, names, error_model="numpy")
    bodies: tuple[tuple[str, Callable[..., Any], bool], ...] = (
        ("some_values", _first_values if first else _last_values, False), ("all_values", _all_values, True),
        ("vjps_of_block", _first_vjps if first else _last_vjps, False), ("some_vjps", _some_vjps, False),
        ("all_vjps", _all_vjps, True),
    )  # fmt: skip
    for name, body, parallel in bodies:
        names[name] = specialise(body, variant, names, error_model="numpy", parallel=parallel)
    return Loops(names["some_values"], names["all_values"], names["some_vjps"], names["all_vjps"])


def _blocks(x: np.ndarray) -> int:
    return max(min(BLOCKS, len(x)), 1)


def values(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    num_groups: int,
    eps: float,
    activation: str = "none",
    added: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, and mean and 1 / standard deviation of each group in float64; ``added`` (N, C) to x before all else."""
    first, channels = channels_first(x), x.shape[1]
    y, out = new_like(x, first)
    means, rstds = np.empty((x.shape[0], num_groups)), np.empty((x.shape[0], num_groups))
    parameters = channel_norm.parameter(weight, ONE, channels), channel_norm.parameter(bias, ZERO, channels)
    sizes = widths(channels, math.prod(x.shape[2:]))
    inputs = read_only(as_matrices(x, first), *parameters, _rows(added, channels))
    arguments = (*inputs, eps, ZERO, out, means, rstds, *sizes)
    run = loops(activation, first)
    if x.size >= PARALLEL_FROM:
        run.all_values(*arguments, _blocks(x))
    else:
        run.values(*arguments, 0, len(x))
    kept = (x.shape[0], num_groups) + (1,) * (x.ndim - 1)
    return y, means.reshape(kept), rstds.reshape(kept)


def vjps(
    g: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    means: np.ndarray,
    rstds: np.ndarray,
    num_groups: int,
    activation: str = "none",
    added: np.ndarray | None = None,
    onto: tuple[np.ndarray, ...] = (),
) -> tuple[np.ndarray | None, ...]:
    """Gradients in x, weight, bias and what was ``added`` to x. The first has what is ``onto`` it."""
    first, channels = channels_first(x), x.shape[1]
    dx, out = new_like(x, first)
    sizes = widths(channels, math.prod(x.shape[2:]))
    dweight, dbias = np.zeros((_blocks(x), channels)), np.zeros((_blocks(x), channels))
    dadded = np.empty((0 if added is None else len(x), channels), np.float32)
    parameters = channel_norm.parameter(weight, ONE, channels), channel_norm.parameter(bias, ZERO, channels)
    statistics = (np.asarray(a, np.float64).reshape(-1, num_groups) for a in (means, rstds))
    run = loops(activation, first)
    inputs = read_only(as_matrices(g, first), as_matrices(x, first), *parameters, _rows(added, channels), *statistics)
    order = tuple(range(x.ndim)) if first else (0, *range(2, x.ndim), 1)
    there, _kept = table(onto, order, math.prod(x.shape[2:]) if first else channels)
    arguments = (*inputs, ZERO, there, out, dweight, dbias, dadded, *sizes)
    if x.size >= PARALLEL_FROM:
        run.all_vjps(*arguments, _blocks(x))
    else:
        run.vjps(*arguments, 0, _blocks(x))
    return (
        dx,
        None if weight is None else dweight.sum(0).astype(np.float32),
        None if bias is None else dbias.sum(0).astype(np.float32),
        None if added is None else dadded,
    )


def _rows(added: np.ndarray | None, channels: int) -> np.ndarray:
    return np.zeros((1, channels), np.float32) if added is None else np.ascontiguousarray(added)


def is_worth_it(x: np.ndarray, *_: Any, **__: Any) -> bool:
    """Whether x is large enough to compile for."""
    return x.size >= COMPILED_FROM


@kernel("group_norm", impl="numba", device="cpu", dtypes="f4", when=is_worth_it, cost=value_cost)
def group_norm(
    x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, *, num_groups: int, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return values(x, weight, bias, num_groups, eps)


@kernel("group_norm_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def group_norm_vjp(
    g: np.ndarray,
    y: None,
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    rstd: np.ndarray,
    *,
    num_groups: int,
    eps: float,
    onto: tuple[np.ndarray, ...] = (),
) -> tuple[np.ndarray | None, ...]:
    return vjps(g, x, weight, bias, mean, rstd, num_groups, onto=onto)[:3]
