"""Depthwise convolution, one filter for each channel: no sums over channels, hence no products of matrices.

Each tap of the filters multiplies a shifted view of the padded input. A block of output rows stays in the cache while
all taps pass over it; a thin matrix for each channel would be gathered number by number instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..arrays import array_module, channels_last, widen
from ..registry import kernel
from .reference import (
    Block,
    Pair,
    blocks,
    conv2d_cost,
    conv2d_input_cost,
    conv2d_weight_cost,
    every,
    finish,
    pad,
    span,
)

BLOCK_BYTES = 512 << 10  # of output; its input and one product beside it fit a second-level cache or nearly


def _fits(a: Any, w: Any, b: Any, *, groups: int, **_: Any) -> bool:
    return groups > 1 and w.shape[:2] == (groups, 1)


def _fits_weight(x: Any, y: Any, *, groups: int, **_: Any) -> bool:
    return groups > 1 and x.shape[1] == y.shape[1] == groups


@kernel("conv2d", impl="depthwise", when=_fits, cost=conv2d_cost, priority=1)
def conv2d(x: Any, w: Any, b: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Any:
    """As the reference, where groups = C = K."""
    taps = w.shape[2:]
    padded = pad(x, span(size, taps, stride, dilation), padding)
    y = array_module(x).zeros((len(x), *size, groups), padded.dtype)
    filters = along_rows(w, size[1])
    for block, views in shifted(padded, size, taps, stride, dilation):
        for tap, view in views:
            y[block] += view * filters[tap]
    return finish(y, b, x.dtype)


@kernel("conv2d_input", impl="depthwise", when=_fits, cost=conv2d_input_cost, priority=1)
def conv2d_input(
    y: Any, w: Any, b: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Any:
    """As the reference, where groups = C = K."""
    xp = array_module(y)
    taps, reads = w.shape[2:], y.shape[2:]
    y_last = widen(channels_last(y))
    height, width = map(max, span(reads, taps, stride, dilation), [p + m for p, m in zip(padding, size)])
    x = xp.zeros((len(y), height, width, groups), y_last.dtype)
    filters = along_rows(w, reads[1])
    for block, views in shifted(x, reads, taps, stride, dilation):
        for tap, view in views:
            view += y_last[block] * filters[tap]
    x = x[:, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]
    return finish(xp.ascontiguousarray(x), b, y.dtype)


@kernel("conv2d_weight", impl="depthwise", when=_fits_weight, cost=conv2d_weight_cost, priority=1)
def conv2d_weight(x: Any, y: Any, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Any:
    """As the reference, where groups = C = K."""
    xp = array_module(x)
    padded = pad(x, span(y.shape[2:], size, stride, dilation), padding)
    y_last = widen(channels_last(y))
    w = xp.zeros((*size, groups), padded.dtype)
    for block, views in shifted(padded, y.shape[2:], size, stride, dilation):
        for tap, view in views:
            products = (view * y_last[block]).reshape(-1, groups)
            w[tap] += xp.ones(len(products), products.dtype) @ products  # unlike sum(0), as accurate as a product
    return w.transpose(2, 0, 1)[:, None].astype(x.dtype, order="C")


def along_rows(w: Any, width: int) -> Any:
    """The filters as (R, S, width, C): repeated along a row, so that one inner loop runs over row and channels."""
    filters = widen(w)[:, 0].transpose(1, 2, 0)[:, :, None]
    return array_module(w).broadcast_to(filters, (*w.shape[2:], width, len(w))).copy()


def shifted(padded: Any, size: Pair, taps: Pair, stride: Pair, dilation: Pair) -> Iterator[tuple[Block, Any]]:
    """Blocks of output rows, each with all taps and the views of the input that these multiply there."""
    row_bytes = size[1] * padded.shape[3] * padded.itemsize
    columns = [every(stride[1], j * dilation[1], size[1]) for j in range(taps[1])]
    for images, rows in blocks(len(padded), size[0], row_bytes, BLOCK_BYTES):
        first, count = rows.start * stride[0], rows.stop - rows.start
        lines = [every(stride[0], first + i * dilation[0], count) for i in range(taps[0])]
        yield (
            (images, rows),
            [
                ((i, j), padded[images, line, column])
                for i, line in enumerate(lines)
                for j, column in enumerate(columns)
            ],
        )
