"""Running sums and products along a dimension, and the product. Right at zeros, to any order of derivative."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import is_grad_enabled
from ..declare import Primitive, method, primitive
from ..dtypes import int64
from ..recompute import composite_vjp
from ..tensor import Tensor
from .dims import normalize_dim
from .elementwise import cast, quiet
from .join import cat
from .reduce import spread

__all__ = ["cumprod", "cumsum", "prod"]

_wide = {"e": np.float32, "f": np.float64}  # what running values are added up in, as in torch


def _widened(input: Tensor, dtype: Any) -> Tensor:
    """With the dtype asked for; without one, integers and bools become int64."""
    if dtype is not None:
        return cast(input, dtype)
    return cast(input, int64) if input.dtype.kind in "iub" else input


def _part(x: Tensor, dim: int, start: int, stop: int) -> Tensor:
    return x[(slice(None),) * dim + (slice(start, stop),)]


# --- cumsum and its transpose, closed


@quiet
def _cumsum_forward(x: Any, *, dim: int, reverse: bool) -> Any:
    if not x.ndim:
        return x.copy()
    along = np.flip(x, dim) if reverse else x
    total = np.cumsum(along, axis=dim, dtype=_wide.get(x.dtype.char, x.dtype)).astype(x.dtype, copy=False)
    return np.flip(total, dim) if reverse else total


_cumsum: Primitive = primitive(
    "cumsum", _cumsum_forward, (lambda g, y, x, *, dim, reverse: _cumsum(g, dim=dim, reverse=not reverse),)
)


@method()
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """The sum of all elements up to and with each one along ``dim``. Integers and bools add up in int64."""
    return _cumsum(_widened(input, dtype), dim=normalize_dim("cumsum", dim, input.shape), reverse=False)


# --- products: y / x would be 0 / 0 at a zero, so the derivative is that of the multiplications themselves


def _product_by_halves(x: Tensor, dim: int) -> Tensor:
    """The product along ``dim``, which stays with length 1, in log2(n) multiplications of halves."""
    odd: Any = 1.0
    while (n := x.shape[dim]) > 1:
        if n % 2:
            odd = _part(x, dim, n - 1, n) * odd
        x = _part(x, dim, 0, n // 2) * _part(x, dim, n // 2, n - n % 2)
    return x * odd


def _running_product(x: Tensor, dim: int) -> Tensor:
    """The running product in log2(n) multiplications, each doubling the reach (Hillis and Steele 1986)."""
    reach, n = 1, x.shape[dim]
    while reach < n:
        x = cat([_part(x, dim, 0, reach), _part(x, dim, reach, n) * _part(x, dim, 0, n - reach)], dim)
        reach *= 2
    return x


def _product_rule(g: Tensor, y: Any, x: Tensor, *, dim: int) -> Tensor:
    if not x.numel():
        return spread(g, x.shape, (dim,))
    return composite_vjp(lambda x: _product_by_halves(x, dim), (x,), g, (True,), is_grad_enabled())[0]


def _cumprod_rule(g: Tensor, y: Any, x: Tensor, *, dim: int) -> Tensor:
    return composite_vjp(lambda x: _running_product(x, dim), (x,), g, (True,), is_grad_enabled())[0]


def _accumulate(function: Any) -> Any:
    def forward(x: Any, *, dim: int) -> Any:
        return function(x, dim, _wide.get(x.dtype.char, x.dtype)).astype(x.dtype, copy=False)

    return quiet(forward)


_prod = primitive(
    "prod",
    _accumulate(lambda x, dim, dtype: np.prod(x, axis=dim, dtype=dtype, keepdims=True)),
    (_product_rule,),
    save="x",
)
_cumprod = primitive(
    "cumprod", _accumulate(lambda x, dim, dtype: np.cumprod(x, axis=dim, dtype=dtype)), (_cumprod_rule,), save="x"
)


@method()
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The product of all elements, or along ``dim``. Integers and bools multiply in int64."""
    x = _widened(input, dtype)
    if dim is None or not input.ndim:
        product = _prod(x.reshape(-1), dim=0)
        return product.reshape((1,) * input.ndim if keepdim else ())
    product = _prod(x, dim=normalize_dim("prod", dim, input.shape))
    return product if keepdim else product.squeeze(dim)


@method()
def cumprod(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """The product of all elements up to and with each one along ``dim``. Integers and bools multiply in int64."""
    x = _widened(input, dtype)
    axis = normalize_dim("cumprod", dim, input.shape)
    return _cumprod(x, dim=axis) if input.ndim else x.clone()
