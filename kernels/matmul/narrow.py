"""The gradient of a narrow layer with its activation, in one pass over its rows.

A layer of 64 units of 64 inputs, as a 1x1 convolution is, moves as many bytes as it computes with: apart, the
activation's gradient and both products read or write seven matrices of rows, here four. A block of rows goes through
all three while it is in the cache. ``CHUNKS`` sums of the weights' gradient are kept and added at the end, however many
threads there are, so they change no bit.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from numba import float32, int64, types

from ..activation.reference import GELU_CUBIC, GELU_SLOPE
from ..numba_config import prange, specialise
from ..vecmath import ONE, ZERO, normal_cdf, sigmoid, vector
from .drivers import GELU, GELU_TANH, NONE, RELU, SILU, _run, scratch
from .gemm import DEPTH, PRIVATE, VERSION, _inner, aligned, multiply_block

WIDEST = 128  # inputs and outputs
FROM_ROWS = 1 << 11
CHUNKS = 16  # of the rows
BLOCK = DEPTH  # rows that go through together: as deep as a sum of a product is

_SLOPE, _CUBIC, _THREE_CUBIC = np.float32(GELU_SLOPE), np.float32(GELU_CUBIC), np.float32(3 * GELU_CUBIC)


@vector
def _slope_row(g, z, out, activation):
    """``g`` times the activation's slope at ``z``."""
    if activation == RELU:
        for j in range(g.size):
            out[j] = ZERO if z[j] <= ZERO else g[j]
    elif activation == SILU:
        for j in range(g.size):
            out[j] = g[j] * sigmoid(z[j]) * (ONE + z[j] * sigmoid(-z[j]))
    elif activation == GELU:
        for j in range(g.size):
            p, density = normal_cdf(z[j])
            out[j] = g[j] * (p + z[j] * density)
    elif activation == GELU_TANH:
        for j in range(g.size):
            u = _SLOPE * z[j] * (ONE + _CUBIC * z[j] * z[j])
            slope = _SLOPE * z[j] * (ONE + _THREE_CUBIC * z[j] * z[j])
            out[j] = g[j] * sigmoid(u) * (ONE + slope * sigmoid(-u))


@_inner
def _chunk(g, z, x, weight, activation, first, last, dx, dw, db, space):
    """Rows from ``first`` to ``last``; the gradients of weight and bias are those of these rows alone."""
    outputs, inputs = weight.shape
    kept = np.empty((BLOCK if activation != NONE else 0, outputs), np.float32)
    for top in range(first, last, BLOCK):
        bottom = min(last, top + BLOCK)
        rows, here = bottom - top, g.ctypes.data + 4 * top * outputs
        if activation != NONE:
            for i in range(top, bottom):
                _slope_row(_run(g, i, 0, outputs), _run(z, i, 0, outputs), kept[i - top], activation)
            here = kept.ctypes.data
        multiply_block(
            here, outputs, 1, 0, weight.ctypes.data, weight.strides[0] // 4, weight.strides[1] // 4, 0, 0, 0, 0,
            dx.ctypes.data + 4 * top * inputs, inputs, rows, inputs, outputs, space,
        )  # fmt: skip
        multiply_block(
            here, 1, outputs, 0, x.ctypes.data + 4 * top * inputs, inputs, 1, 0, dw.ctypes.data if top > first else 0,
            inputs, db.ctypes.data, dw.ctypes.data, inputs, outputs, inputs, rows, space,
        )  # fmt: skip


def _all(g, z, x, weight, activation, dx, dw, db, scratch, threads):
    rows, private = g.shape[0], aligned(scratch)
    for t in prange(threads):
        for chunk in range(t * CHUNKS // threads, (t + 1) * CHUNKS // threads):
            first, last = chunk * rows // CHUNKS, (chunk + 1) * rows // CHUNKS
            _chunk(g, z, x, weight, activation, first, last, dx, dw[chunk], db[chunk], private + 4 * t * PRIVATE)


@cache
def _compiled(parallel: bool) -> Any:
    def array(ndim: int, readonly: bool = False) -> Any:
        return types.Array(float32, ndim, "C", readonly=readonly)

    matrix = array(2, True)
    function = specialise(_all, f"{'parallel' if parallel else 'serial'}_{VERSION}", {}, parallel=parallel)
    outputs = array(2), array(3), array(2), types.Array(float32, 1, "A"), int64
    function.compile(types.void(matrix, matrix, matrix, types.Array(float32, 2, "A", readonly=True), int64, *outputs))
    function.disable_compile()
    return function


def gradients(
    g: np.ndarray, z: np.ndarray, x: np.ndarray, weight: np.ndarray, activation: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those of input, weight and bias, of matrices ``g`` and ``z`` (rows, outputs) and ``x`` (rows, inputs).

    ``z``: what the activation's slope is taken at; not looked at without one.
    """
    outputs, inputs = weight.shape
    dx = np.empty(x.shape, np.float32)
    dw, db = np.empty((CHUNKS, outputs, inputs), np.float32), np.zeros((CHUNKS, outputs), np.float32)
    threads = numba.get_num_threads()
    rows = (np.ascontiguousarray(a) for a in (g, z, x))
    _compiled(threads > 1)(*rows, weight, activation, dx, dw, db, scratch(threads), threads)
    return dx, dw.sum(0), db.sum(0)
