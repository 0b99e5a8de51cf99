"""Elements along one dimension at positions that differ from place to place: reading them, and writing them back.

Such positions, with the numbers of their own row along every other dimension, index the whole tensor, so the pair
``take_at`` and ``add_at`` does all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from ..declare import method
from ..kernels.arrays import array_module
from ..tensor import Tensor, wrap
from .compare import where
from .dims import normalize_dim
from .index import add_at, check_positions, take_at
from .mask import decompress
from .reduce import broadcast_to
from .shape import reshape

__all__ = ["gather", "scatter", "scatter_add", "scatter_reduce", "take_along_dim"]

# --- reading


def _grid(index: Tensor, dim: int) -> list[Tensor]:
    """``index`` along ``dim``, and 0, 1, 2 ... along each other dimension, to broadcast together."""
    xp, ndim = array_module(index.array), index.ndim
    rows = [xp.arange(n).reshape((1,) * d + (n,) + (1,) * (ndim - d - 1)) for d, n in enumerate(index.shape)]
    return [index if d == dim else wrap(row, index.device) for d, row in enumerate(rows)]


def _check(op: str, input: Tensor, dim: int, index: Tensor, src: Tensor | None = None) -> int:
    """The rules of torch: as many dimensions, and nowhere but along ``dim`` longer than the input."""
    if index.ndim != input.ndim or (src is not None and src.ndim != input.ndim):
        raise ValueError(
            f"{op}: input of shape {list(input.shape)}, index of shape {list(index.shape)}"
            + ("" if src is None else f" and src of shape {list(src.shape)}")
            + " must have the same number of dimensions"
        )
    dim = normalize_dim(op, dim, input.shape)
    longer = any(i > n for d, (i, n) in enumerate(zip(index.shape, input.shape)) if d != dim)
    if longer or (src is not None and any(i > n for i, n in zip(index.shape, src.shape))):
        raise ValueError(
            f"{op}: index of shape {list(index.shape)} is longer than the input of shape {list(input.shape)} outside "
            f"dim {dim}" + ("" if src is None else f", or than src of shape {list(src.shape)}")
        )
    if src is not None and src.dtype is not input.dtype:
        raise TypeError(f"{op}: input is {input.dtype}, src is {src.dtype}; cast one with .to(dtype)")
    check_positions(op, index, input.shape[dim])
    return dim


def _lifted(function: Callable) -> Callable:
    """The op for 0-d tensors too, as for tensors of shape [1]."""

    @wraps(function)
    def lifted(input: Tensor, dim: int, index: Tensor, *rest: Any, **named: Any) -> Tensor:
        if input.ndim or index.ndim:
            return function(input, dim, index, *rest, **named)
        tensors = [reshape(x, (1,)) if isinstance(x, Tensor) and x.ndim == 0 else x for x in (input, index, *rest)]
        return reshape(function(tensors[0], dim, *tensors[1:], **named), ())

    return lifted


@method()
@_lifted
def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """``out[i, j, k] = input[i, index[i, j, k], k]`` for ``dim`` 1, and likewise for others; shaped like ``index``."""
    dim = _check("gather", input, dim, index)
    return take_at(input, _grid(index, dim), tuple(range(input.ndim)))


@method()
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """As ``gather``, but input and indices broadcast outside ``dim``, and negative positions count from the end.

    Without ``dim``: of the flattened input, at the flattened indices.
    """
    if dim is None or input.ndim == indices.ndim == 0:
        return take_along_dim(reshape(input, (-1,)), reshape(indices, (-1,)), 0)
    if input.ndim != indices.ndim:
        raise ValueError(
            f"take_along_dim: input of shape {list(input.shape)} and indices of shape {list(indices.shape)} must have "
            "the same number of dimensions"
        )
    dim = normalize_dim("take_along_dim", dim, input.shape)
    check_positions("take_along_dim", indices, input.shape[dim], allow_negative=True)
    around = np.broadcast_shapes(*[x.shape[:dim] + (1,) + x.shape[dim + 1 :] for x in (input, indices)])
    input, indices = (
        broadcast_to(x, (*around[:dim], x.shape[dim], *around[dim + 1 :])) for x in (input, indices)
    )
    return take_at(input, _grid(indices, dim), tuple(range(input.ndim)))


# --- writing


def _cropped(src: Tensor, index: Tensor) -> Tensor:
    """The part of ``src`` that ``index`` has positions for."""
    return src if src.shape == index.shape else src[tuple([slice(n) for n in index.shape])]


@method()
@_lifted
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """``input`` with each ``src[i, j, k]`` added to ``out[i, index[i, j, k], k]`` for ``dim`` 1; see ``gather``."""
    dim = _check("scatter_add", input, dim, index, src)
    return input + add_at(_cropped(src, index), _grid(index, dim), tuple(range(input.ndim)), input.shape)


@method()
@_lifted
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """``input`` with each of its places made the sum or mean of what ``src`` holds for it, and of itself.

    ``reduce``: ``"sum"`` or ``"mean"``. ``include_self=False``: places that ``src`` writes forget what they held.
    """
    dim = _check("scatter_reduce", input, dim, index, src)
    if reduce not in ("sum", "mean"):
        raise ValueError(f"scatter_reduce: reduce must be 'sum' or 'mean', got {reduce!r}")
    grid, dims = _grid(index, dim), tuple(range(input.ndim))
    ones = wrap(array_module(src.array).ones(index.shape, src.dtype), src.device)
    count = add_at(ones, grid, dims, input.shape)
    start = input if include_self else input.masked_fill(count > 0, 0)
    total = start + add_at(_cropped(src, index), grid, dims, input.shape)
    if reduce == "sum":
        return total
    count = count + 1 if include_self else count.clamp(min=1)
    return total.div(count, rounding_mode=None if total.is_floating_point() else "floor")


@method()
@_lifted
def scatter(input: Tensor, dim: int, index: Tensor, src: Tensor | float) -> Tensor:
    """``input`` with ``out[i, index[i, j, k], k] = src[i, j, k]`` for ``dim`` 1; ``src`` may be a number.

    Of several values for one place, one stays (on the CPU the last), and only that one gets a gradient.
    """
    values = src if isinstance(src, Tensor) else None
    dim = _check("scatter", input, dim, index, values)
    xp = array_module(index.array)
    writer = xp.full(input.shape, -1)  # the number of the element of `index` that writes each place
    writer[tuple([g.array for g in _grid(index, dim)])] = xp.arange(index.numel()).reshape(index.shape)
    written = wrap(writer >= 0, input.device)
    if values is None:
        return input.masked_fill(written, src)
    staying = wrap(writer[writer >= 0], input.device)
    chosen = take_at(reshape(_cropped(values, index), (-1,)), (staying,), (0,))
    return where(written, decompress(chosen, written, 0, input.shape), input)
