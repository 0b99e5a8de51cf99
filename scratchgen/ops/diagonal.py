"""Diagonals and triangles of matrices. Taking a diagonal and placing one are each other's transpose."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..declare import Primitive, method, primitive
from ..kernels.arrays import array_module
from ..tensor import Tensor
from .dims import normalize_dim

__all__ = ["diag", "diag_embed", "diagonal", "trace", "tril", "triu"]


def _place_diagonal(x: Any, *, offset: int, dim1: int, dim2: int, shape: tuple[int, ...]) -> Any:
    """Zeros of ``shape`` with the last dimension of ``x`` on the diagonal of ``dim1`` and ``dim2``."""
    xp = array_module(x)
    out = xp.zeros(shape, x.dtype)
    along = xp.arange(x.shape[-1])
    np.moveaxis(out, (dim1, dim2), (-2, -1))[..., along + max(-offset, 0), along + max(offset, 0)] = x
    return out


_diagonal_op = primitive(
    "diagonal",
    lambda x, *, offset, dim1, dim2: np.diagonal(x, offset, dim1, dim2),
    (lambda g, y, x, *, shape=None, **where: _place_op(g, shape=x.shape, **where),),
)
_place_op: Primitive = primitive(
    "place_diagonal", _place_diagonal, (lambda g, y, x, *, shape, **where: _diagonal_op(g, **where),)
)


@method()
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The elements ``[i, i + offset]`` of dims ``dim1`` and ``dim2``, as a new last dimension; a view."""
    first, second = (normalize_dim("diagonal", dim, input.shape) for dim in (dim1, dim2))
    if first == second:
        raise ValueError(f"diagonal: dim1 {dim1} and dim2 {dim2} are one dimension of shape {list(input.shape)}")
    return _diagonal_op(input, offset=offset, dim1=first, dim2=second)


@method()
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices, in new dims ``dim1`` and ``dim2``, with the last dimension of ``input`` on the diagonal ``offset``."""
    first, second = (normalize_dim("diag_embed", dim, input.shape, extra=1) for dim in (dim1, dim2))
    if first == second or input.ndim == 0:
        raise ValueError(
            f"diag_embed: needs a dimension to place and two different dims to place it in, got shape "
            f"{list(input.shape)} and dims {dim1}, {dim2}"
        )
    side = input.shape[-1] + abs(offset)
    shape = list(input.shape[:-1])
    for dim in sorted((first, second)):
        shape.insert(dim, side)
    return _place_op(input, offset=offset, dim1=first, dim2=second, shape=tuple(shape))


@method()
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or the matrix with a vector on its diagonal."""
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim == 2:
        return _diagonal_op(input, offset=diagonal, dim1=0, dim2=1)
    raise ValueError(f"diag: expects 1 or 2 dimensions, got shape {list(input.shape)}; see diagonal and diag_embed")


@method()
def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    if input.ndim != 2:
        raise ValueError(f"trace: expects a matrix, got shape {list(input.shape)}; use diagonal(...).sum(-1)")
    return _diagonal_op(input, offset=0, dim1=0, dim2=1).sum()


# --- triangles: projections, so each is its own transpose

_tril_op: Primitive = primitive(
    "tril", lambda x, *, k: np.tril(x, k), (lambda g, y, x, *, k: _tril_op(g, k=k),)
)
_triu_op: Primitive = primitive(
    "triu", lambda x, *, k: np.triu(x, k), (lambda g, y, x, *, k: _triu_op(g, k=k),)
)


def _triangle(op: Any, input: Tensor, diagonal: int) -> Tensor:
    if input.ndim < 2:
        raise ValueError(f"{op.name}: expects at least 2 dimensions, got shape {list(input.shape)}")
    return op(input, k=diagonal)


@method()
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangles of a batch of matrices, up to diagonal ``diagonal``, and zeros."""
    return _triangle(_tril_op, input, diagonal)


@method()
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangles of a batch of matrices, from diagonal ``diagonal``, and zeros."""
    return _triangle(_triu_op, input, diagonal)
