"""Reductions, and the pair that undoes and does broadcasting. Dimensions and defaults as in torch."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..declare import method, primitive
from ..dtypes import float16, float32, int64
from ..kernels.arrays import LARGE
from ..kernels.sums import accurate_sum
from ..tensor import Tensor
from .compare import isnan, maximum, minimum, where
from .dims import normalize_dim, normalize_dims
from .elementwise import cast, quiet

__all__ = [
    "all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "broadcast_to", "count_nonzero", "max", "mean", "min",
    "nansum", "norm", "std", "sum", "var", "var_mean", "vector_norm",
]  # fmt: skip

Dims = int | Sequence[int] | None


def reduced_dims(op: str, dim: Dims, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The dimensions to reduce, counted from the front; None for all. An empty list means all, as in torch."""
    if dim is None or dim == () or dim == []:
        return None
    dims = normalize_dims(op, dim, shape)
    return dims if shape else None


def count_of(shape: tuple[int, ...], dim: tuple[int, ...] | None) -> int:
    """How many elements a reduction over ``dim`` puts together."""
    count = 1
    for i in range(len(shape)) if dim is None else dim:
        count *= shape[i]
    return count


# --- broadcasting and its transpose, closed


def _total(x: Any, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
    if x.size >= LARGE:
        how = {"dim": dim, "keepdim": keepdim}
        return kernels.select("sum", "cpu" if type(x) is np.ndarray else "cuda", (x,), how).fn(x, **how)
    return accurate_sum(x, dim, keepdim)


def _sum_to(x: Any, *, shape: tuple[int, ...]) -> Any:
    lead = x.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(lead + i for i, n in enumerate(shape) if n == 1 and x.shape[lead + i] != 1)
    return _total(x, axes, True).reshape(shape)


_sum_to_op = primitive("sum_to", _sum_to, (lambda g, y, x, *, shape: broadcast_to(g, x.shape),))
_broadcast_op = primitive(
    "broadcast_to",
    lambda x, *, shape: np.broadcast_to(x, shape),
    (lambda g, y, x, *, shape: sum_to_size(g, x.shape),),
)


@method()
def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """Sum ``input`` down to a shape that broadcasts to its own."""
    shape = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    return input if input.shape == shape else _sum_to_op(input, shape=shape)


@method()
def broadcast_to(input: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``input`` repeated along new and size-1 dimensions, without copying."""
    return input if input.shape == tuple(shape) else _broadcast_op(input, shape=tuple(shape))


# --- sum and its transpose, closed


def _spread_forward(g: Any, *, shape: tuple[int, ...], dim: tuple[int, ...] | None) -> Any:
    if dim is None:
        return np.broadcast_to(g.reshape((1,) * len(shape)), shape)
    return np.broadcast_to(g.reshape([1 if i in dim else n for i, n in enumerate(shape)]), shape)


_sum = primitive(
    "sum",
    lambda x, *, dim, keepdim: _total(x, dim, keepdim),
    (lambda g, y, x, *, dim, keepdim: spread(g, x.shape, dim),),
)
_spread = primitive(
    "spread",
    _spread_forward,
    (lambda u, y, g, *, shape, dim: _sum(u, dim=dim, keepdim=len(g.shape) == len(shape)),),
)


def spread(g: Tensor, shape: tuple[int, ...], dim: tuple[int, ...] | None) -> Tensor:
    """What a reduction of ``shape`` over ``dim`` gave, with or without its reduced dims, at each place it came from."""
    return _spread(g, shape=shape, dim=dim)


@method()
def sum(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum of all elements, or over ``dim`` (one or several). Integers and bools add up in int64."""
    if dtype is not None:
        input = cast(input, dtype)
    elif input.dtype.kind in "iub":
        input = cast(input, int64)
    return _sum(input, dim=None if dim is None else reduced_dims("sum", dim, input.shape), keepdim=keepdim)


@method()
def nansum(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """``sum`` with NaN counted as 0."""
    return sum(where(isnan(input), 0, input), dim, keepdim, dtype=dtype)


# --- mean and spread


def _floating(op: str, input: Tensor) -> Tensor:
    if input.dtype.kind not in "fc":
        raise TypeError(f"{op}: expected a floating-point tensor, got {input.dtype}; write x.float().{op}(...)")
    return input


def _wide(x: Any) -> Any:
    """float16 as float32: a sum or a square that is on the way to a moderate result must not overflow."""
    return x.astype(np.float32) if x.dtype.char == "e" else x


def _mean_forward(x: Any, *, dim: Any, keepdim: bool) -> Any:
    return (_total(_wide(x), dim, keepdim) / count_of(x.shape, dim)).astype(x.dtype, copy=False)


_mean = primitive(
    "mean",
    quiet(_mean_forward),
    (lambda g, y, x, *, dim, keepdim: spread(g / count_of(x.shape, dim), x.shape, dim),),
)


@method()
def mean(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean of all elements, or over ``dim``; NaN of no elements."""
    input = _floating("mean", input if dtype is None else cast(input, dtype))
    return _mean(input, dim=reduced_dims("mean", dim, input.shape), keepdim=keepdim)


def _var_forward(x: Any, *, dim: Any, keepdim: bool, correction: float) -> Any:
    """In two passes: the mean of the squares less the square of the mean would cancel."""
    n, wide = count_of(x.shape, dim), _wide(x)
    deviation = wide - accurate_sum(wide, dim, True) / n
    variance = accurate_sum(deviation * deviation, dim, keepdim) / _freedom(n, correction)
    return variance.astype(x.dtype, copy=False)


def _freedom(n: int, correction: float) -> float:
    """What squared deviations are divided by; 0, for NaN or infinity, if there are too few of them."""
    return builtins.max(n - correction, 0)


def _var_rule(g: Tensor, y: Any, x: Tensor, *, dim: Any, keepdim: bool, correction: float) -> Tensor:
    slope = 2 * g / _freedom(count_of(x.shape, dim), correction)
    return spread(slope, x.shape, dim) * (x - _mean(x, dim=dim, keepdim=True))


def _std_rule(g: Tensor, y: Tensor, x: Tensor, *, dim: Any, keepdim: bool, correction: float) -> Tensor:
    slope = g * inverse_or_zero(y) / _freedom(count_of(x.shape, dim), correction)
    return spread(slope, x.shape, dim) * (x - _mean(x, dim=dim, keepdim=True))


def inverse_or_zero(y: Tensor) -> Tensor:
    """``1 / y``, and 0 where ``y`` is 0; so are its derivatives there."""
    return where(y == 0, 0, 1 / where(y == 0, 1, y))


_var = primitive("var", quiet(_var_forward), (_var_rule,), save="x")
_std = primitive("std", quiet(lambda x, **attrs: np.sqrt(_var_forward(x, **attrs))), (_std_rule,), save="x y")


def _moment(op: Any, input: Tensor, dim: Any, unbiased: bool | None, keepdim: bool, correction: float | None) -> Tensor:
    if isinstance(dim, bool):  # x.var(False)
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    elif unbiased is not None:
        raise TypeError(f"{op.name}: give unbiased or correction, not both")
    input = _floating(op.name, input)
    return op(input, dim=reduced_dims(op.name, dim, input.shape), keepdim=keepdim, correction=correction)


@method()
def var(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The variance over ``dim``: squared deviations summed, divided by their number less ``correction`` (default 1).

    ``unbiased=False`` is ``correction=0``. NaN of a single element with the default.
    """
    return _moment(_var, input, dim, unbiased, keepdim, correction)


@method()
def std(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The square root of ``var``; its derivative at 0 is taken as 0."""
    return _moment(_std, input, dim, unbiased, keepdim, correction)


def var_mean(input: Tensor, dim: Dims = None, *, correction: float = 1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """``var`` and ``mean``."""
    return var(input, dim, keepdim=keepdim, correction=correction), mean(input, dim, keepdim)


# --- extremes


class Extremes(NamedTuple):
    """The extreme values along a dimension and where they are."""

    values: Tensor
    indices: Tensor


def _nonempty(op: str, shape: tuple[int, ...], dim: tuple[int, ...] | None) -> None:
    if count_of(shape, dim) == 0:
        over = "all dims" if dim is None else f"dim {', '.join(map(str, dim))}"
        raise IndexError(f"{op}: no elements over {over} of a tensor of shape {list(shape)}")


def _amax_rule(g: Tensor, y: Tensor, x: Tensor, *, dim: Any, keepdim: bool) -> Tensor:
    extreme = x == spread(y.detach(), x.shape, dim)
    share = g / sum(extreme, dim, keepdim)
    return where(extreme, spread(share, x.shape, dim), 0)


_amax = primitive("amax", lambda x, *, dim, keepdim: x.max(axis=dim, keepdims=keepdim), (_amax_rule,), save="x y")
_amin = primitive("amin", lambda x, *, dim, keepdim: x.min(axis=dim, keepdims=keepdim), (_amax_rule,), save="x y")
_argmax = primitive("argmax", lambda x, *, dim, keepdim: np.argmax(x, axis=dim, keepdims=keepdim))
_argmin = primitive("argmin", lambda x, *, dim, keepdim: np.argmin(x, axis=dim, keepdims=keepdim))


def _extreme(name: str, op: Any, input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    dims = reduced_dims(name, dim, input.shape)
    _nonempty(name, input.shape, dims)
    return op(input, dim=dims, keepdim=keepdim)


def _position(name: str, op: Any, input: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    axis = None if dim is None else normalize_dim(name, dim, input.shape)
    if not input.ndim:
        axis = None
    _nonempty(name, input.shape, None if axis is None else (axis,))
    return op(input, dim=axis, keepdim=keepdim)


def _along(name: str, op: Any, input: Tensor, dim: int, keepdim: bool) -> Extremes:
    """The gradient goes to the one element whose index is returned."""
    indices = _position(name, op, input, dim, True)
    if not input.ndim:
        return Extremes(input.alias(), indices)
    values = input.gather(dim, indices)
    return Extremes(values, indices) if keepdim else Extremes(values.squeeze(dim), indices.squeeze(dim))


@method()
def amax(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The largest element, or that over ``dim``. Equal ones share the gradient."""
    return _extreme("amax", _amax, input, dim, keepdim)


@method()
def amin(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The smallest element, or that over ``dim``. Equal ones share the gradient."""
    return _extreme("amin", _amin, input, dim, keepdim)


def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """``amin`` and ``amax``."""
    return amin(input, dim, keepdim), amax(input, dim, keepdim)


@method()
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index, int64, of the first largest element along ``dim``, or among all in row-major order."""
    return _position("argmax", _argmax, input, dim, keepdim)


@method()
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index, int64, of the first smallest element along ``dim``, or among all in row-major order."""
    return _position("argmin", _argmin, input, dim, keepdim)


@method()
def max(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """``max(x)``: the largest element. ``max(x, dim)``: ``(values, indices)`` along it. ``max(x, other)``: ``maximum``.

    The gradient of values along a dimension goes to the elements at the indices; equals share that of ``max(x)``.
    """
    if isinstance(dim, Tensor):
        return maximum(input, dim)
    if dim is None:
        return _extreme("max", _amax, input, None, False)
    return _along("max", _argmax, input, dim, keepdim)


@method()
def min(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """As ``max``, of the smallest element."""
    if isinstance(dim, Tensor):
        return minimum(input, dim)
    if dim is None:
        return _extreme("min", _amin, input, None, False)
    return _along("min", _argmin, input, dim, keepdim)


# --- logic

_any = primitive("any", lambda x, *, dim, keepdim: x.any(axis=dim, keepdims=keepdim))
_all = primitive("all", lambda x, *, dim, keepdim: x.all(axis=dim, keepdims=keepdim))


@method()
def any(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether any element is nonzero; bool."""
    return _any(input, dim=reduced_dims("any", dim, input.shape), keepdim=keepdim)


@method()
def all(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether all elements are nonzero; bool."""
    return _all(input, dim=reduced_dims("all", dim, input.shape), keepdim=keepdim)


@method()
def count_nonzero(input: Tensor, dim: Dims = None) -> Tensor:
    """How many elements are nonzero; int64."""
    return sum(input != 0, dim)


# --- norms

_root = primitive(
    "root",
    quiet(lambda s, *, degree: np.sqrt(s) if degree == 2 else s ** (1 / degree)),
    (lambda g, y, s, *, degree: g * y * inverse_or_zero(s) / degree,),
    save="y s",
)


def vector_norm(x: Tensor, ord: float = 2, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """``(sum |x| ** ord) ** (1 / ord)`` of all elements or over ``dim``; of order 0 the number of nonzero elements.

    The largest and smallest magnitude for orders inf and -inf. The derivative at the zero vector is taken as 0.
    """
    x = _floating("norm", x if dtype is None else cast(x, dtype))
    dims = reduced_dims("norm", dim, x.shape)
    if x.dtype.char == "e":  # squares of float16 would overflow from 256
        return cast(vector_norm(cast(x, float32), ord, dims, keepdim), float16)
    if ord in (math.inf, -math.inf):
        return _extreme("norm", _amax if ord > 0 else _amin, x.abs(), dims, keepdim)
    if ord == 0:
        return sum(x.sign().abs(), dims, keepdim)
    if ord == 1:
        return sum(x.abs(), dims, keepdim)
    if ord > 0 and ord % 2 == 0:
        power = x**ord
    elif ord > 0:  # |x| ** ord with the derivatives 0 at x = 0, where a negative power times 0 would give NaN
        power = where(x == 0, 0, where(x == 0, 1, x.abs()) ** ord)
    else:
        power = x.abs() ** ord
    return _root(sum(power, dims, keepdim), degree=ord)


@method()
def norm(
    input: Tensor, p: float | str = "fro", dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The vector norm of order ``p`` (``"fro"``: 2) of all elements or over ``dim``; see ``vector_norm``."""
    if isinstance(p, str) and p != "fro":
        raise ValueError(f"norm: p must be a number or 'fro', got {p!r}")
    return vector_norm(input, 2 if isinstance(p, str) else p, dim, keepdim, dtype=dtype)
