"""Convolutions from many channels to few, as products of matrices: all taps of the few are columns of one matrix.

A tile of accumulators is 32 channels wide, so a convolution that makes four of 64 leaves most of it idle, and so does
the gradient of its filter. But nine taps of four channels are 36. Each pixel is multiplied by all of them at once,
(pixels, many) x (many, taps few), and what the taps say of a pixel is then added up where it belongs. For the gradient
in the weight the few channels are laid out once for each tap, and it is one product over all pixels, (taps few, pixels)
x (pixels, many). What is laid out belongs to one image or some rows of one, and stays in the cache.

The gradient's sum is kept in ``CHUNKS`` parts, however many threads there are, which are added at the end.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import float32, float64, int64, types
from numba.extending import intrinsic

from ..arrays import channels_last, empty_channels_last
from ..matmul.drivers import scratch
from ..matmul.gemm import DEPTH, PRIVATE, VERSION, _inner, aligned, multiply_block, parts
from ..matmul.tile import _VECTOR, LANES, ROWS, _live, _load, _store, move
from ..numba_config import prange, specialise
from ..registry import kernel
from ..simd import INT
from .reference import Pair, conv2d_cost, conv2d_input_cost, conv2d_weight_cost

MANY = 32  # channels, from which on it pays
LEAST_COLUMNS, COLUMNS = 16, 64  # taps times few channels
LEAST, MOST = 1 << 11, 1 << 12  # pixels of all images, and of one
CHUNKS = 16  # of the images
F4 = np.dtype(np.float32)


@intrinsic
def _add_taps(typing, z, down, z_row, across, z_tap, bias, y, few):
    """``y[c] = bias[c]`` + the sum over i < ``down`` and j < ``across`` of ``z[i z_row + j z_tap + c]``, c < ``few``.

    ``z``, ``bias`` and ``y`` are addresses, strides count numbers; ``LANES`` numbers are read at each tap.
    """

    def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        z, down, z_row, across, z_tap, bias, y, few = values
        mask = _live(builder, few)
        z_row, z_tap = builder.shl(z_row, INT(2)), builder.shl(z_tap, INT(2))
        before, rows = builder.block, builder.append_basic_block("taps.rows")
        taps, next_row = builder.append_basic_block("taps.taps"), builder.append_basic_block("taps.next")
        done = builder.append_basic_block("taps.done")
        start = _load(builder, builder.inttoptr(bias, _VECTOR.as_pointer()), mask)
        some = builder.and_(builder.icmp_signed(">", down, INT(0)), builder.icmp_signed(">", across, INT(0)))
        builder.cbranch(some, rows, done)

        builder.position_at_end(rows)
        i, row, total = builder.phi(INT), builder.phi(INT), builder.phi(_VECTOR)
        builder.branch(taps)

        builder.position_at_end(taps)
        j, place, within = builder.phi(INT), builder.phi(INT), builder.phi(_VECTOR)
        added = builder.fadd(within, _load(builder, builder.inttoptr(place, _VECTOR.as_pointer())))
        j_next, place_next = builder.add(j, INT(1)), builder.add(place, z_tap)
        builder.cbranch(builder.icmp_signed("<", j_next, across), taps, next_row)

        builder.position_at_end(next_row)
        i_next, row_next = builder.add(i, INT(1)), builder.add(row, z_row)
        builder.cbranch(builder.icmp_signed("<", i_next, down), rows, done)

        for phi, first, following in ((i, INT(0), i_next), (row, z, row_next), (total, start, added)):
            phi.add_incoming(first, before)
            phi.add_incoming(following, next_row)
        for phi, first, following in ((j, INT(0), j_next), (place, row, place_next), (within, total, added)):
            phi.add_incoming(first, rows)
            phi.add_incoming(following, taps)

        builder.position_at_end(done)
        result = builder.phi(_VECTOR)
        result.add_incoming(start, before)
        result.add_incoming(added, next_row)
        _store(builder, result, builder.inttoptr(y, _VECTOR.as_pointer()), mask)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 8), emit


@_inner
def _values_of_image(x, matrix, bias, y, down, across, top, left, z, space):
    """``y`` [rows, columns, few] of ``x`` [rows, columns, many]: output p reads pixel p + tap + (top, left).

    ``matrix`` [many, down across few]; ``z`` is space, with ``LANES`` numbers to spare.
    """
    height, width, many = x.shape
    columns, few = matrix.shape[1], y.shape[2]
    multiply_block(
        x.ctypes.data, many, 1, 0, matrix.ctypes.data, columns, 1, 0, 0, 0, 0, z.ctypes.data, columns, height * width,
        columns, many, space,
    )  # fmt: skip
    row, tap = width * columns + across * few, columns + few
    for h in range(y.shape[0]):
        i = max(0, -h - top)
        end = min(down, height - h - top)
        for w in range(y.shape[1]):
            j = max(0, -w - left)
            stop = min(across, width - w - left)
            place = ((h + i + top) * width + w + j + left) * columns + (i * across + j) * few
            target = y.ctypes.data + 4 * (h * y.shape[1] + w) * few
            _add_taps(z.ctypes.data + 4 * place, end - i, row, stop - j, tap, bias.ctypes.data, target, few)


def _values(x, matrix, bias, y, down, across, top, left, scratch, threads):
    private = aligned(scratch)
    for t in prange(threads):
        z = np.empty(x.shape[1] * x.shape[2] * matrix.shape[1] + LANES, np.float32)
        for n in range(t * x.shape[0] // threads, (t + 1) * x.shape[0] // threads):
            _values_of_image(x[n], matrix, bias, y[n], down, across, top, left, z, private + 4 * t * PRIVATE)


@_inner
def _lay_out(padded, first, rows, width, down, across, few, laid):
    """For pixels of ``rows`` rows, from the ``first`` on, the few channels at each tap."""
    run = across * few
    line = (width + across - 1) * few
    for h in range(rows):
        for w in range(width):
            place = (h * width + w) * down * run
            for i in range(down):
                source, target = (first + h + i) * line + w * few, place + i * run
                for j in range(0, run, LANES):  # beyond the run, what is to come overwrites
                    move(padded.ctypes.data + 4 * (source + j), laid.ctypes.data + 4 * (target + j), LANES)


@_inner
def _gradient_of_image(x, y, down, across, top, left, padded, laid, sums, totals, space):
    """Add to ``sums`` [down across few, many] and to ``totals`` [few] what an image says.

    ``x`` is of many channels, ``y`` of few. Of so few rows that two tiles hold them, a product reads x where it lies.
    """
    height, width, many = x.shape
    few, row = y.shape[2], sums.shape[0]
    line = (width + across - 1) * few
    padded[:] = np.float32(0)
    for h in range(y.shape[0]):
        reached = 0 <= h - top < height + down - 1
        for w in range(y.shape[1]):
            for c in range(few):
                totals[c] += y[h, w, c]
                if reached and 0 <= w - left < width + across - 1:
                    padded[(h - top) * line + (w - left) * few + c] = y[h, w, c]
    step, shares = max(1, DEPTH // width), parts(row, 2 * ROWS)
    for first in range(0, height, step):
        rows = min(step, height - first)
        _lay_out(padded, first, rows, width, down, across, few, laid)
        for share in range(shares):
            low, high = share * row // shares, (share + 1) * row // shares
            target = sums.ctypes.data + 4 * low * many
            multiply_block(
                laid.ctypes.data + 4 * low, 1, row, 0, x.ctypes.data + 4 * first * width * many, many, 1, 0, target,
                many, 0, target, many, high - low, many, rows * width, space,
            )  # fmt: skip


def _gradients(x, y, down, across, top, left, sums, totals, scratch, threads):
    images, private = x.shape[0], aligned(scratch)
    size = (x.shape[1] + down - 1) * (x.shape[2] + across - 1) * y.shape[3]
    for t in prange(threads):
        padded, laid = np.empty(size + 2 * LANES, np.float32), np.empty(DEPTH * sums.shape[1] + 2 * LANES, np.float32)
        for chunk in range(t * CHUNKS // threads, (t + 1) * CHUNKS // threads):
            for n in range(chunk * images // CHUNKS, (chunk + 1) * images // CHUNKS):
                _gradient_of_image(
                    x[n],
                    y[n],
                    down,
                    across,
                    top,
                    left,
                    padded,
                    laid,
                    sums[chunk],
                    totals[chunk],
                    private + 4 * t * PRIVATE,
                )


# --- compiled on first use


def _array(ndim: int, readonly: bool = True) -> Any:
    return types.Array(float32, ndim, "C", readonly=readonly)


@cache
def _compiled(body: Any, parallel: bool) -> Any:
    taps = [int64] * 4
    arguments = (
        (_array(4), _array(2), _array(1), _array(4, False), *taps)
        if body is _values
        else (_array(4), _array(4), *taps, _array(3, False), types.Array(float64, 2, "C"))
    )
    variant = f"{'parallel' if parallel else 'serial'}_{VERSION}"
    function = specialise(body, variant, {}, parallel=parallel, error_model="numpy")
    function.compile(types.void(*arguments, _array(1, False), int64))
    function.disable_compile()
    return function


def _run(body: Any, *arguments: Any) -> None:
    threads = numba.get_num_threads()
    _compiled(body, threads > 1)(*arguments, scratch(threads), threads)


# --- the ops


def _pays(many: int, few: int, taps: Pair, images: int, size: Pair, how: dict[str, Any]) -> bool:
    """``size``: of the image of many channels."""
    pixels = math.prod(size)
    plain = how["stride"] == how["dilation"] == (1, 1) and how["groups"] == 1 and math.prod(taps) > 1
    fits = (
        MANY <= many <= DEPTH
        and few <= LANES
        and LEAST_COLUMNS <= few * math.prod(taps) <= COLUMNS
        and size[1] <= DEPTH
    )
    return plain and fits and pixels <= MOST and pixels * images >= LEAST


def _from_many(x: np.ndarray, matrix: np.ndarray, b: np.ndarray | None, size: Pair, taps: Pair, start: Pair) -> Any:
    """``matrix`` (many, taps, few); output p reads pixel p + tap + ``start``."""
    few = matrix.shape[-1]
    y = empty_channels_last((len(x), few, *size), F4)
    flat = np.ascontiguousarray(matrix).reshape(x.shape[1], -1)
    bias = np.zeros(few, F4) if b is None else np.ascontiguousarray(b)
    _run(_values, channels_last(x), flat, bias, y.transpose(0, 2, 3, 1), *taps, *start)
    return y


def _fits_value(x: Any, w: Any, b: Any, **how: Any) -> bool:
    return _pays(w.shape[1], w.shape[0], w.shape[2:], len(x), x.shape[2:], how)


_on_cpu: dict[str, Any] = {"impl": "few", "device": "cpu", "dtypes": "f4", "priority": 12}


@kernel("conv2d", when=_fits_value, cost=conv2d_cost, **_on_cpu)
def conv2d(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, *, size: Pair, padding: Pair, **_: Any) -> np.ndarray:
    """As the reference, to few channels."""
    return _from_many(x, w.transpose(1, 2, 3, 0), b, size, w.shape[2:], (-padding[0], -padding[1]))


def _fits_input(y: Any, w: Any, b: Any, **how: Any) -> bool:
    return _pays(w.shape[0], w.shape[1], w.shape[2:], len(y), y.shape[2:], how)


@kernel("conv2d_input", when=_fits_input, cost=conv2d_input_cost, **_on_cpu)
def conv2d_input(
    y: np.ndarray, w: np.ndarray, b: np.ndarray | None, *, size: Pair, padding: Pair, **_: Any
) -> np.ndarray:
    """As the reference, of few channels: a convolution with the taps turned round."""
    taps = w.shape[2:]
    start = (padding[0] + 1 - taps[0], padding[1] + 1 - taps[1])
    return _from_many(y, w[:, :, ::-1, ::-1].transpose(0, 2, 3, 1), b, size, taps, start)


def _fits_weight(x: Any, y: Any, *, size: Pair, **how: Any) -> bool:
    return _pays(x.shape[1], y.shape[1], size, len(x), x.shape[2:], how)


@kernel("conv2d_weight_bias", when=_fits_weight, cost=conv2d_weight_cost, **_on_cpu)
def conv2d_weight_bias(
    x: np.ndarray, y: np.ndarray, *, size: Pair, padding: Pair, **_: Any
) -> tuple[np.ndarray, np.ndarray]:
    """As the reference, to few channels: they are laid out with the taps turned round."""
    many, few = x.shape[1], y.shape[1]
    start = (padding[0] + 1 - size[0], padding[1] + 1 - size[1])
    sums, totals = np.zeros((CHUNKS, math.prod(size) * few, many), F4), np.zeros((CHUNKS, few))
    _run(_gradients, channels_last(x), channels_last(y), *size, *start, sums, totals)
    w = sums.sum(0).reshape(*size, few, many)[::-1, ::-1].transpose(2, 3, 0, 1)
    return np.ascontiguousarray(w), totals.sum(0).astype(F4)


@kernel("conv2d_weight", when=_fits_weight, cost=conv2d_weight_cost, **_on_cpu)
def conv2d_weight(x: np.ndarray, y: np.ndarray, **how: Any) -> np.ndarray:
    """As the reference."""
    return conv2d_weight_bias(x, y, **how)[0]
