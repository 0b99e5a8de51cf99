"""Gradients of 1x1 filters from many pixels: sums of outer products, a block of pixels at a time.

The weight gradient of Winograd's convolution with the identity for a transform: what there are the tiles of a point
are pixels here. Both images are read where they lie, once, also if they are some of the channels of others, as the
gradients of what was joined are; sums, channels by channels, stay in the cache.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ..numba_config import prange, specialise
from ..registry import kernel
from .reference import Pair, conv2d_weight_cost
from .winograd import up
from .winograd_functions import VERSION, ZEROS, multiply_outer
from .winograd_places import GROUP, LINE, vectors_of
from .winograd_tile import LANES, fetch, tile

BLOCK = 256  # pixels; also what is added up one by one
LEAST = 1 << 10  # pixels; with fewer the sums are passed by too often
F4 = np.dtype(np.float32)


def _part(x, x_row, y, y_row, channels, outs, sums, totals, one, start, stop):
    """Sums (groups of channels, panels of outputs, GROUP, columns) over pixels from ``start`` to ``stop``, and y's.

    The next pixels are fetched meanwhile, some before each group: columns of pixels are no order that the processor
    would fetch by itself.
    """
    groups = (channels + GROUP - 1) // GROUP
    for first in range(start, stop, BLOCK):
        count = min(BLOCK, stop - first)
        left, next_x, next_y = x + 4 * first * x_row, x + 4 * (first + count) * x_row, y + 4 * (first + count) * y_row
        seed = ZEROS.ctypes.data if first == start else 0
        k = 0
        while k < outs:
            vectors = vectors_of(outs - k)
            right = y + 4 * (first * y_row + k)
            target, total = sums + 4 * GROUP * k, totals + 4 * k
            for n in range(groups):
                if k == 0:
                    for pixel in range(n * count // groups, (n + 1) * count // groups):
                        for channel in range(0, channels, LINE):
                            fetch(next_x + 4 * (pixel * x_row + channel))
                        for channel in range(0, outs, LINE):
                            fetch(next_y + 4 * (pixel * y_row + channel))
                low, high = n * GROUP, min((n + 1) * GROUP, channels)
                multiply_outer(left, x_row, right, y_row, target, GROUP * outs, low, high, vectors, count, seed)
            tile(one, 0, 0, right, y_row, total, 0, total, vectors * LANES, 1, vectors, count, right)
            k += vectors * LANES


def _weigh(x, x_row, y, y_row, channels, outs, pixels, sums, size, totals, one, parts, threads):
    for thread in prange(threads):
        for n in range(thread, parts, threads):
            start, stop = pixels * n // parts, pixels * (n + 1) // parts
            _part(x, x_row, y, y_row, channels, outs, sums + 4 * n * size, totals + 4 * n * outs, one, start, stop)


_compiled = specialise(
    _weigh, f"pixels_{VERSION}", {"_part": specialise(_part, f"pixels_{VERSION}", {})}, parallel=True
)  # fmt: skip


def _fits(x: Any, y: Any, *, size: Pair, stride: Pair, padding: Pair, groups: int, **_: Any) -> bool:
    """Whole vectors of outputs, and fewer of both channels than pixels."""
    pixels, (channels, outs) = y.size // max(y.shape[1], 1), (x.shape[1], y.shape[1])
    plain = (*size, *stride, *padding, groups) == (1, 1, 1, 1, 0, 0, 1)
    return plain and outs > 0 and outs % LANES == 0 and channels >= LANES and pixels >= max(LEAST, channels * outs)


def _rows(x: np.ndarray) -> np.ndarray:
    """(N, C, H, W) as (N H W, C) with neighbouring channels side by side; a view if that is how it lies."""
    rows = x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])
    return rows if rows.strides[1] == 4 else np.ascontiguousarray(rows)


_on_cpu: dict[str, Any] = {"impl": "pixels", "device": "cpu", "dtypes": "f4", "when": _fits, "priority": 12}


@kernel("conv2d_weight_bias", cost=conv2d_weight_cost, **_on_cpu)
def conv2d_weight_bias(x: np.ndarray, y: np.ndarray, **how: Any) -> tuple[np.ndarray, np.ndarray]:
    """As the reference, of 1x1 filters."""
    channels, outs = x.shape[1], y.shape[1]
    rows_x, rows_y = _rows(x), _rows(y)
    threads = numba.get_num_threads()
    parts = max(2, threads)  # always two, so that one thread and two add up in the same order
    size = up(channels, GROUP) * outs
    sums, totals, one = np.zeros((parts, size), F4), np.zeros((parts, outs), F4), np.ones(1, F4)
    row_x, row_y = rows_x.strides[0] // 4, rows_y.strides[0] // 4
    at_x, at_y, at_sums, at_totals, at_one = (a.ctypes.data for a in (rows_x, rows_y, sums, totals, one))
    _compiled(at_x, row_x, at_y, row_y, channels, outs, len(rows_y), at_sums, size, at_totals, at_one, parts, threads)
    w = np.empty((outs, channels, 1, 1), F4)
    groups = sums.reshape(parts, -1, GROUP * outs).sum(0)
    k = 0
    while k < outs:
        columns = vectors_of(outs - k) * LANES
        panel = groups[:, GROUP * k : GROUP * (k + columns)].reshape(-1, columns)
        w[k : k + columns, :, 0, 0] = panel[:channels].T
        k += columns
    return w, totals.sum(0)


@kernel("conv2d_weight", cost=conv2d_weight_cost, **_on_cpu)
def conv2d_weight(x: np.ndarray, y: np.ndarray, **how: Any) -> np.ndarray:
    """As the reference, of 1x1 filters."""
    return conv2d_weight_bias(x, y, **how)[0]
