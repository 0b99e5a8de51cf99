"""Indexing. Each way to read elements is closed under differentiation with its transpose, the way to add them back:

- slices: ``getitem`` and ``unslice``, which need no addition because a slice names no element twice;
- masks: ``compress`` and ``decompress`` of the file beside this one, likewise;
- arrays of positions: ``take_at`` and ``add_at``, where positions that come twice add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from .. import kernels
from ..declare import method, primitive
from ..kernels.arrays import LARGE, array_module
from ..tensor import Tensor, as_tensor, wrap
from .dims import normalize_dim
from .mask import compress, masked_fill
from .shape import movedim, reshape

__all__ = ["embedding", "index_add", "index_select", "narrow", "one_hot", "select", "take"]

# --- slices


def _blank(like: Any, shape: tuple[int, ...], value: Any = 0) -> Any:
    """A filled array; of ``like``'s dimension order in memory if it has as many, so that channels stay last."""
    xp = array_module(like)
    if len(shape) != like.ndim:
        return xp.full(shape, value, like.dtype) if value else xp.zeros(shape, like.dtype)
    return xp.full_like(like, value, shape=shape) if value else xp.zeros_like(like, shape=shape)


def _unslice(x: Any, *, index: tuple, shape: tuple[int, ...], value: Any) -> Any:
    out = _blank(x, shape, value)
    out[index] = x
    return out


_getitem = primitive(
    "getitem", lambda x, *, index: x[index], (lambda g, y, x, *, index: unslice(g, index, x.shape),)
)
_unslice_op = primitive("unslice", _unslice, (lambda g, y, x, *, index, **_: _getitem(g, index=index),))


def unslice(input: Tensor, index: Any, shape: tuple[int, ...], value: float = 0) -> Tensor:
    """A tensor of ``shape`` full of ``value`` but for ``input`` at the slices ``index``."""
    return _unslice_op(input, index=index, shape=shape, value=value)


# --- positions


def _take_at(x: Any, *positions: Any, dims: tuple[int, ...]) -> Any:
    if len(dims) == 1 and x.flags.c_contiguous:  # copies runs of memory; other layouts it would copy as a whole first
        return x.take(positions[0], axis=dims[0])
    index: list[Any] = [slice(None)] * x.ndim
    for dim, position in zip(dims, positions):
        index[dim] = position
    return x[tuple(index)]


def _take_at_vjp(g: Tensor, y: Any, x: Any, *positions: Tensor, dims: tuple[int, ...]) -> tuple:
    return (add_at(g, positions, dims, x.shape), *[None] * len(positions))


_take_at_op = primitive("take_at", _take_at, _take_at_vjp, save="positions")
_scatter_add = primitive(
    "scatter_add", None, (lambda g, y, source, index, *, rows: take_at(g, (index,), (0,)), None), save="index"
)


def take_at(input: Tensor, positions: Sequence[Tensor], dims: tuple[int, ...]) -> Tensor:
    """``input[..., i, ..., j, ...]`` with integer tensors at ``dims``, by NumPy's rule for where their dimensions go.

    They broadcast; theirs come in place of ``dims`` if these are neighbours, else first.
    """
    return _take_at_op(input, *positions, dims=dims)


