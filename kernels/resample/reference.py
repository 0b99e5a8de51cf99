"""A separable linear map of an image: ``y = rows @ x @ columns^T`` for each channel, the matrices being sparse.

Interpolation in all modes, average pooling and adaptive average pooling are this one op with other matrices, and its
derivative is itself with the transposed ones.
"""

from __future__ import annotations

from typing import Any

from ..arrays import array_module, channels_last, widen
from ..registry import Cost, kernel
from .axis import AxisMap, Selection, at, read


@kernel("resample2d")
def resample2d(x: Any, *, rows: AxisMap | None, columns: AxisMap | None) -> Any:
    """(N, C, H, W) in any strides to (N, C, P, Q), channels last in memory; None leaves an axis as it is."""
    axes = [(axis, m) for axis, m in ((1, rows), (2, columns)) if m is not None]
    if rows is not None and rows.outputs >= rows.inputs:
        axes.reverse()  # growing an axis comes last, shrinking it first
    y = widen(channels_last(x))
    for axis, m in axes:
        y = _apply(y, axis, m)
    for _, m in axes:
        if m.scale != 1:
            y *= m.scale
    return y.astype(x.dtype, copy=False).transpose(0, 3, 1, 2)


def _apply(x: Any, axis: int, m: AxisMap) -> Any:
    """The map without its scale, a jagged diagonal at a time, as a fresh array."""
    xp = array_module(x)
    diagonals = m.diagonals
    if m.complete:  # the first diagonal reaches every output
        (_, index, weight), *diagonals = diagonals
        y = _product(x, axis, index, weight)
        if y.base is not None:
            y = y.copy()
    else:
        y = xp.zeros((*x.shape[:axis], m.outputs, *x.shape[axis + 1 :]), x.dtype)
    for into, index, weight in diagonals:
        y[at(y, axis, into)] += _product(x, axis, index, weight)
    return y


def _product(x: Any, axis: int, index: Selection, weight: Any) -> Any:
    """The entries at ``index`` along ``axis``, each times its weight: a view if there is nothing to compute."""
    xp = array_module(x)
    entries = read(x, axis, index)
    if weight is None:
        return entries
    return entries * xp.asarray(weight, x.dtype).reshape((-1,) + (1,) * (x.ndim - 1 - axis))
