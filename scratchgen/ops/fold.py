"""Sliding windows. Reading them and adding them back where they overlap are each other's transpose."""

from __future__ import annotations

from itertools import product
from typing import Any

from ..declare import Primitive, method, primitive
from ..kernels.arrays import array_module
from ..tensor import Tensor
from .dims import normalize_dim
from .pad import pad
from .shape import permute, reshape

__all__ = ["fold", "pixel_shuffle", "pixel_unshuffle", "unfold"]


def _windows(x: Any, *, dims: tuple, sizes: tuple, steps: tuple, dilations: tuple) -> Any:
    """Every window along ``dims``, as one new last dimension for each of them; a read-only view."""
    spans = tuple([(size - 1) * dilation + 1 for size, dilation in zip(sizes, dilations)])
    every = array_module(x).lib.stride_tricks.sliding_window_view(x, spans, dims)
    index = [slice(None)] * x.ndim + [slice(None, None, dilation) for dilation in dilations]
    for dim, step in zip(dims, steps):
        index[dim] = slice(None, None, step)
    return every[tuple(index)]


def _overlap_add(x: Any, *, dims: tuple, sizes: tuple, steps: tuple, dilations: tuple, shape: tuple) -> Any:
    """Zeros of ``shape`` with all windows added in: one strided addition for each place within a window."""
    out = array_module(x).zeros(shape, x.dtype)
    index = [slice(None)] * len(shape)
    for offsets in product(*[range(size) for size in sizes]):
        for dim, offset, step, dilation in zip(dims, offsets, steps, dilations):
            start = offset * dilation
            index[dim] = slice(start, start + (x.shape[dim] - 1) * step + 1, step)
        out[tuple(index)] += x[(..., *offsets)]
    return out


_windows_op = primitive(
    "windows", _windows, (lambda g, y, x, **how: _overlap_add_op(g, **how, shape=x.shape),)
)
_overlap_add_op: Primitive = primitive(
    "overlap_add", _overlap_add, (lambda g, y, x, *, shape, **how: _windows_op(g, **how),)
)


def _count(op: str, length: int, size: int, step: int, dilation: int = 1) -> int:
    """How many windows fit into a dimension."""
    span = (size - 1) * dilation + 1
    if size < 1 or step < 1 or dilation < 1 or span > length:
        raise ValueError(
            f"{op}: no window of size {size}, step {step}, dilation {dilation} fits into a dimension of {length}"
        )
    return (length - span) // step + 1


def _unfold_dim(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """``Tensor.unfold``: the windows of ``size`` elements, ``step`` apart, of one dimension, as a new last one."""
    if input.ndim == 0:
        return _unfold_dim(reshape(input, (1,)), dimension, size, step).squeeze(0)
    dim = normalize_dim("unfold", dimension, input.shape)
    _count("unfold", input.shape[dim], size, step)
    return _windows_op(input, dims=(dim,), sizes=(size,), steps=(step,), dilations=(1,))


method("unfold")(_unfold_dim)

# --- images as columns


def _pair(op: str, name: str, value: int | tuple[int, int], least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or min(pair) < least:
        raise ValueError(f"{op}: {name} must be one or two numbers of at least {least}, got {value}")
    return pair[0], pair[1]


def unfold(
    input: Tensor,
    kernel_size: int | tuple[int, int],
    dilation: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    stride: int | tuple[int, int] = 1,
) -> Tensor:
    """im2col: the windows of images [N, C, H, W] as columns [N, C * kernel height * kernel width, windows].

    Also of one image [C, H, W]. The transpose of ``fold``; ``torch.nn.functional.unfold``.
    """
    if input.ndim == 3:
        return unfold(reshape(input, (1, *input.shape)), kernel_size, dilation, padding, stride).squeeze(0)
    if input.ndim != 4:
        raise ValueError(f"unfold: expects images [N, C, H, W] or [C, H, W], got shape {list(input.shape)}")
    size, step, dilations, (top, left) = _geometry("unfold", kernel_size, dilation, padding, stride)
    padded = pad(input, (left, left, top, top)) if top or left else input
    counts = [_count("unfold", padded.shape[2 + i], size[i], step[i], dilations[i]) for i in (0, 1)]
    windows = _windows_op(padded, dims=(2, 3), sizes=size, steps=step, dilations=dilations)
    n, channels = input.shape[:2]
    return reshape(permute(windows, (0, 1, 4, 5, 2, 3)), (n, channels * size[0] * size[1], counts[0] * counts[1]))


def fold(
    input: Tensor,
    output_size: int | tuple[int, int],
    kernel_size: int | tuple[int, int],
    dilation: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    stride: int | tuple[int, int] = 1,
) -> Tensor:
    """col2im: columns [N, C * kernel height * kernel width, windows] added up into images [N, C, *output_size].

    Also of one image's columns, without N. The transpose of ``unfold``; ``torch.nn.functional.fold``.
    """
    if input.ndim == 2:
        columns = reshape(input, (1, *input.shape))
        return fold(columns, output_size, kernel_size, dilation, padding, stride).squeeze(0)
    size, step, dilations, (top, left) = _geometry("fold", kernel_size, dilation, padding, stride)
    height, width = _pair("fold", "output_size", output_size, 1)
    padded = (height + 2 * top, width + 2 * left)
    counts = [_count("fold", padded[i], size[i], step[i], dilations[i]) for i in (0, 1)]
    area = size[0] * size[1]
    if input.ndim != 3 or input.shape[1] % area or input.shape[2] != counts[0] * counts[1]:
        raise ValueError(
            f"fold: expects columns [N, C * {area}, {counts[0] * counts[1]}] for {counts[0]} by {counts[1]} windows, "
            f"got shape {list(input.shape)}"
        )
    n, channels = input.shape[0], input.shape[1] // area
    windows = permute(reshape(input, (n, channels, *size, *counts)), (0, 1, 4, 5, 2, 3))
    image = _overlap_add_op(
        windows, dims=(2, 3), sizes=size, steps=step, dilations=dilations, shape=(n, channels, *padded)
    )
    return pad(image, (-left, -left, -top, -top)) if top or left else image


def _geometry(op: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple:
    return (
        _pair(op, "kernel_size", kernel_size, 1),
        _pair(op, "stride", stride, 1),
        _pair(op, "dilation", dilation, 1),
        _pair(op, "padding", padding, 0),
    )


# --- channels as pixels


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """[..., C r^2, H, W] as [..., C, H r, W r]: each group of r^2 channels becomes an r by r block of pixels."""
    r = upscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-3] % (r * r):
        raise ValueError(f"pixel_shuffle: expects [..., C * {r}^2, H, W], got shape {list(input.shape)}")
    *lead, channels, height, width = input.shape
    blocks = reshape(input, (*lead, channels // (r * r), r, r, height, width))
    n = len(lead)
    mixed = permute(blocks, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshape(mixed, (*lead, channels // (r * r), height * r, width * r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """[..., C, H r, W r] as [..., C r^2, H, W]: the inverse of ``pixel_shuffle``."""
    r = downscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-1] % r or input.shape[-2] % r:
        raise ValueError(f"pixel_unshuffle: expects [..., C, H * {r}, W * {r}], got shape {list(input.shape)}")
    *lead, channels, height, width = input.shape
    blocks = reshape(input, (*lead, channels, height // r, r, width // r, r))
    n = len(lead)
    mixed = permute(blocks, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshape(mixed, (*lead, channels * r * r, height // r, width // r))
