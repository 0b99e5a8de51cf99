"""Interpolation and average pooling in CUDA C++."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import array_module, channels_last
from ..launch import TYPES, Module, Out, blocks_for
from ..registry import kernel
from .axis import AxisMap, identity
from .reference import resample2d_cost

MODULE = Module("resample/resample.cu", *(f"resample2d<{t}>" for t in TYPES.values()))
AXIS = np.dtype([("inputs", np.int32), ("outputs", np.int32)])


def axis(m: AxisMap) -> Any:
    """The kernels' ``Axis``."""
    return np.array((m.inputs, m.outputs), AXIS)[()]


@kernel("resample2d", impl="cuda", device="cuda emu", dtypes="f4 f2", cost=resample2d_cost)
def resample2d(x: Any, *, rows: AxisMap | None, columns: AxisMap | None) -> Any:
    """(N, C, H, W) in any strides to (N, C, P, Q), channels last in memory; None leaves an axis as it is."""
    xp = array_module(x)
    n, c, height, width = x.shape
    rows, columns = rows or identity(height), columns or identity(width)
    y = xp.empty((n, rows.outputs, columns.outputs, c), x.dtype)
    entries = [xp.asarray(a) for m in (rows, columns) for a in m.entries]
    MODULE.launch(
        f"resample2d<{TYPES[x.dtype.name]}>", *blocks_for(y.size), channels_last(x), *entries, Out(y),
        np.int64(y.size), np.int32(c), axis(rows), axis(columns),
    )  # fmt: skip
    return y.transpose(0, 3, 1, 2)
