"""Shape: the same elements under other dimensions. Everything here is a view wherever memory allows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from ..declare import Primitive, method, primitive
from ..tensor import Tensor
from .dims import normalize_dim, normalize_dims, variadic
from .reduce import broadcast_to

__all__ = [
    "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_shapes", "broadcast_tensors", "flatten", "moveaxis",
    "movedim", "permute", "ravel", "reshape", "squeeze", "swapaxes", "swapdims", "t", "transpose", "unflatten",
    "unsqueeze",
]  # fmt: skip

_reshape: Primitive = primitive(
    "reshape", lambda x, *, shape: x.reshape(shape), (lambda g, y, x, *, shape: _reshape(g, shape=x.shape),)
)
_permute: Primitive = primitive(
    "permute",
    lambda x, *, dims: x.transpose(dims),
    (lambda g, y, x, *, dims: _permute(g, dims=tuple(sorted(range(len(dims)), key=dims.__getitem__))),),
)
_transpose: Primitive = primitive(
    "transpose",
    lambda x, *, dim0, dim1: x.swapaxes(dim0, dim1),
    (lambda g, y, x, *, dim0, dim1: _transpose(g, dim0=dim0, dim1=dim1),),
)
_contiguous = primitive("contiguous", lambda x: x.copy(order="C"), (lambda g, y, x: g,))

# --- regrouping the elements


def reshape(input: Tensor, shape: Sequence[int]) -> Tensor:
    """``input`` with ``shape``, one length of which may be -1; a view where strides allow it, else a copy."""
    return _reshape(input, shape=shape if isinstance(shape, tuple) else tuple(shape))


def view(input: Tensor, size: Sequence[int]) -> Tensor:
    """``reshape`` that shares memory: raises where only a copy could have this shape."""
    y = _reshape(input, shape=tuple(size))
    if y.array.size and not np.may_share_memory(y.array, input.array):
        raise RuntimeError(
            f"view: shape {list(input.shape)} with strides {list(input.array.strides)} (bytes) cannot be seen as "
            f"{list(y.shape)} without a copy; use reshape, or contiguous() first"
        )
    return y


method("reshape")(variadic(reshape))
method("view")(variadic(view))


@method()
def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """``input.reshape(other.shape)``."""
    return _reshape(input, shape=other.shape)


@method()
def view_as(input: Tensor, other: Tensor) -> Tensor:
    """``input.view(other.shape)``."""
    return view(input, other.shape)


@method()
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dims ``start_dim`` to ``end_dim``, both included, as one."""
    shape = input.shape
    start, end = normalize_dim("flatten", start_dim, shape), normalize_dim("flatten", end_dim, shape)
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} in shape {list(shape)}")
    return _reshape(input, shape=(*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :]))


@method()
def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Dim ``dim`` as several of ``sizes``, one of which may be -1."""
    dim = normalize_dim("unflatten", dim, input.shape)
    length, known = input.shape[dim], prod(n for n in sizes if n != -1)
    inferred = list(sizes).count(-1)
    if inferred > 1 or (length != known if not inferred else known == 0 or length % known):
        raise ValueError(
            f"unflatten: sizes {list(sizes)} do not multiply up to the {length} of dim {dim} "
            f"of a tensor of shape {list(input.shape)}"
        )
    split = [length // known if n == -1 else n for n in sizes]
    return _reshape(input, shape=(*input.shape[:dim], *split, *input.shape[dim + 1 :]))


@method()
def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension."""
    return _reshape(input, shape=(-1,))


@method()
def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without its dimensions of length 1, or without those of ``dim`` that have length 1."""
    shape = input.shape
    dropped = range(len(shape)) if dim is None else normalize_dims("squeeze", dim, shape)
    return _reshape(input, shape=tuple([n for i, n in enumerate(shape) if n != 1 or i not in dropped]))


@method()
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dimension of length 1 at ``dim``."""
    shape = input.shape
    dim = normalize_dim("unsqueeze", dim, shape, extra=1)
    return _reshape(input, shape=(*shape[:dim], 1, *shape[dim:]))


@method()
def contiguous(input: Tensor) -> Tensor:
    """``input`` itself if it lies in C order without gaps, else a copy that does."""
    return input if input.array.flags.c_contiguous else _contiguous(input)


# --- reordering the dimensions


def permute(input: Tensor, dims: Sequence[int]) -> Tensor:
    """The dimensions in the order ``dims``; a view."""
    order = normalize_dims("permute", tuple(dims), input.shape)
    if len(order) != input.ndim:
        raise ValueError(f"permute: {len(order)} dims {list(dims)} for a tensor of shape {list(input.shape)}")
    return _permute(input, dims=order)


