"""Layer norm, RMS norm and layer norm of a sum in Numba: the loops over one row, and over all.

A row comes from memory once. Its statistics are taken in one pass, as float64 sums of the distances d from its first
number: the variance E[d^2] - E[d]^2 loses at most as many digits as n has, because no number of a set lies further
than sqrt(n) standard deviations from its mean, and float64 has nine to spare. The second pass, over a row that is in
the cache by now, writes the result. The mean stays float64: a float32 near 4096 is off by up to 2e-4, which a result
of size 1 would show. The loops subtract its float32 part, exactly if x is near it, and correct by the rest.

The backward pass makes all gradients in one pass over memory. Those of weight and bias are sums over rows, which are
split into a fixed number of blocks with sums of their own: the result does not depend on the number of threads.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .layout import read_only
from .numba_config import prange, specialise

COMPILED_FROM = 1 << 7  # elements, where NumPy takes 8 us and the loops 6; a text that is written asks for them often
PARALLEL_FROM = 1 << 15  # elements; below this a second thread costs more than it saves
BLOCKS = 16  # of rows, each with its own sums for the gradients of weight and bias
CHUNK = 2048  # columns whose five arrays stay in the first-level cache
TOGETHER = 4  # rows longer than two chunks that share each chunk of weight, bias and their gradients

ONE, ZERO = np.float32(1), np.float32(0)
CENTRED = True  # `loops` gives these their values
RESIDUAL = False
statistics: Any = None
add: Any = None
scale_row: Any = None
vjp_sums: Any = None
vjp_row: Any = None
vjp_rows: Any = None
values_of: Any = None
vjps_of: Any = None


def _statistics(x, eps):
    """Mean (0 for RMS norm) and 1 / standard deviation of a row, in float64."""
    first = np.float64(x[0]) if CENTRED else 0.0
    total = 0.0
    squares = 0.0
    for j in range(x.size):
        d = np.float64(x[j]) - first
        total += d
        squares += d * d
    if CENTRED:
        total /= x.size
        return first + total, 1 / math.sqrt(max(squares / x.size - total * total, 0.0) + eps)
    return 0.0, 1 / math.sqrt(squares / x.size + eps)


def _add(x, residual, total):
    for j in range(x.size):
        total[j] = x[j] + residual[j]


def _scale_row(x, weight, bias, high, low, scale, y):
    for j in range(x.size):
        y[j] = ((x[j] - high) * scale + low) * weight[j] + bias[j]


def _values_of(x, residual, weight, bias, eps, total, y, means, rstds, first, last):
    for i in range(first, last):
        if RESIDUAL:
            add(x[i], residual[i], total[i])
        means[i], rstds[i] = statistics(total[i], eps)
        high = np.float32(means[i])
        low = np.float32((high - means[i]) * rstds[i])
        scale_row(total[i], weight, bias, high, low, np.float32(rstds[i]), y[i])


def _vjp_sums(g, x, weight, high, low, scale, dweight, dbias):
    """Sums of g w and g w z, z being the standardised x; adds the row's part of the gradients of weight and bias."""
    total = ZERO
    along = ZERO
    for j in range(x.size):
        z = (x[j] - high) * scale + low
        dweight[j] += g[j] * z
        dbias[j] += g[j]
        scaled = g[j] * weight[j]
        total += scaled
        along += scaled * z
    return total, along


def _vjp_row(g, more, x, weight, high, scale, slope, shift, dx):
    """``g w`` less its mean and its part along z, times 1 / standard deviation; ``more``: gradient of the sum."""
    for j in range(x.size):
        d = g[j] * weight[j] * scale + ((x[j] - high) * slope + shift)
        dx[j] = d + more[j] if RESIDUAL else d


def _vjp_rows(g, more, x, weight, means, rstds, dx, dweight, dbias, first, last):
    """Rows ``first`` to ``last``, as many at a time as share a chunk of columns."""
    width = x.shape[1]
    together = TOGETHER if width > 2 * CHUNK else 1
    sums = np.empty((together, 2))
    for start in range(first, last, together):
        stop = min(start + together, last)
        sums[:] = 0.0
        for a in range(0, width, CHUNK):
            b = min(a + CHUNK, width)
            for i in range(start, stop):
                high = np.float32(means[i])
                low = np.float32((high - means[i]) * rstds[i])
                scale = np.float32(rstds[i])
                total, along = vjp_sums(g[i, a:b], x[i, a:b], weight[a:b], high, low, scale, dweight[a:b], dbias[a:b])
                sums[i - start, 0] += total
                sums[i - start, 1] += along
        for i in range(start, stop):
            high = np.float32(means[i])
            total = sums[i - start, 0] / width if CENTRED else 0.0
            along = sums[i - start, 1] / width * rstds[i]
            slope = np.float32(-along * rstds[i])
            shift = np.float32(-(total + (high - means[i]) * along) * rstds[i])
            vjp_row(g[i], more[i], x[i], weight, high, np.float32(rstds[i]), slope, shift, dx[i])


