"""Joining and splitting. ``cat`` and ``split`` are each other's transpose, and so are ``stack`` and ``unbind``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate
from typing import Any

import numpy as np

from .. import dtypes, kernels
from ..declare import Primitive, method, primitive
from ..kernels.arrays import LARGE
from ..kernels.layout import joined
from ..tensor import Tensor
from .dims import normalize_dim
from .elementwise import cast
from .shape import atleast_1d, atleast_2d, atleast_3d

__all__ = [
    "cat", "chunk", "concat", "concatenate", "dstack", "hsplit", "hstack", "split", "stack", "tensor_split", "unbind",
    "vsplit", "vstack",
]  # fmt: skip


def _split_forward(x: Any, *, sizes: tuple[int, ...], dim: int) -> tuple:
    lead = (slice(None),) * dim
    return tuple([x[(*lead, slice(end - size, end))] for size, end in zip(sizes, accumulate(sizes))])


def _cat_vjp(g: Tensor, y: Any, *tensors: Any, dim: int) -> Sequence[Tensor]:
    return _split(g, sizes=tuple([x.shape[dim] for x in tensors]), dim=dim)


def _cat_forward(*arrays: Any, dim: int) -> Any:
    if sum(a.size for a in arrays) >= LARGE:
        device = "cpu" if type(arrays[0]) is np.ndarray else "cuda"
        return kernels.select("cat", device, arrays, {"dim": dim}).fn(*arrays, dim=dim)
    return np.concatenate(arrays, dim)


def _rejoin_forward(*arrays: Any, dim: int) -> Any:
    whole = joined(arrays, dim) if type(arrays[0]) is np.ndarray else None
    return _cat_forward(*arrays, dim=dim) if whole is None else whole


_cat = primitive("cat", _cat_forward, _cat_vjp)
_rejoin = primitive("rejoin", _rejoin_forward, _cat_vjp)  # shares memory where the parts are neighbours already
_split: Primitive = primitive(
    "split", _split_forward, lambda g, y, x, *, sizes, dim: (_rejoin(*g, dim=dim),), several=True
)
_stack = primitive("stack", lambda *arrays, dim: np.stack(arrays, dim), lambda g, y, *tensors, dim: _unbind(g, dim=dim))
_unbind: Primitive = primitive(
    "unbind",
    lambda x, *, dim: tuple([x[(slice(None),) * dim + (i,)] for i in range(x.shape[dim])]),
    lambda g, y, x, *, dim: (_stack(*g, dim=dim),),
    several=True,
)

# --- joining


def _common(op: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    """``tensors`` in their common dtype."""
    if isinstance(tensors, Tensor) or not all(isinstance(x, Tensor) for x in tensors):
        raise TypeError(f"{op}: expects a sequence of tensors, got {tensors!r}")
    if len(tensors) == 0:
        raise ValueError(f"{op}: expects at least one tensor, got an empty sequence")
    found = [x.array.dtype for x in tensors]
    if found.count(found[0]) == len(found):
        return list(tensors)
    dtype = reduce(dtypes.promote, found)
    return [cast(x, dtype) for x in tensors]


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """``tensors`` joined along ``dim``; in all other dimensions they have one shape.

    Tensors of shape ``[0]`` are left out whatever the others' shape, as in torch.
    """
    parts = _common("cat", tensors)
    full = [x for x in parts if x.shape != (0,)] or parts[:1]
    shape = full[0].shape
    if not shape:
        raise ValueError("cat: 0-d tensors cannot be joined along a dimension; use stack")
    dim = normalize_dim("cat", dim, shape)
    around = shape[:dim], shape[dim + 1 :]
    for i, x in enumerate(full):
        if (x.shape[:dim], x.shape[dim + 1 :]) != around:
            raise ValueError(
                f"cat: shapes {list(shape)} and {list(x.shape)} (tensor {i}) differ outside dim {dim}"
            )
    return _cat(*full, dim=dim)


concat = concatenate = cat


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """``tensors`` of one shape joined along a new dimension ``dim``."""
    parts = _common("stack", tensors)
    shape = parts[0].shape
    for i, x in enumerate(parts):
        if x.shape != shape:
            raise ValueError(f"stack: tensor {i} has shape {list(x.shape)}, tensor 0 has {list(shape)}")
    return _stack(*parts, dim=normalize_dim("stack", dim, shape, extra=1))


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along dim 1, or along dim 0 if they are 1-D."""
    parts = atleast_1d(tuple(tensors))
    return cat(parts, 0 if parts[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along dim 0, 1-D tensors as rows."""
    return cat(atleast_2d(tuple(tensors)), 0)


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along dim 2, after ``atleast_3d``."""
    return cat(atleast_3d(tuple(tensors)), 2)


# --- splitting


@method()
def split(tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Pieces of one length (the last may be shorter) or of the given lengths along ``dim``; views."""
    dim = _splittable("split", tensor, dim)
    length = tensor.shape[dim]
    if isinstance(split_size_or_sections, Sequence):
        sizes = tuple(split_size_or_sections)
        if sum(sizes) != length or min(sizes, default=0) < 0:
            raise ValueError(
                f"split: sections {list(sizes)} do not add up to the {length} of dim {dim} of a tensor of shape "
                f"{list(tensor.shape)}"
            )
    else:
        size = split_size_or_sections
        if size < 0 or (size == 0 and length):
            raise ValueError(f"split: pieces of {size} along dim {dim} of a tensor of shape {list(tensor.shape)}")
        whole, rest = divmod(length, size) if length else (0, 0)
        sizes = (size,) * whole + ((rest,) if rest or not length else ())
    return _split(tensor, sizes=sizes, dim=dim)


@method()
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` pieces of one length, rounded up, along ``dim``; the last may be shorter."""
    if chunks < 1:
        raise ValueError(f"chunk: chunks must be positive, got {chunks}")
    length = input.shape[_splittable("chunk", input, dim)]
    return split(input, -(-length // chunks), dim) if length else split(input, [0] * chunks, dim)


@method()
def tensor_split(
    input: Tensor, indices_or_sections: int | Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """Exactly so many pieces of lengths that differ by at most 1, or pieces cut before the given indices."""
    dim = _splittable("tensor_split", input, dim)
    length = input.shape[dim]
    if isinstance(indices_or_sections, Sequence):
        cuts = [slice(None, i).indices(length)[1] for i in indices_or_sections]
        starts, ends = [0, *cuts], [*cuts, length]
        if all(start <= end for start, end in zip(starts, ends)):
            return _split(input, sizes=tuple([end - start for start, end in zip(starts, ends)]), dim=dim)
        lead = (slice(None),) * dim
        return tuple([input[(*lead, slice(start, end))] for start, end in zip(starts, ends)])
    sections = indices_or_sections
    if sections < 1:
        raise ValueError(f"tensor_split: the number of sections must be positive, got {sections}")
    size, longer = divmod(length, sections)
    return _split(input, sizes=(size + 1,) * longer + (size,) * (sections - longer), dim=dim)


@method()
def hsplit(input: Tensor, indices_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
    """``tensor_split`` along dim 1, or along dim 0 of a 1-D tensor."""
    return tensor_split(input, indices_or_sections, 0 if input.ndim == 1 else 1)


@method()
def vsplit(input: Tensor, indices_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
    """``tensor_split`` along dim 0."""
    return tensor_split(input, indices_or_sections, 0)


@method()
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along ``dim``, without it; views."""
    dim = _splittable("unbind", input, dim)
    return _unbind(input, dim=dim) if input.shape[dim] else ()


def _splittable(op: str, x: Tensor, dim: int) -> int:
    if x.ndim == 0:
        raise ValueError(f"{op}: a 0-d tensor has no dimension to split")
    return normalize_dim(op, dim, x.shape)
