"""Order. Positions come from comparisons and have no derivative; values are read at them, so they have all of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..declare import method, primitive
from ..kernels.arrays import array_module
from ..tensor import Tensor, as_tensor, wrap
from .dims import normalize_dim
from .gather import gather
from .shape import squeeze

__all__ = [
    "argsort", "bucketize", "cummax", "cummin", "kthvalue", "msort", "searchsorted", "sort", "topk", "unique",
]  # fmt: skip


class Ranked(NamedTuple):
    """Values in some order, and where in the input they come from."""

    values: Tensor
    indices: Tensor


def _read(input: Tensor, dim: int, indices: Tensor) -> Ranked:
    return Ranked(gather(input, dim, indices), indices)


# --- sorting; NaN counts as the largest, in NumPy as in torch


def _argsort(x: Any, *, dim: int, descending: bool, stable: bool) -> Any:
    kind: Any = "stable" if stable else None
    if not x.ndim:
        return array_module(x).zeros((), np.int64)
    if not descending:
        return np.argsort(x, axis=dim, kind=kind)
    order = np.argsort(np.flip(x, dim), axis=dim, kind=kind)  # backwards both ways, so that equal ones keep their order
    return np.flip(x.shape[dim] - 1 - order, dim).copy()


_argsort_op = primitive("argsort", _argsort)


@method()
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The positions (int64) along ``dim`` that put ``input`` in order; ``stable``: equal elements stay in theirs."""
    dim = normalize_dim("argsort", dim, input.shape)
    return _argsort_op(input, dim=dim, descending=descending, stable=stable)


@method()
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Ranked:
    """``(values, indices)``: ``input`` in order along ``dim``, and the positions the values come from."""
    return _read(input, normalize_dim("sort", dim, input.shape), argsort(input, dim, descending, stable))


@method()
def msort(input: Tensor) -> Tensor:
    """The values in order along dim 0."""
    return sort(input, 0).values


def _argtop(x: Any, *, k: int, dim: int, largest: bool, ordered: bool) -> Any:
    """The positions of the ``k`` extreme elements: found in linear time, then only they are sorted."""
    if not x.ndim:
        return array_module(x).zeros((), np.int64)
    n = x.shape[dim]
    lead = (slice(None),) * dim
    if k == n or k == 0:
        top = np.broadcast_to(array_module(x).arange(n).reshape((-1,) + (1,) * (x.ndim - dim - 1)), x.shape)
        top = top[(*lead, slice(0, k))]
    elif largest:
        top = np.argpartition(x, n - k, axis=dim)[(*lead, slice(n - k, None))]
    else:
        top = np.argpartition(x, k - 1, axis=dim)[(*lead, slice(0, k))]
    if not ordered:
        return top.copy()
    order = _argsort(np.take_along_axis(x, top, dim), dim=dim, descending=largest, stable=False)
    return np.take_along_axis(top, order, dim)


_argtop_op = primitive("topk", _argtop)


@method()
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Ranked:
    """``(values, indices)`` of the ``k`` largest (or smallest) elements along ``dim``, in order if ``sorted``."""
    dim = normalize_dim("topk", dim, input.shape)
    length = input.shape[dim] if input.ndim else 1
    if not 0 <= k <= length:
        raise ValueError(f"topk: k is {k}, dim {dim} of a tensor of shape {list(input.shape)} has {length} elements")
    return _read(input, dim, _argtop_op(input, k=k, dim=dim, largest=largest, ordered=sorted))


@method()
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Ranked:
    """``(values, indices)`` of the ``k``-th smallest element along ``dim``, counted from 1."""
    dim = normalize_dim("kthvalue", dim, input.shape)
    length = input.shape[dim] if input.ndim else 1
    if not 1 <= k <= length:
        raise ValueError(f"kthvalue: k is {k}, expected 1 to {length} for dim {dim} of shape {list(input.shape)}")
    if not input.ndim:
        return _read(input, dim, argsort(input))
    position = np.argpartition(input.array, k - 1, axis=dim)[(slice(None),) * dim + (slice(k - 1, k),)]
    found = _read(input, dim, wrap(position.copy(), input.device))
    return found if keepdim else Ranked(*[squeeze(x, dim) for x in found])


