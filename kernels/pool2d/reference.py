"""Max pooling, and the gather and scatter by saved indices that are its derivatives of every order."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import array_module, channels_last, widen
from ..registry import Cost, kernel
from ..resample.axis import AxisMap, at, read


def max_pool2d_cost(x: Any, *, rows: AxisMap, columns: AxisMap) -> Cost:
    """Reads x and writes values and 32-bit indices once; a comparison for each element of each window."""
    planes = x.shape[0] * x.shape[1]
    outputs = planes * rows.outputs * columns.outputs
    return Cost(x.nbytes + outputs * (x.itemsize + 4), planes * len(rows.index) * len(columns.index))


def pool_gather_cost(x: Any, index: Any) -> Cost:
    """Reads the indices and what they point to and writes as much."""
    return Cost(index.nbytes + 2 * index.size * x.itemsize, 0)


def pool_scatter_cost(y: Any, index: Any, *, size: tuple[int, int]) -> Cost:
    """Reads both arrays once, writes the zeros, then reads and writes what is added to."""
    zeros = y.shape[0] * y.shape[1] * size[0] * size[1] * y.itemsize
    return Cost(3 * y.nbytes + index.nbytes + zeros, y.size)


@kernel("max_pool2d", cost=max_pool2d_cost)
def max_pool2d(x: Any, *, rows: AxisMap, columns: AxisMap) -> tuple[Any, Any]:
    """The largest value of each window and its index in the flattened image, both (N, C, P, Q), channels last.

    The windows are the entries of two maps, whose weights do not count. Of equal values the first is taken, of NaNs,
    which pass for the largest, the last: as in torch. Windows are products of intervals, so columns come first, which
    makes each row shorter before rows are compared.
    """
    xp = array_module(x)
    values = channels_last(x)
    height, width = x.shape[2:]
    pixels = xp.arange(height * width, dtype=np.int32 if height * width < 1 << 31 else np.int64)
    index = xp.broadcast_to(pixels.reshape(1, height, width, 1), values.shape)
    for axis, m in ((2, columns), (1, rows)):
        values, index = _largest(values, index, axis, m)
    return values.transpose(0, 3, 1, 2), index.transpose(0, 3, 1, 2)


def _largest(values: Any, index: Any, axis: int, m: AxisMap) -> tuple[Any, Any]:
    """The largest of each window along one axis, and what ``index`` holds beside it."""
    xp = array_module(values)
    (_, first, _), *rest = m.diagonals
    best, best_index = read(values, axis, first).copy(), read(index, axis, first).copy()
    for into, place, _ in rest:
        window = at(values, axis, into)
        value, before = read(values, axis, place), best[window]
        better = (value > before) | (value != value)
        best[window] = xp.maximum(value, before)
        # As where(better, ...), which NumPy does not vectorize: this takes a sixth of its time.
        best_index[window] += better * (read(index, axis, place) - best_index[window])
    return best, best_index


@kernel("pool_gather", cost=pool_gather_cost)
def pool_gather(x: Any, index: Any) -> Any:
    """``y[n, c, p, q] = x[n, c].flatten()[index[n, c, p, q]]``, channels last in memory."""
    xp = array_module(x)
    n, c, p, q = index.shape
    flat = channels_last(x).reshape(n, x.shape[2] * x.shape[3], c)
    places = channels_last(index).reshape(n, p * q, c)
    return xp.take_along_axis(flat, places, 1).reshape(n, p, q, c).transpose(0, 3, 1, 2)


@kernel("pool_scatter", cost=pool_scatter_cost)
def pool_scatter(y: Any, index: Any, *, size: tuple[int, int]) -> Any:
    """The transpose of ``pool_gather``: each element of ``y`` is added to its place in zeros of (N, C, *size)."""
    xp = array_module(y)
    n, c = y.shape[:2]
    pixels = size[0] * size[1]
    y_last = widen(channels_last(y))
    x = xp.zeros((n, *size, c), y_last.dtype)
    images = xp.arange(n).reshape(n, 1, 1, 1) * pixels
    places = (images + channels_last(index)) * c + xp.arange(c)
    xp.add.at(x.reshape(-1), places.reshape(-1), y_last.reshape(-1))
    return x.astype(y.dtype, copy=False).transpose(0, 3, 1, 2)
