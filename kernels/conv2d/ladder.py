"""Steps on the way to the fast kernels, for study: what the direct and the Winograd kernels are measured against.

``naive`` is the definition in seven loops. ``blocked`` has the same products in another order: outputs of a row stay in
the first-level cache, and the innermost loop runs along output channels, which LLVM turns into vectors. What it cannot
do is keep sums in registers: each product is loaded, added and stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import empty_channels_last
from ..parallel import array, c_function, fields, make, record, run, with_arrays
from ..registry import kernel
from .reference import Pair, conv2d_cost, pad, span

# x is padded; w is (groups, R, S, C/G, K/G)
CALL = fields(
    "x w b y height width channels groups outs tap_rows tap_columns rows columns step_down step_across dilation_down "
    "dilation_across"
)


def _naive(call, unit):
    """One row of outputs of an image."""
    call = record(call, CALL)
    image, p = unit // call.rows, unit % call.rows
    ins, outs = call.channels // call.groups, call.outs // call.groups
    size = (call.height, call.width, call.channels)
    x = array(call.x + 4 * image * call.height * call.width * call.channels, size, np.float32)
    w = array(call.w, (call.groups, call.tap_rows, call.tap_columns, ins, outs), np.float32)
    b = array(call.b, call.outs, np.float32)
    y = array(call.y + 4 * unit * call.columns * call.outs, (call.columns, call.outs), np.float32)
    for q in range(call.columns):
        for k in range(call.outs):
            g, total = k // outs, np.float32(0)
            for r in range(call.tap_rows):
                for s in range(call.tap_columns):
                    h = p * call.step_down + r * call.dilation_down
                    v = q * call.step_across + s * call.dilation_across
                    for c in range(ins):
                        total += x[h, v, g * ins + c] * w[g, r, s, c, k % outs]
            y[q, k] = total + b[k]


def _blocked(call, unit):
    """One row of outputs of an image."""
    call = record(call, CALL)
    image, p = unit // call.rows, unit % call.rows
    ins, outs = call.channels // call.groups, call.outs // call.groups
    size = (call.height, call.width, call.channels)
    x = array(call.x + 4 * image * call.height * call.width * call.channels, size, np.float32)
    w = array(call.w, (call.groups, call.tap_rows, call.tap_columns, ins, outs), np.float32)
    b = array(call.b, call.outs, np.float32)
    y = array(call.y + 4 * unit * call.columns * call.outs, (call.columns, call.groups, outs), np.float32)
    for q in range(call.columns):
        for g in range(call.groups):
            for k in range(outs):
                y[q, g, k] = b[g * outs + k]
    for g in range(call.groups):
        for r in range(call.tap_rows):
            h = p * call.step_down + r * call.dilation_down
            for s in range(call.tap_columns):
                for q in range(call.columns):
                    v = q * call.step_across + s * call.dilation_across
                    for c in range(ins):
                        value = x[h, v, g * ins + c]
                        for k in range(outs):
                            y[q, g, k] += value * w[g, r, s, c, k]


naive = c_function(_naive, "ladder")
blocked = c_function(_blocked, "ladder")


def _step(
    loops: Any,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    outs, ins, tap_rows, tap_columns = w.shape
    padded = pad(x, span(size, (tap_rows, tap_columns), stride, dilation), padding)
    by_tap = w.reshape(groups, outs // groups, ins, tap_rows, tap_columns).transpose(0, 3, 4, 2, 1)
    y = empty_channels_last((len(x), outs, *size), x.dtype)
    numbers = {
        "height": padded.shape[1],
        "width": padded.shape[2],
        "channels": padded.shape[3],
        "groups": groups,
        "outs": outs,
        "tap_rows": tap_rows,
        "tap_columns": tap_columns,
        "rows": size[0],
        "columns": size[1],
        "step_down": stride[0],
        "step_across": stride[1],
        "dilation_down": dilation[0],
        "dilation_across": dilation[1],
    }
    weights = np.ascontiguousarray(by_tap)
    bias = np.zeros(outs, x.dtype) if b is None else np.ascontiguousarray(b)
    run(loops, with_arrays(make(CALL, numbers), x=padded, w=weights, b=bias, y=y), len(x) * size[0])
    return y


@kernel("conv2d", impl="naive", device="cpu", dtypes="f4", cost=conv2d_cost, study=True)
def conv2d_naive(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    *,
    size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Seven loops, one sum."""
    return _step(naive, x, w, b, size, stride, padding, dilation, groups)


@kernel("conv2d", impl="blocked", device="cpu", dtypes="f4", cost=conv2d_cost, study=True)
def conv2d_blocked(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    *,
    size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """A row of outputs in cache, vectors by the compiler."""
    return _step(blocked, x, w, b, size, stride, padding, dilation, groups)