# --- running extremes


def _running(extreme: Any, x: Any, dim: int) -> Any:
    """The extreme of all elements so far, in log2(n) steps: step k looks 2^k elements back."""
    out, lead, back = x, (slice(None),) * dim, 1
    while back < x.shape[dim]:
        later, earlier = (*lead, slice(back, None)), (*lead, slice(None, -back))
        step = out.copy()
        step[later] = extreme(out[later], out[earlier])
        out, back = step, 2 * back
    return out


def _argrunning(x: Any, *, dim: int, extreme: Any) -> Any:
    """Where the extreme so far is, the latest of equal ones; NaN, once met, stays."""
    xp = array_module(x)
    if not x.ndim:
        return xp.zeros((), np.int64)
    found = (x == _running(extreme, x, dim)) | (x != x)
    here = xp.arange(x.shape[dim]).reshape((-1,) + (1,) * (x.ndim - dim - 1))
    return _running(np.maximum, np.where(found, here, 0), dim)


_argrunning_op = primitive("argrunning", _argrunning)


@method()
def cummax(input: Tensor, dim: int) -> Ranked:
    """``(values, indices)`` of the largest element so far along ``dim``."""
    dim = normalize_dim("cummax", dim, input.shape)
    return _read(input, dim, _argrunning_op(input, dim=dim, extreme=np.maximum))


@method()
def cummin(input: Tensor, dim: int) -> Ranked:
    """``(values, indices)`` of the smallest element so far along ``dim``."""
    dim = normalize_dim("cummin", dim, input.shape)
    return _read(input, dim, _argrunning_op(input, dim=dim, extreme=np.minimum))


# --- distinct elements and where others would go


@method()
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct elements, or slices along ``dim``, in order (whatever ``sorted`` says).

    Then, if asked for, where each element of the input is among them, and how often each of them occurs.
    """
    if dim is not None:
        dim = normalize_dim("unique", dim, input.shape)
    found, inverse, counts = np.unique(
        input.array, return_inverse=True, return_counts=True, axis=dim, equal_nan=False
    )
    inverse = inverse.reshape(input.shape if dim is None else -1)
    wanted = [found, *[inverse] * return_inverse, *[counts] * return_counts]
    tensors = tuple([wrap(array, input.device) for array in wanted])
    return tensors if len(tensors) > 1 else tensors[0]


def searchsorted(
    sorted_sequence: Tensor, input: Tensor | float, *, right: bool = False, side: str | None = None
) -> Tensor:
    """Where each value of ``input`` would go in an ascending sequence: before equal elements, or after if ``right``.

    A 1-D sequence serves all values; one of more dimensions serves, row by row, values with the same leading
    dimensions. ``side``: ``"left"`` or ``"right"``, the same choice by name.
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise ValueError(f"searchsorted: side must be 'left' or 'right' and agree with right={right}, got {side!r}")
    place: Any = side or ("right" if right else "left")
    values = input if isinstance(input, Tensor) else as_tensor(input, device=sorted_sequence.device)
    rows, wanted = sorted_sequence.array, values.array
    found = array_module(rows).empty(wanted.shape, np.int64)
    if rows.ndim == 1:
        found[...] = np.searchsorted(rows, wanted, place)
        return wrap(found, values.device)
    if rows.shape[:-1] != wanted.shape[:-1]:
        raise ValueError(
            f"searchsorted: sequences of shape {list(rows.shape)} and values of shape {list(wanted.shape)} differ in "
            "their leading dimensions"
        )
    for row in np.ndindex(*rows.shape[:-1]):
        found[row] = np.searchsorted(rows[row], wanted[row], place)
    return wrap(found, values.device)


def bucketize(input: Tensor | float, boundaries: Tensor, *, right: bool = False) -> Tensor:
    """``searchsorted`` with the arguments the other way round: which interval between boundaries holds each value."""
    if boundaries.ndim != 1:
        raise ValueError(f"bucketize: boundaries must be 1-D, got shape {list(boundaries.shape)}")
    return searchsorted(boundaries, input, right=right)
