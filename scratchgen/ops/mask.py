"""Masks: elements chosen, replaced or filled in where a bool tensor is True."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..declare import Primitive, method, primitive
from ..kernels.arrays import array_module
from ..tensor import Tensor, wrap
from .compare import where
from .reduce import broadcast_to
from .shape import reshape

__all__ = ["masked_fill", "masked_scatter", "masked_select", "nonzero"]


def _decompress(x: Any, mask: Any, *, dim: int, shape: tuple[int, ...]) -> Any:
    out = array_module(x).zeros(shape, x.dtype)
    out[(slice(None),) * dim + (mask,)] = x
    return out


_compress = primitive(
    "compress",
    lambda x, mask, *, dim: x[(slice(None),) * dim + (mask,)],
    (lambda g, y, x, mask, *, dim: decompress(g, mask, dim, x.shape), None),
    save="mask",
)
_decompress_op = primitive(
    "decompress", _decompress, (lambda g, y, x, mask, *, dim, shape: compress(g, mask, dim), None), save="mask"
)


def compress(input: Tensor, mask: Tensor, dim: int) -> Tensor:
    """``input[..., mask, ...]``: the dimensions from ``dim`` on that ``mask`` has become one, of where it is True."""
    return _compress(input, mask, dim=dim)


def decompress(input: Tensor, mask: Tensor, dim: int, shape: tuple[int, ...]) -> Tensor:
    """Zeros of ``shape`` with ``input`` where ``compress`` would read: its transpose."""
    return _decompress_op(input, mask, dim=dim, shape=shape)


_masked_fill: Primitive = primitive(
    "masked_fill",
    lambda x, mask, *, value: np.where(mask, x.dtype.type(value), x),
    (lambda g, y, x, mask, *, value: _masked_fill(g, mask, value=0), None),
    save="mask",
    broadcasts=True,
)


FLOAT16_MAX = 65504


def _check_mask(op: str, mask: Tensor) -> None:
    if mask.dtype.kind != "b":
        raise TypeError(f"{op}: mask must be of bools, got {mask.dtype}{list(mask.shape)}; compare, or use .bool()")


@method()
def masked_fill(input: Tensor, mask: Tensor, value: float | Tensor) -> Tensor:
    """``value`` where ``mask`` is True, ``input`` elsewhere; both broadcast. ``value``: a number or a 0-d tensor."""
    _check_mask("masked_fill", mask)
    if not isinstance(value, Tensor):
        if input.dtype == np.float16 and FLOAT16_MAX < abs(value) < math.inf:
            raise OverflowError(f"masked_fill: {value} is beyond the range of float16; -inf and inf are not")
        return _masked_fill(input, mask, value=value)
    if value.ndim:
        raise ValueError(f"masked_fill: value must be a number or a 0-d tensor, got shape {list(value.shape)}")
    return where(mask, value.to(input.dtype), input)


@method()
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where ``mask`` is True, in one dimension; both broadcast."""
    _check_mask("masked_select", mask)
    shape = np.broadcast_shapes(input.shape, mask.shape)
    return compress(broadcast_to(input, shape), broadcast_to(mask, shape), 0)


@method()
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """``input`` with the elements where ``mask`` is True replaced, in order, by the first elements of ``source``."""
    _check_mask("masked_scatter", mask)
    mask = broadcast_to(mask, input.shape)
    count = int(mask.array.sum())
    if count > source.numel():
        raise ValueError(f"masked_scatter: the mask is True {count} times, source has {source.numel()} elements")
    return where(mask, decompress(reshape(source, (-1,))[:count], mask, 0, input.shape), input)


@method()
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Where ``input`` is not zero: positions [count, ndim], or as a tuple of one [count] for each dimension."""
    if not as_tuple:
        return wrap(np.argwhere(input.array), input.device)
    return tuple([wrap(positions, input.device) for positions in np.atleast_1d(input.array).nonzero()])
