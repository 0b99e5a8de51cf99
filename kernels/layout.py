"""How an array (NumPy's or CuPy's) lies in memory, for kernels that want one run of numbers or one row at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .arrays import array_module

LEAST_ROW = 16  # numbers in a run that is worth a loop of its own


def memory_order(a: np.ndarray) -> tuple[int, ...]:
    """The dimensions from the slowest to the fastest as ``a`` lies in memory."""
    strides = a.strides
    return tuple(sorted(range(a.ndim), key=lambda i: -abs(strides[i])))


def is_packed(a: np.ndarray) -> bool:
    """Whether ``a`` lies in memory without gaps, in whatever order."""
    return a.transpose(memory_order(a)).flags.c_contiguous


def flat(*arrays: np.ndarray) -> list[np.ndarray]:
    """Arrays of one shape as one-dimensional, in the memory order of the first.

    An array without gaps comes back as a view if it lies in that order: so the first can be one to write to, made by
    ``np.empty_like``. The others are copied where they must be.
    """
    if all(a.flags.c_contiguous for a in arrays):
        return [a.reshape(-1) for a in arrays]
    order = memory_order(arrays[0])
    return [array_module(a).ascontiguousarray(a.transpose(order)).reshape(-1) for a in arrays]


def rows(*arrays: np.ndarray) -> list[np.ndarray] | None:
    """Arrays of one shape as matrices with contiguous rows, in the memory order of the first; views, or None.

    Channels cut out of a channels-last image are such a matrix: a row for each pixel, and a gap after it.
    """
    order = memory_order(arrays[0])
    moved = [a.transpose(order) for a in arrays]
    shape = moved[0].shape
    length, dims = 1, len(shape)
    while dims and all(shape[dims - 1] == 1 or a.strides[dims - 1] == length * a.itemsize for a in moved):
        dims -= 1
        length *= shape[dims]
    if length < LEAST_ROW:
        return None
    try:
        return [a.reshape(math.prod(shape[:dims]), length, copy=False) for a in moved]
    except ValueError:  # the rows are not evenly apart
        return None


def is_fastest(a: np.ndarray, dim: int) -> bool:
    """Whether neighbours along ``dim`` are the nearest in memory."""
    step = a.strides[dim]
    return step == a.itemsize and all(n == 1 or abs(s) >= step for n, s in zip(a.shape, a.strides))


def row_order(a: np.ndarray, dim: int) -> tuple[int, ...]:
    """The memory order of ``a`` with ``dim`` moved to the end: rows run along ``dim``."""
    return (*(i for i in memory_order(a) if i != dim % a.ndim), dim % a.ndim)


def to_rows(a: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """``a`` as a matrix whose rows run along the last dimension of ``order``; copied only if it must be."""
    moved = array_module(a).ascontiguousarray(a.transpose(order))
    return moved.reshape(math.prod(moved.shape[:-1]), moved.shape[-1])


def from_rows(rows: np.ndarray, shape: tuple[int, ...], order: tuple[int, ...]) -> np.ndarray:
    """The array of this ``shape`` whose ``to_rows`` is ``rows``; a view."""
    back = sorted(range(len(order)), key=order.__getitem__)
    return rows.reshape([shape[i] for i in order]).transpose(back)


def around(a: np.ndarray, dim: int, order: tuple[int, ...]) -> np.ndarray:
    """``a`` as [before, n, after], its dimensions in this order and ``dim`` in the middle; copied only if need be."""
    moved = array_module(a).ascontiguousarray(a.transpose(order))
    at = order.index(dim % a.ndim)
    return moved.reshape(math.prod(moved.shape[:at]), moved.shape[at], math.prod(moved.shape[at + 1 :]))


def joined(arrays: Sequence[np.ndarray], dim: int) -> np.ndarray | None:
    """The array of which these are neighbouring parts along ``dim``, as a view of the memory they share; or None."""
    first = arrays[0]
    whole = first.base
    if type(whole) is not np.ndarray or not whole.flags.c_contiguous:
        return None
    start = place = first.__array_interface__["data"][0]
    length = 0
    for a in arrays:
        at = a.__array_interface__["data"][0]
        if a.base is not whole or a.strides != first.strides or a.dtype is not first.dtype or at != place:
            return None
        length += a.shape[dim]
        place += a.shape[dim] * a.strides[dim]
    shape = (*first.shape[:dim], length, *first.shape[dim + 1 :])
    return np.ndarray(shape, first.dtype, whole, start - whole.__array_interface__["data"][0], first.strides)


def read_only(*arrays: np.ndarray) -> list[np.ndarray]:
    """Views of kernel inputs: Numba takes arrays that can be written and such that cannot for two types to compile."""
    views = [a.view() for a in arrays]
    for view in views:
        view.flags.writeable = False
    return views


class Middle(NamedTuple):
    """How an array with a smaller one spread over it lies in memory; see ``middle``."""

    order: tuple[int, ...]
    shape: tuple[int, int, int]
    reduced: tuple[int, int, int]


def middle(a: np.ndarray, small: tuple[int, ...]) -> Middle | None:
    """A packed ``a`` as matrices [before, middle, after]; the shape ``small`` has one row of each: [before, 1, after].

    ``order`` is that of the dimensions in memory. None if there is no such view, if its rows are short, or if ``small``
    does not broadcast to the shape of ``a``.
    """
    small = (1,) * (a.ndim - len(small)) + small
    if len(small) > a.ndim or any(n not in (1, m) for n, m in zip(small, a.shape)):
        return None
    order = memory_order(a)
    dims = [i for i in order if a.shape[i] != 1]
    kept = [small[i] != 1 for i in dims]
    if all(kept) or not kept[-1]:
        return None
    last = max(j for j, keep in enumerate(kept) if not keep)
    first = last
    while first > 0 and not kept[first - 1]:
        first -= 1
    parts = dims[:first], dims[first : last + 1], dims[last + 1 :]
    before, between, after = (math.prod(a.shape[i] for i in part) for part in parts)
    if not all(kept[:first]) or after < LEAST_ROW:
        return None
    return Middle(order, (before, between, after), (before, 1, after))
