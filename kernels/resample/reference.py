"""A separable linear map of images: ``y = rows @ x @ columns^T`` in each channel, with sparse matrices.

Interpolation in all modes, average pooling and adaptive average pooling are this one op with other matrices, and its
derivative is itself with the transposed ones.
"""

from __future__ import annotations

import math
from typing import Any

from ..arrays import array_module, channels_last, widen
from ..registry import Cost, kernel
from .axis import AxisMap, at, read


def resample2d_cost(x: Any, *, rows: AxisMap | None, columns: AxisMap | None) -> Cost:
    """Reads x and writes y once; a multiplication and an addition for each product of a row's and a column's entry."""
    size = [m.outputs if m else length for m, length in zip((rows, columns), x.shape[2:])]
    entries = [len(m.index) if m else length for m, length in zip((rows, columns), x.shape[2:])]
    planes = math.prod(x.shape[:2])
    return Cost(bytes=(x.size + planes * math.prod(size)) * x.itemsize, flops=2 * planes * math.prod(entries))


@kernel("resample2d", cost=resample2d_cost)
def resample2d(x: Any, *, rows: AxisMap | None, columns: AxisMap | None) -> Any:
    """(N, C, H, W) in any strides to (N, C, P, Q), channels last in memory; None leaves an axis as it is."""
    axes = [(axis, m) for axis, m in ((1, rows), (2, columns)) if m is not None]
    if rows is not None and rows.outputs >= rows.inputs:
        axes.reverse()  # what grows comes last and what shrinks first
    y = widen(channels_last(x))
    for axis, m in axes:
        y = _apply(y, axis, m)
    scale = math.prod(m.scale for _, m in axes)
    if scale != 1:
        y *= scale
    return y.astype(x.dtype, copy=False).transpose(0, 3, 1, 2)


def _apply(x: Any, axis: int, m: AxisMap) -> Any:
    """The map along one axis without its scale, one jagged diagonal at a time, as a fresh array."""
    diagonals = m.diagonals
    if m.complete:  # the first diagonal reaches every output
        (_, index, weight), *diagonals = diagonals
        y = _product(x, axis, index, weight)
        if y.base is not None:
            y = y.copy()
    else:
        y = array_module(x).zeros((*x.shape[:axis], m.outputs, *x.shape[axis + 1 :]), x.dtype)
    for into, index, weight in diagonals:
        y[at(y, axis, into)] += _product(x, axis, index, weight)
    return y


def _product(x: Any, axis: int, index: Any, weight: Any) -> Any:
    """The entries at ``index`` along an axis, each times its weight; with nothing to compute it may be a view."""
    entries = read(x, axis, index)
    if weight is None:
        return entries
    return entries * array_module(x).asarray(weight, x.dtype).reshape((-1,) + (1,) * (x.ndim - 1 - axis))
