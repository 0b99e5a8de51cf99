"""Pooling: maxima through a gather and scatter pair, means as resampling. Arguments as in ``torch.nn.functional``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..declare import Primitive, primitive
from ..kernels.resample import AxisMap, windows
from ..tensor import Tensor
from .elementwise import cast
from .resample import adaptive_windows, area, resample
from .spatial import Sizes, as_images, each, lengths_of, like_input

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "avg_pool1d",
    "avg_pool2d", "max_pool1d", "max_pool2d",
]  # fmt: skip

# The maximum is the value at an index that small changes do not move: its derivatives are those of reading there.
_max_pool2d = primitive(
    "max_pool2d",
    None,
    lambda g, y, x, *, rows, columns: (_pool_scatter(g[0], y[1].detach(), size=x.shape[2:]),),
    save="y",
    several=True,
)
_pool_gather: Primitive = primitive(
    "pool_gather",
    None,
    (lambda g, y, x, index: _pool_scatter(g, index, size=x.shape[2:]), None),
    save="index",
)
_pool_scatter: Primitive = primitive(
    "pool_scatter",
    None,
    (lambda g, x, y, index, *, size: _pool_gather(g, index), None),
    save="index",
)


def max_pool1d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest of each window of ``input`` (N, C, L) or (C, L); with ``return_indices`` also its position.

    ``stride`` is ``kernel_size`` by default. ``padding`` does not take part in the comparison. ``ceil_mode`` keeps a
    last window that does not fit entirely. Of equal values the first one gets the gradient; NaN counts as largest.
    """
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest of each window of ``input`` (N, C, H, W) or (C, H, W), as ``max_pool1d``.

    Indices count through the flattened image.
    """
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def adaptive_max_pool1d(input: Tensor, output_size: Sizes, return_indices: bool = False) -> Any:
    """The largest of each of ``output_size`` parts of equal length, which overlap if they have to."""
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The largest of each of ``output_size`` equal parts of an image; None keeps the length of a dimension."""
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, return_indices)


def avg_pool1d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of ``input`` (N, C, L) or (C, L).

    ``stride`` is ``kernel_size`` by default. ``count_include_pad``: zeros of the padding count as elements, those
    beyond it, which ``ceil_mode`` brings in, never do.
    """
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of ``input`` (N, C, H, W) or (C, H, W), as ``avg_pool1d``.

    ``divisor_override``: divide the sums by this instead of by the number of elements.
    """
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def adaptive_avg_pool1d(input: Tensor, output_size: Sizes) -> Tensor:
    """The mean of each of ``output_size`` parts of equal length, which overlap if they have to."""
    return _adaptive_avg_pool("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The mean of each of ``output_size`` equal parts of an image; None keeps the length of a dimension."""
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


# --- maxima


def _max_pool(
    op: str,
    dims: int,
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    axes = _geometry(op, dims, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _largest(input, [_window_map(op, *axis) for axis in axes], return_indices)


def _adaptive_max_pool(op: str, dims: int, input: Tensor, output_size: Any, return_indices: bool) -> Any:
    sizes = _adaptive_sizes(op, dims, input, output_size)
    maps = [windows(n, *adaptive_windows(n, m), 1) for n, m in zip(input.shape[-dims:], sizes)]
    return _largest(input, maps, return_indices)


def _largest(input: Tensor, maps: Sequence[AxisMap], return_indices: bool) -> Any:
    dims = len(maps)
    images = as_images(input, dims)
    rows = maps[0] if dims == 2 else windows(1, np.zeros(1, np.int64), np.ones(1, np.int64), 1)
    values, index = _max_pool2d(images, rows=rows, columns=maps[-1])
    values = like_input(values, input, dims)
    return (values, like_input(cast(index, np.int64), input, dims)) if return_indices else values


@lru_cache(maxsize=64)
def _window_map(op: str, length: int, size: int, kernel: int, stride: int, padding: int, dilation: int) -> AxisMap:
    """Which inputs each of ``size`` windows holds: padding holds none."""
    start = np.arange(size) * stride - padding
    first = start + dilation * np.maximum(-(start // dilation), 0)
    last = np.minimum(start + dilation * (kernel - 1) + 1, length)
    if (first >= last).any():
        raise ValueError(
            f"{op}: with dilation {dilation} and padding {padding} a window of {kernel} falls outside an input of "
            f"length {length} altogether; take less of either"
        )
    return windows(length, first, last, dilation)


# --- means


def _avg_pool(
    op: str,
    dims: int,
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    _check_floating(op, input)
    axes = _geometry(op, dims, input, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override is None:
        return resample(input, [_mean_map(*axis[:-1], count_include_pad) for axis in axes])
    if divisor_override == 0:
        raise ValueError(f"{op}: divisor_override must not be 0")
    return resample(input, [_window_map(op, *axis) for axis in axes]) / divisor_override


def _adaptive_avg_pool(op: str, dims: int, input: Tensor, output_size: Any) -> Tensor:
    _check_floating(op, input)
    sizes = _adaptive_sizes(op, dims, input, output_size)
    return resample(input, [area(n, m) for n, m in zip(input.shape[-dims:], sizes)])


@lru_cache(maxsize=64)
def _mean_map(length: int, size: int, kernel: int, stride: int, padding: int, count_include_pad: bool) -> AxisMap:
    start = np.arange(size) * stride - padding
    first, last = np.maximum(start, 0), np.minimum(start + kernel, length)
    count = np.minimum(start + kernel, length + padding) - start if count_include_pad else last - first
    return windows(length, first, last, 1, 1 / count)


# --- sizes


def _geometry(
    op: str,
    dims: int,
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
) -> list[tuple[int, ...]]:
    """(length, output size, kernel, stride, padding, dilation) of each dimension."""
    lengths = _lengths(op, dims, input)
    kernels = each(op, "kernel_size", kernel_size, dims, 1)
    strides = kernels if stride is None or stride == () or stride == [] else each(op, "stride", stride, dims, 1)
    paddings, dilations = each(op, "padding", padding, dims, 0), each(op, "dilation", dilation, dims, 1)
    if any(2 * p > k for p, k in zip(paddings, kernels)):
        raise ValueError(f"{op}: padding {list(paddings)} must be at most half of kernel_size {list(kernels)}")
    axes: list[tuple[int, ...]] = []
    for n, k, s, p, d in zip(lengths, kernels, strides, paddings, dilations):
        free = n + 2 * p - d * (k - 1) - 1
        size = (free + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (size - 1) * s >= n + p:
            size -= 1  # the last window would hold padding only
        if size < 1:
            raise ValueError(
                f"{op}: a window of {list(kernels)} with dilation {list(dilations)} does not fit into input of shape "
                f"{list(input.shape)} with padding {list(paddings)}"
            )
        axes.append((n, size, k, s, p, d))
    return axes


def _adaptive_sizes(op: str, dims: int, input: Tensor, output_size: Any) -> tuple[int, ...]:
    lengths = _lengths(op, dims, input)
    given = output_size if isinstance(output_size, Sequence) else (output_size,) * dims
    kept = [n if m is None else m for n, m in zip(lengths, given)] if len(given) == dims else given
    return each(op, "output_size", kept, dims, 0)


def _lengths(op: str, dims: int, input: Tensor) -> tuple[int, ...]:
    lengths = lengths_of(op, input, dims)
    if 0 in lengths:
        raise ValueError(f"{op}: nothing to pool in an input of shape {list(input.shape)}")
    return lengths


def _check_floating(op: str, input: Tensor) -> None:
    if input.dtype.kind != "f":
        raise TypeError(f"{op}: the mean needs a floating-point input, got {input.dtype}")
