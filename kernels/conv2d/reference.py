"""Convolution as products of matrices: the specification of three ops that are each other's derivatives.

All three share one relation, in which x reads as zero outside its bounds and group g joins C/G channels to K/G:

    y[n, k, p, q] = b[k] + sum over c, r, s of w[k, c, r, s] * x[n, g C/G + c, h, v],    g = k // (K/G),
    h = p stride - padding + r dilation    (v likewise from q and s)

``conv2d`` computes y. ``conv2d_input`` (a transposed convolution) and ``conv2d_weight`` are its adjoints in x and in
w. Geometry is a pair of integers for each direction, and ``size`` is height and width of what is computed, so padding
need not be the same on both sides: what the windows read beyond an edge is zero.

Arrays are NCHW in any strides. Inside, and in the strides of what is returned, channels come last: then the columns
of the product ("im2col") are gathered in runs, and gathering makes the numbers independent of the strides given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arrays import array_module
from ..registry import kernel

BLOCK_BYTES = 4 << 20  # columns made at a time; 1 to 16 MB measure the same, beyond that they leave the cache

Pair = tuple[int, int]


@kernel("conv2d")
def conv2d(
    x: Any, w: Any, b: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Any:
    """y of shape (N, K, *size) from x (N, C, H, W), w (K, C/groups, R, S) and b (K,) or None."""
    xp = array_module(x)
    dtype = accumulator(x.dtype)
    windows = gather_windows(x, w.shape[2:], size, stride, padding, dilation, groups)
    matrix = weight_matrix(w, groups)
    y = xp.empty((x.shape[0], *size, w.shape[0]), dtype)
    for part, columns in column_blocks(windows, dtype):
        xp.matmul(by_group(columns), matrix, out=by_group(y[part].reshape(len(columns), groups, -1)))
    return finish(y, b, x.dtype)


@kernel("conv2d_input")
def conv2d_input(
    y: Any, w: Any, b: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Any:
    """x of shape (N, C, *size) from y (N, K, P, Q), w (K, C/groups, R, S) and b (C,) or None."""
    xp = array_module(y)
    (n, k, p, q), (_, c, r, s) = y.shape, w.shape
    if stride == (1, 1) and k <= c * groups:
        # The columns of y are fewer than those of x, and gathering them is cheaper than adding those up.
        flipped = w.reshape(groups, k // groups, c, r, s)[..., ::-1, ::-1].swapaxes(1, 2)
        around = (dilation[0] * (r - 1) - padding[0], dilation[1] * (s - 1) - padding[1])
        return conv2d(
            y,
            flipped.reshape(c * groups, k // groups, r, s),
            b,
            size=size,
            stride=stride,
            padding=around,
            dilation=dilation,
            groups=groups,
        )
    dtype = accumulator(y.dtype)
    y_last = xp.ascontiguousarray(y.transpose(0, 2, 3, 1), dtype=dtype)
    matrix = weight_matrix(w, groups).swapaxes(1, 2)
    spans = [reach(d, t) + (m - 1) * step for d, t, m, step in zip(dilation, (r, s), (p, q), stride)]
    x = xp.zeros((n, max(spans[0], padding[0] + size[0]), max(spans[1], padding[1] + size[1]), groups, c), dtype)
    for images, rows in blocks(n, p, q * groups * r * s * c * dtype.itemsize):
        here = y_last[images, rows]
        columns = xp.matmul(by_group(here.reshape(-1, groups, k // groups)), matrix)
        columns = columns.reshape(groups, *here.shape[:3], r, s, c)
        for i in range(r):
            for j in range(s):
                above = slice_of(rows.start * stride[0] + i * dilation[0], here.shape[1], stride[0])
                x[images, above, slice_of(j * dilation[1], q, stride[1])] += columns[..., i, j, :].transpose(1, 2, 3, 0, 4)
    x = x[:, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]
    return finish(x.reshape(n, *size, groups * c), b, y.dtype)


@kernel("conv2d_weight")
def conv2d_weight(
    x: Any, y: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Any:
    """w of shape (K, C/groups, *size) from x (N, C, H, W) and y (N, K, P, Q)."""
    xp = array_module(x)
    k, c = y.shape[1], x.shape[1]
    dtype = accumulator(x.dtype)
    windows = gather_windows(x, size, y.shape[2:], stride, padding, dilation, groups)
    y_last = xp.ascontiguousarray(y.transpose(0, 2, 3, 1), dtype=dtype)
    total = xp.zeros((groups, size[0] * size[1] * c // groups, k // groups), dtype)
    for part, columns in column_blocks(windows, dtype):
        total += xp.matmul(by_group(columns).swapaxes(1, 2), by_group(y_last[part].reshape(len(columns), groups, -1)))
    w = total.reshape(groups, *size, c // groups, k // groups).transpose(0, 4, 3, 1, 2)
    return xp.ascontiguousarray(w, dtype=x.dtype).reshape(k, c // groups, *size)


# ------------------------------------------------------------------------------------------------- columns and blocks


def gather_windows(
    x: Any, taps: Pair, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Any:
    """What each output position reads: a view of shape (N, P, Q, G, R, S, C/G) of the padded channels-last input."""
    xp = array_module(x)
    extent = tuple(reach(d, t) for d, t in zip(dilation, taps))
    padded = pad(x.transpose(0, 2, 3, 1), padding, [e + (m - 1) * s for e, m, s in zip(extent, size, stride)])
    windows = xp.lib.stride_tricks.sliding_window_view(padded, extent, axis=(1, 2))
    windows = windows[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]
    return windows.reshape(len(x), *size, groups, -1, *taps).transpose(0, 1, 2, 3, 5, 6, 4)


def pad(x: Any, padding: Pair, span: list[int]) -> Any:
    """Rows and columns ``[-padding, span - padding)`` of a channels-last x, contiguous, zero beyond its edges."""
    inner = [slice(max(-p, 0), min(m - p, length)) for p, m, length in zip(padding, span, x.shape[1:3])]
    inside = x[:, inner[0], inner[1]]
    if inside.flags.c_contiguous and inside.shape[1:3] == tuple(span):
        return inside
    padded = array_module(x).zeros((len(x), *span, x.shape[3]), x.dtype)
    top, left = max(padding[0], 0), max(padding[1], 0)
    padded[:, top : top + inside.shape[1], left : left + inside.shape[2]] = inside
    return padded


def column_blocks(windows: Any, dtype: Any) -> Iterator[tuple[Any, Any]]:
    """The windows as the rows of matrices (M, G, R*S*C/G), some images or some rows of one image at a time."""
    n, p, q, groups = windows.shape[:4]
    depth = windows[0, 0, 0, 0].size if windows.size else 0
    buffer = None
    for part in blocks(n, p, q * groups * depth * dtype.itemsize):
        block = windows[part]
        count = block.shape[0] * block.shape[1] * q
        if block.flags.c_contiguous and block.dtype == dtype:  # 1x1, for one
            yield part, block.reshape(count, groups, depth)
            continue
        if buffer is None:  # the first block is the largest
            buffer = array_module(windows).empty((count, groups, depth), dtype)
        columns = buffer[:count]
        columns.reshape(block.shape)[...] = block
        yield part, columns


def blocks(n: int, p: int, row_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Slices of ``n`` images and their ``p`` rows, such that a block's columns stay below ``BLOCK_BYTES``.

    Several whole images, or rows of one image: contiguous in the output either way.
    """
    rows = max(1, BLOCK_BYTES // max(row_bytes, 1))
    images, rows = (rows // p, p) if rows >= p else (1, rows)
    for i in range(0, n, images):
        for j in range(0, p, rows):
            yield slice(i, i + images), slice(j, j + rows)


def weight_matrix(w: Any, groups: int) -> Any:
    """(K, C/G, R, S) as one matrix for each group, (G, R*S*C/G, K/G), in the order of the columns."""
    k, c, r, s = w.shape
    by_tap = w.reshape(groups, k // groups, c, r, s).transpose(0, 3, 4, 2, 1)
    return array_module(w).ascontiguousarray(by_tap, dtype=accumulator(w.dtype)).reshape(groups, r * s * c, k // groups)


def by_group(matrix: Any) -> Any:
    """(M, G, ...) as a stack of matrices, one for each group, for ``matmul``."""
    return matrix.transpose(1, 0, 2)


def reach(dilation: int, taps: int) -> int:
    """How far a dilated window extends."""
    return dilation * (taps - 1) + 1


def slice_of(start: int, count: int, step: int) -> slice:
    return slice(start, start + (count - 1) * step + 1, step)


def accumulator(dtype: Any) -> Any:
    """The type to add up in: float16 in float32."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def finish(x: Any, b: Any, dtype: Any) -> Any:
    """Add the bias, and give a fresh channels-last array back as NCHW."""
    if b is not None:
        x += b
    return x.astype(dtype, copy=False).transpose(0, 3, 1, 2)
