"""Convolution as products of matrices: the specification of three ops that are each other's derivatives.

One relation joins an input x (N, C, H, W), a weight w (K, C/G, R, S) and an output y (N, K, P, Q). x reads as zero
beyond its edges, and each of G groups joins C/G channels of x to K/G of y:

    y[n, k, p, q] = sum over c, r, s of w[k, c, r, s] x[n, k // (K/G) * C/G + c, h, v]
    h = p * stride - padding + r * dilation        (v likewise, of q and s)

``conv2d`` computes y from x and w. ``conv2d_input``, a transposed convolution, and ``conv2d_weight`` are its adjoints:
x from y and w, w from x and y. Strides and the like are pairs, for rows and columns; ``size`` is the height and width
of what is computed, so nothing has to be padded by the same amount on both sides.

Arrays are NCHW in any strides; inside, and in the memory of what is returned, channels come last. Windows then are
copied in runs to the rows of a matrix ("im2col"), after which the strides of the input no longer matter to the digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..arrays import array_module, channels_last, widen
from ..registry import Cost, kernel
from ..sums import accurate_sum

Pair = tuple[int, int]
Block = tuple[slice, slice]  # of images and of their output rows

BLOCK_BYTES = 4 << 20  # of the matrix of windows, made a block at a time; times are the same from 1 to 16 MB


def _cost(x_size: int, w_size: int, y_size: int, taps: int, itemsize: int) -> Cost:
    return Cost(bytes=(x_size + w_size + y_size) * itemsize, flops=2 * y_size * taps)


def conv2d_cost(x: Any, w: Any, b: Any, *, size: Pair, **_: Any) -> Cost:
    """Reads x and w and writes y once; a multiplication and an addition for each tap of each output."""
    return _cost(x.size, w.size, len(x) * len(w) * math.prod(size), math.prod(w.shape[1:]), x.itemsize)


def conv2d_input_cost(y: Any, w: Any, b: Any, *, size: Pair, groups: int, **_: Any) -> Cost:
    """As ``conv2d_cost``, with x written and y read."""
    x_size = len(y) * w.shape[1] * groups * math.prod(size)
    return _cost(x_size, w.size, y.size, math.prod(w.shape[1:]), y.itemsize)


def conv2d_weight_cost(x: Any, y: Any, *, size: Pair, groups: int, **_: Any) -> Cost:
    """As ``conv2d_cost``, with w written and y read."""
    taps = x.shape[1] // groups * math.prod(size)
    return _cost(x.size, y.shape[1] * taps, y.size, taps, x.itemsize)


def conv2d_residual_cost(x: Any, w: Any, b: Any, residual: Any, **how: Any) -> Cost:
    """As ``conv2d_cost``, and reads the residual once."""
    plain = conv2d_cost(x, w, b, **how)
    return Cost(plain.bytes + residual.nbytes, plain.flops + residual.size)


@kernel("conv2d", cost=conv2d_cost)
def conv2d(x: Any, w: Any, b: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Any:
    """y of shape (N, K, *size), plus b (K,) unless that is None."""
    xp = array_module(x)
    n, k = len(x), len(w)
    windows = window_view(x, w.shape[2:], size, stride, padding, dilation, groups)
    matrix = weight_matrix(w, groups)
    y = xp.empty((n, *size, k), matrix.dtype)
    for block, columns in column_blocks(windows):
        xp.matmul(by_group(columns), matrix, out=by_group(y[block].reshape(-1, groups, k // groups)))
    return finish(y, b, x.dtype)


@kernel("conv2d_residual", cost=conv2d_residual_cost)
def conv2d_residual(x: Any, w: Any, b: Any, residual: Any, **how: Any) -> Any:
    """``conv2d`` of the others, plus ``residual``."""
    y = conv2d(x, w, b, **how)
    y += residual
    return y


@kernel("conv2d_input", cost=conv2d_input_cost)
def conv2d_input(
    y: Any, w: Any, b: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Any:
    """x of shape (N, C, *size), plus b (C,) unless that is None."""
    k, c = len(w), w.shape[1] * groups
    if stride == (1, 1) and k <= 3 * c:
        # A plain convolution of y: copying its windows costs about a third of adding up as many of x.
        around = tuple([reach(d, t) - 1 - p for d, t, p in zip(dilation, w.shape[2:], padding)])
        turned = turn(w, groups)
        return conv2d(y, turned, b, size=size, stride=stride, padding=around, dilation=dilation, groups=groups)
    x = add_windows(y, w, size, stride, padding, dilation, groups)
    x = x[:, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]
    return finish(array_module(y).ascontiguousarray(x), b, y.dtype)


@kernel("conv2d_weight", cost=conv2d_weight_cost)
def conv2d_weight(x: Any, y: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Any:
    """w of shape (K, C/groups, *size), contiguous."""
    xp = array_module(x)
    c, k = x.shape[1] // groups, y.shape[1] // groups
    windows = window_view(x, size, y.shape[2:], stride, padding, dilation, groups)
    y_last = widen(channels_last(y))
    w = xp.zeros((groups, math.prod(size) * c, k), y_last.dtype)
    for block, columns in column_blocks(windows):
        w += xp.matmul(by_group(columns).swapaxes(1, 2), by_group(y_last[block].reshape(-1, groups, k)))
    w = w.reshape(groups, *size, c, k).transpose(0, 4, 3, 1, 2).reshape(groups * k, c, *size)
    return w.astype(x.dtype, order="C", copy=False)


@kernel("conv2d_weight_bias", cost=conv2d_weight_cost)
def conv2d_weight_bias(
    x: Any, y: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> tuple[Any, Any]:
    """``conv2d_weight``, and b (K,): the sum of y over images and pixels."""
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return conv2d_weight(x, y, size=size, **how), accurate_sum(y, (0, 2, 3))


# --------------------------------------------------------------------------------------------- windows as matrices


def window_view(x: Any, taps: Pair, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Any:
    """What each output position reads, (N, P, Q, G, R, S, C/G): a view of the padded channels-last input."""
    n, c = x.shape[:2]
    padded = pad(x, span(size, taps, stride, dilation), padding)
    image, row, pixel, channel = padded.strides
    positions = (image, row * stride[0], pixel * stride[1], channel * (c // groups))
    within = (row * dilation[0], pixel * dilation[1], channel)
    as_strided = array_module(x).lib.stride_tricks.as_strided
    return as_strided(padded, (n, *size, groups, *taps, c // groups), positions + within)


def column_blocks(windows: Any) -> Iterator[tuple[Block, Any]]:
    """The windows of a block of output positions as the rows of matrices, (M, G, R*S*C/G); reuses its memory."""
    n, p, q, groups = windows.shape[:4]
    depth = math.prod(windows.shape[4:])
    buffer = None
    for block in blocks(n, p, q * groups * depth * windows.itemsize):
        part = windows[block]
        count = part.shape[0] * part.shape[1] * q
        if part.flags.c_contiguous:  # with a kernel of 1x1, for one, the input is the matrix
            yield block, part.reshape(count, groups, depth)
            continue
        if buffer is None:  # no later block is larger than the first
            buffer = array_module(windows).empty((count, groups, depth), windows.dtype)
        columns = buffer[:count]
        columns.reshape(part.shape)[...] = part
        yield block, columns


def add_windows(y: Any, w: Any, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Any:
    """The transpose of window_view, times w: what all windows hold, added up to a padded channels-last x ("col2im")."""
    xp = array_module(y)
    (n, k, p, q), (_, c, r, s) = y.shape, w.shape
    y_last = widen(channels_last(y))
    matrix = weight_matrix(w, groups).swapaxes(1, 2)
    height, width = map(max, span((p, q), (r, s), stride, dilation), [a + b for a, b in zip(padding, size)])
    x = xp.zeros((n, height, width, groups, c), y_last.dtype)
    for images, rows in blocks(n, p, q * groups * r * s * c * y_last.itemsize):
        part = y_last[images, rows]
        columns = xp.matmul(by_group(part.reshape(-1, groups, k // groups)), matrix)
        columns = columns.reshape(groups, *part.shape[:3], r, s, c).transpose(4, 5, 1, 2, 3, 0, 6)
        for i in range(r):
            for j in range(s):
                lines = every(stride[0], rows.start * stride[0] + i * dilation[0], part.shape[1])
                x[images, lines, every(stride[1], j * dilation[1], q)] += columns[i, j]
    return x.reshape(n, height, width, groups * c)


def weight_matrix(w: Any, groups: int) -> Any:
    """(K, C/G, R, S) as one matrix for each group, (G, R*S*C/G, K/G), in the order of the windows."""
    k, c, r, s = w.shape
    by_tap = widen(w).reshape(groups, k // groups, c, r, s).transpose(0, 3, 4, 2, 1)
    return array_module(w).ascontiguousarray(by_tap).reshape(groups, r * s * c, k // groups)


def turn(w: Any, groups: int) -> Any:
    """The weight of the transposed convolution, (C, K/G, R, S): input and output swapped, taps in reverse."""
    k, c, r, s = w.shape
    swapped = w.reshape(groups, k // groups, c, r, s).swapaxes(1, 2)[..., ::-1, ::-1]
    return swapped.reshape(groups * c, k // groups, r, s)


def by_group(matrix: Any) -> Any:
    """(M, G, depth) as a stack of matrices, one for each group, as ``matmul`` takes them."""
    return matrix.transpose(1, 0, 2)


# ------------------------------------------------------------------------------------------- geometry, all kernels'


def reach(dilation: int, taps: int) -> int:
    """How far a window extends."""
    return dilation * (taps - 1) + 1


def span(size: Pair, taps: Pair, stride: Pair, dilation: Pair) -> list[int]:
    """How many rows and columns all windows together extend over."""
    return [step * (m - 1) + reach(d, t) for m, t, step, d in zip(size, taps, stride, dilation)]


def every(step: int, start: int, count: int) -> slice:
    """``count`` positions from ``start`` on, ``step`` apart."""
    return slice(start, start + step * (count - 1) + 1, step)


def pad(x: Any, spans: list[int], padding: Pair) -> Any:
    """Rows and columns from ``-padding`` to ``spans - padding`` of x as a contiguous (N, height, width, C)."""
    inner = [slice(max(-p, 0), max(min(m - p, length), 0)) for p, m, length in zip(padding, spans, x.shape[2:])]
    inside = widen(x)[:, :, inner[0], inner[1]].transpose(0, 2, 3, 1)
    if inside.flags.c_contiguous and list(inside.shape[1:3]) == spans:
        return inside
    padded = array_module(x).zeros((len(x), *spans, x.shape[1]), inside.dtype)
    top, left = max(padding[0], 0), max(padding[1], 0)
    padded[:, top : top + inside.shape[1], left : left + inside.shape[2]] = inside
    return padded


def blocks(images: int, rows: int, row_bytes: int, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Blocks of several whole images, or of rows of one: contiguous in channels-last order, below ``block_bytes``."""
    fitting = max(1, block_bytes // max(row_bytes, 1))
    some_images, some_rows = (fitting // max(rows, 1), rows) if fitting >= rows else (1, fitting)
    for image in range(0, images, some_images):
        for row in range(0, rows, max(some_rows, 1)):
            yield slice(image, image + some_images), slice(row, min(row + some_rows, rows))


def finish(x: Any, b: Any, dtype: Any) -> Any:
    """Add the bias to a fresh channels-last array and give it back as NCHW."""
    if b is not None:
        x += b
    return x.astype(dtype, copy=False).transpose(0, 3, 1, 2)