method("permute")(variadic(permute))


@method("transpose", "swapaxes", "swapdims")
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Dims ``dim0`` and ``dim1`` swapped; a view."""
    dim0, dim1 = normalize_dim("transpose", dim0, input.shape), normalize_dim("transpose", dim1, input.shape)
    return _transpose(input, dim0=dim0, dim1=dim1) if input.ndim else input.alias()


swapaxes = swapdims = transpose


@method("movedim", "moveaxis")
def movedim(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Dims ``source`` moved to the places ``destination``, the others kept in order; a view."""
    start = normalize_dims("movedim", source, input.shape)
    end = normalize_dims("movedim", destination, input.shape)
    if len(start) != len(end):
        raise ValueError(f"movedim: {len(start)} source dims {start} for {len(end)} destinations {end}")
    order = [dim for dim in range(input.ndim) if dim not in start]
    for place, dim in sorted(zip(end, start)):
        order.insert(place, dim)
    return _permute(input, dims=tuple(order))


moveaxis = movedim


@method()
def t(input: Tensor) -> Tensor:
    """A matrix transposed; 0-d and 1-d tensors as they are."""
    if input.ndim > 2:
        raise ValueError(f"t: expects at most 2 dimensions, got shape {list(input.shape)}; use .mT or transpose()")
    return transpose(input, 0, -1)


def _mT(input: Tensor) -> Tensor:
    """The last two dimensions swapped: a batch of matrices transposed."""
    if input.ndim < 2:
        raise ValueError(f"mT: expects at least 2 dimensions, got shape {list(input.shape)}")
    return _transpose(input, dim0=-2, dim1=-1)


method("T")(property(lambda input: _permute(input, dims=tuple(range(input.ndim))[::-1])))  # type: ignore[arg-type]
method("mT")(property(_mT))  # type: ignore[arg-type]


# --- broadcasting


def expand(input: Tensor, size: Sequence[int]) -> Tensor:
    """Dimensions of length 1 repeated to ``size``, where -1 keeps a length; new ones come first. Copies nothing."""
    shape = input.shape
    lead = len(size) - len(shape)
    target = tuple([shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(size)])
    if lead < 0 or any(n < 0 or (i >= lead and shape[i - lead] not in (1, n)) for i, n in enumerate(target)):
        raise ValueError(
            f"expand: shape {list(shape)} cannot become {list(size)}: only dimensions of length 1 and new leading "
            "ones can take another length"
        )
    return broadcast_to(input, target)


method("expand")(variadic(expand))


@method()
def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """``input.expand(other.shape)``."""
    return expand(input, other.shape)


def broadcast_shapes(*shapes: int | Sequence[int]) -> tuple[int, ...]:
    """The shape that tensors of ``shapes`` broadcast to."""
    return np.broadcast_shapes(*[shape if isinstance(shape, int) else tuple(shape) for shape in shapes])


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All ``tensors`` expanded to their common shape."""
    shape = np.broadcast_shapes(*[x.shape for x in tensors])
    return tuple([broadcast_to(x, shape) for x in tensors])


# --- a least number of dimensions


def _each(function: Callable[[Tensor], Tensor], tensors: tuple) -> Any:
    """``function`` of one tensor, or the tuple of it of several (or of one sequence of them)."""
    if len(tensors) == 1 and isinstance(tensors[0], Tensor):
        return function(tensors[0])
    return tuple([function(x) for x in (tensors[0] if len(tensors) == 1 else tensors)])


def atleast_1d(*tensors: Tensor | Sequence[Tensor]) -> Any:
    """A 0-d tensor as shape ``[1]``, others as they are; of several tensors a tuple."""
    return _each(lambda x: x if x.ndim else _reshape(x, shape=(1,)), tensors)


def atleast_2d(*tensors: Tensor | Sequence[Tensor]) -> Any:
    """Shape ``[n]`` as ``[1, n]``, a 0-d tensor as ``[1, 1]``, others as they are; of several tensors a tuple."""
    return _each(lambda x: x if x.ndim > 1 else _reshape(x, shape=(1, x.numel())), tensors)


def atleast_3d(*tensors: Tensor | Sequence[Tensor]) -> Any:
    """Shape ``[m, n]`` as ``[m, n, 1]``, ``[n]`` as ``[1, n, 1]``, others as they are; of several tensors a tuple."""

    def three(x: Tensor) -> Tensor:
        return x if x.ndim > 2 else _reshape(x, shape=(*x.shape, 1) if x.ndim == 2 else (1, x.numel(), 1))

    return _each(three, tensors)