def add_at(source: Tensor, positions: Sequence[Tensor], dims: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """Zeros of ``shape`` with ``source`` added at what ``take_at`` would read: its transpose."""
    lead = np.broadcast_shapes(*[p.shape for p in positions])
    neighbours = all(b == a + 1 for a, b in pairwise(dims))
    start = dims[0] if neighbours else 0
    if start:
        source = movedim(source, tuple(range(start, start + len(lead))), tuple(range(len(lead))))
    others = [n for d, n in enumerate(shape) if d not in dims]
    lengths = [shape[d] for d in dims]
    rows = wrap(_row_numbers([p.array for p in positions], lengths, lead), source.device)
    added = _scatter_add(reshape(source, (prod(lead), prod(others))), rows, rows=prod(lengths))
    return movedim(reshape(added, (*lengths, *others)), tuple(range(len(dims))), dims)


def _row_numbers(positions: Sequence[Any], lengths: Sequence[int], lead: tuple[int, ...]) -> Any:
    """Positions along several dimensions as positions along one, flat and counted from the front."""
    flat: Any = 0
    for position, length in zip(positions, lengths):
        flat = flat * length + position.astype(np.int64, copy=False) + length * (position < 0)
    return np.broadcast_to(flat, lead).reshape(-1)


# --- x[...]

_slicing = {int, slice, type(None), type(...)}


@method("__getitem__")
def getitem(input: Tensor, index: Any) -> Tensor:
    """``input[index]`` by torch's rules: numbers, slices, None, ``...``, masks and arrays of positions, mixed.

    Slices are views, and unlike torch's may have negative steps. Numbers, slices and None are applied first; arrays
    of positions then index the result together, and broadcast. A mask stands for the positions where it is True.
    """
    if type(index) in _slicing or (type(index) is tuple and _slicing.issuperset(map(type, index))):
        return _getitem(input, index=index)
    return _advanced(input, index if type(index) is tuple else (index,))


def _advanced(input: Tensor, index: tuple) -> Tensor:
    """Apply everything but the arrays as slices, then index with the arrays."""
    items = [_item(i, input) for i in index]
    used = sum([_width(i) for i in items])
    if used > input.ndim:
        raise IndexError(f"getitem: {used} dimensions indexed in a tensor of shape {list(input.shape)}")
    slices: list[Any] = []
    arrays: list[tuple[int, Tensor]] = []  # with the (first) dimension each indexes after slicing
    dim = 0  # of the input, where the next item applies
    out = 0  # and of the sliced input
    for i in items:
        width = input.ndim - used if i is ... else _width(i)
        if isinstance(i, bool):  # a 0-d mask: a new dimension, kept or emptied
            slices.append(None)
            arrays.append((out, as_tensor([i], device=input.device)))
            out += 1
        elif i is ... or isinstance(i, Tensor):
            if isinstance(i, Tensor):
                arrays.append((out, _fitting(i, input, dim, width)))
            slices += [slice(None)] * width
            out += width
        else:
            slices.append(i)
            out += type(i) is not int
        dim += width
    if not arrays or any(i != slice(None) for i in slices):
        input = _getitem(input, index=tuple(slices))
    if not arrays:
        return input
    if len(arrays) == 1 and arrays[0][1].dtype.kind == "b":
        return compress(input, arrays[0][1], arrays[0][0])
    dims, positions = [], []
    for first, array in arrays:
        for k, column in enumerate(_columns(array)):
            dims.append(first + k)
            positions.append(column)
    return take_at(input, positions, tuple(dims))


def _item(i: Any, input: Tensor) -> Any:
    """One item of an index: a number, slice, None or ... as it is, a 0-d mask as a bool, an array as a Tensor."""
    if type(i) in _slicing or isinstance(i, bool):
        return i
    if not isinstance(i, Tensor):
        i = as_tensor(i, device=input.device)
        if i.array.size == 0 and i.dtype.kind == "f":  # x[[]]
            i = i.long()
    kind = i.dtype.kind
    if kind not in "iub" or i.dtype == np.uint8:
        raise IndexError(
            f"getitem: an index must be of integers or bools, got {i.dtype}{list(i.shape)}"
            + ("; use .bool() for a mask, .long() for positions" if kind == "u" else "")
        )
    return i if i.ndim else i.item()


def _width(i: Any) -> int:
    """How many dimensions of the input an item of an index uses up; ``...`` stands for the rest."""
    if isinstance(i, Tensor):
        return i.ndim if i.dtype.kind == "b" else 1
    return int(not (i is None or i is ... or isinstance(i, bool)))


def _fitting(array: Tensor, input: Tensor, dim: int, width: int) -> Tensor:
    if array.dtype.kind == "b" and array.shape != input.shape[dim : dim + width]:
        raise IndexError(
            f"getitem: a mask of shape {list(array.shape)} at dim {dim} of a tensor of shape {list(input.shape)}"
        )
    return array


def _columns(array: Tensor) -> list[Tensor]:
    """The positions an index array stands for, along each dimension that it indexes."""
    if array.dtype.kind != "b":
        return [array]
    return [wrap(positions, array.device) for positions in array.array.nonzero()]


@method()
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """Number ``index`` along ``dim``, without that dimension; a view."""
    dim = normalize_dim("select", dim, input.shape)
    return _getitem(input, index=(slice(None),) * dim + (index,))


@method()
def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """``length`` elements of ``dim`` from ``start`` on; a view."""
    dim = normalize_dim("narrow", dim, input.shape)
    whole = input.shape[dim]
    begin = start + whole if start < 0 else start
    if not 0 <= begin <= begin + length <= whole:
        raise IndexError(f"narrow: {length} from {start} on in dim {dim} of a tensor of shape {list(input.shape)}")
    return _getitem(input, index=(slice(None),) * dim + (slice(begin, begin + length),))


# --- along one dimension


def check_positions(op: str, index: Tensor, length: int, allow_negative: bool = False) -> Tensor:
    """Refuse what is not a position from 0 to ``length`` - 1. On a GPU, only by dtype: reading values would wait."""
    if index.dtype.kind not in "iu":
        raise TypeError(f"{op}: positions must be integers, got {index.dtype}{list(index.shape)}")
    if isinstance(index.array, np.ndarray) and index.array.size:
        least, most = int(index.array.min()), int(index.array.max())
        if most >= length or least < (-length if allow_negative else 0):
            wrong = most if most >= length else least
            raise IndexError(f"{op}: position {wrong} is out of range for a dimension of length {length}")
    return index


@method()
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The elements of ``dim`` at the positions ``index`` (1-D), in that order."""
    dim = normalize_dim("index_select", dim, input.shape)
    if index.ndim > 1:
        raise ValueError(f"index_select: index must be 1-D, got shape {list(index.shape)}")
    if input.ndim == 0:
        return index_select(reshape(input, (1,)), 0, index).squeeze(0)
    check_positions("index_select", index, input.shape[dim])
    return take_at(input, (reshape(index, (-1,)),), (dim,))


@method()
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """``input`` with ``alpha`` times slice i of ``source`` added to its slice ``index[i]`` along ``dim``."""
    dim = normalize_dim("index_add", dim, input.shape)
    expected = (*input.shape[:dim], index.numel(), *input.shape[dim + 1 :])
    if index.ndim != 1 or source.shape != expected:
        raise ValueError(
            f"index_add: index of shape {list(index.shape)} and source of shape {list(source.shape)} for dim {dim} of "
            f"shape {list(input.shape)}; expected a 1-D index and source {list(expected)}"
        )
    check_positions("index_add", index, input.shape[dim])
    return input + add_at(source if alpha == 1 else source * alpha, (index,), (dim,), input.shape)


@method()
def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements at positions ``index`` of the flattened input, in the shape of ``index``."""
    flat = reshape(input, (-1,))
    return take_at(flat, (check_positions("take", index, input.numel(), allow_negative=True),), (0,))


# --- embedding


def _embedding_vjp(g: Tensor, y: Any, weight: Any, index: Tensor, *, padding: int | None) -> tuple:
    if padding is not None:
        g = masked_fill(g, wrap((index.array == padding)[..., None], g.device), 0)
    return add_at(g, (index,), (0,), weight.shape), None


def _embedding_forward(weight: Any, index: Any, *, padding: int | None) -> Any:
    if index.size * weight.shape[1] >= LARGE:
        device = "cpu" if type(weight) is np.ndarray else "cuda"
        rows = kernels.select("take_rows", device, (weight, index), {}).fn(weight, index.reshape(-1))
        return rows.reshape(*index.shape, weight.shape[1])
    return _take_at(weight, index, dims=(0,))


_embedding = primitive("embedding", _embedding_forward, _embedding_vjp, save="index")


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Rows of ``weight`` [num, dim] at the positions ``input`` [...]: [..., dim].

    ``padding_idx``: this row of ``weight`` gets no gradient.
    """
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight must be [num, dim], got shape {list(weight.shape)}")
    rows = weight.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise ValueError(f"embedding: padding_idx {padding_idx} is out of range for {rows} rows")
        padding_idx %= rows
    return _embedding(weight, check_positions("embedding", input, rows), padding=padding_idx)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Class numbers [...] as int64 [..., num_classes] with a single 1; -1: as many classes as the largest needs."""
    if num_classes < 0:
        if tensor.numel() == 0:
            raise ValueError("one_hot: num_classes cannot be inferred from an empty tensor")
        num_classes = int(tensor.array.max()) + 1
    check_positions("one_hot", tensor, num_classes)
    classes = array_module(tensor.array).arange(num_classes)
    return wrap((tensor.array[..., None] == classes).astype(np.int64), tensor.device)