def _vjps_of(g, more, x, weight, means, rstds, dx, dweight, dbias, first, last):
    """Blocks ``first`` to ``last`` of rows."""
    size = -(-x.shape[0] // BLOCKS)
    for b in range(first, last):
        start, stop = b * size, min((b + 1) * size, x.shape[0])
        vjp_rows(g, more, x, weight, means, rstds, dx, dweight[b], dbias[b], start, stop)


def _all_values(x, residual, weight, bias, eps, total, y, means, rstds):
    size = -(-x.shape[0] // BLOCKS)
    for b in prange(BLOCKS):
        values_of(x, residual, weight, bias, eps, total, y, means, rstds, b * size, min((b + 1) * size, x.shape[0]))


def _all_vjps(g, more, x, weight, means, rstds, dx, dweight, dbias):
    for b in prange(BLOCKS):
        vjps_of(g, more, x, weight, means, rstds, dx, dweight, dbias, b, b + 1)


class Loops(NamedTuple):
    """The compiled loops: over some rows or blocks on one thread, and over all on all threads."""

    values: Any
    all_values: Any
    vjps: Any
    all_vjps: Any


@cache
def loops(centred: bool, residual: bool) -> Loops:
    """For layer norm, or RMS norm if not ``centred``; of a sum with ``residual``. Compiled when first called."""
    variant = ("layer" if centred else "rms") + ("_sum" if residual else "")
    names: dict[str, Any] = {"CENTRED": centred, "RESIDUAL": residual}
    sums = {"error_model": "numpy", "fastmath": {"contract", "reassoc"}}
    plain = {"error_model": "numpy", "fastmath": {"contract"}}
    for body, options in (
        (_statistics, sums), (_add, plain), (_scale_row, plain), (_values_of, plain), (_vjp_sums, sums),
        (_vjp_row, plain), (_vjp_rows, plain), (_vjps_of, plain),
        (_all_values, {"parallel": True}), (_all_vjps, {"parallel": True}),
    ):  # fmt: skip
        names[body.__name__[1:]] = specialise(body, variant, names, **options)
    return Loops(names["values_of"], names["all_values"], names["vjps_of"], names["all_vjps"])


# --- from arrays to rows


def _rows(a: np.ndarray, width: int) -> np.ndarray:
    return np.ascontiguousarray(a).reshape(-1, width)


def _parameter(p: np.ndarray | None, default: np.float32, width: int) -> np.ndarray:
    return np.full(width, default) if p is None else np.ascontiguousarray(p).reshape(-1)


def values(
    x: np.ndarray,
    residual: np.ndarray | None,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    normalized_shape: tuple[int, ...],
    eps: float,
    centred: bool = True,
) -> tuple[np.ndarray, ...]:
    """y, ``x + residual`` (x itself without one), and mean and 1 / standard deviation of each row in float64."""
    width = math.prod(normalized_shape)
    y = np.empty(x.shape, np.float32)
    total = x if residual is None else np.empty(x.shape, np.float32)
    samples = x.shape[: x.ndim - len(normalized_shape)] + (1,) * len(normalized_shape)
    means, rstds = np.empty(samples), np.empty(samples)
    rows = _rows(x, width)
    inputs = read_only(rows, rows if residual is None else _rows(residual, width))
    parameters = read_only(_parameter(weight, ONE, width), _parameter(bias, ZERO, width))
    totals = inputs[0] if residual is None else total.reshape(-1, width)
    run = loops(centred, residual is not None)
    arguments = (*inputs, *parameters, eps, totals, y.reshape(-1, width), means.reshape(-1), rstds.reshape(-1))
    if x.size >= PARALLEL_FROM:
        run.all_values(*arguments)
    else:
        run.values(*arguments, 0, len(rows))
    return y, total, means, rstds


def vjps(
    g: np.ndarray,
    more: np.ndarray | None,
    x: np.ndarray,
    weight: np.ndarray | None,
    means: np.ndarray,
    rstds: np.ndarray,
    normalized_shape: tuple[int, ...],
    centred: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients in x, weight and bias from that of y, and from that of x as an output (``more``) if there is one."""
    width = math.prod(normalized_shape)
    dx = np.empty(x.shape, np.float32)
    dweight, dbias = np.zeros((BLOCKS, width), np.float32), np.zeros((BLOCKS, width), np.float32)
    rows = _rows(g, width)
    inputs = read_only(rows, rows if more is None else _rows(more, width), _rows(x, width))
    statistics = read_only(*(np.asarray(a, np.float64).reshape(-1) for a in (means, rstds)))
    (scale,) = read_only(_parameter(weight, ONE, width))
    run = loops(centred, more is not None)
    arguments = (*inputs, scale, *statistics, dx.reshape(-1, width), dweight, dbias)
    if x.size >= PARALLEL_FROM:
        run.all_vjps(*arguments)
    else:
        run.vjps(*arguments, 0, BLOCKS)
    return dx, dweight.sum(0).reshape(normalized_shape), dbias.sum(0).reshape(normalized_shape)
