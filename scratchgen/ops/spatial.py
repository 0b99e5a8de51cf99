"""What convolution, pooling and resampling share: signals and images as batches of images, sizes as tuples.

Kernels know one case only, (N, C, H, W): a signal is an image of height 1, an unbatched image a batch of one. The
reshapes between them are views in any memory layout, since they only add and remove dimensions of length 1.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

from ..tensor import Tensor
from .shape import reshape

Sizes = int | Sequence[int]


def each(op: str, argument: str, value: Sizes, dims: int, least: int) -> tuple[int, ...]:
    """One integer of at least ``least`` for each of ``dims`` dimensions; a single one counts for all."""
    try:
        values = tuple([operator.index(v) for v in value]) if isinstance(value, Sequence) else (operator.index(value),)
    except TypeError:
        values = ()
    if len(values) == 1:
        values *= dims
    if len(values) != dims or min(values) < least:
        several = f" or {dims} of them" if dims > 1 else ""
        raise ValueError(f"{op}: {argument} must be an integer of at least {least}{several}, got {value!r}")
    return values


def lengths_of(op: str, input: Tensor, dims: int) -> tuple[int, ...]:
    """The spatial part of the shape of ``input``, which must be (N, C, *lengths) or (C, *lengths)."""
    if input.ndim not in (dims + 1, dims + 2):
        wanted = "(N, C, L) or (C, L)" if dims == 1 else "(N, C, H, W) or (C, H, W)"
        raise ValueError(f"{op}: input must have shape {wanted}, got {list(input.shape)}")
    return input.shape[-dims:]


def as_images(input: Tensor, dims: int) -> Tensor:
    """``input`` with ``dims`` spatial dimensions as (N, C, H, W)."""
    shape = input.shape
    if len(shape) == 4:
        return input
    batch = shape[:-dims] if len(shape) == dims + 2 else (1, shape[0])
    return reshape(input, (*batch, *(1,) * (2 - dims), *shape[-dims:]))


def like_input(images: Tensor, input: Tensor, dims: int) -> Tensor:
    """What was computed from ``as_images(input, dims)``, with the dimensions of ``input``."""
    if input.ndim == 4:
        return images
    batch = images.shape[:2] if input.ndim == dims + 2 else images.shape[1:2]
    return reshape(images, (*batch, *images.shape[4 - dims :]))
