"""Padding: with a constant (the transpose of slicing), or with what is inside, which adds up again on the way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..declare import Primitive, primitive
from ..kernels.arrays import array_module
from ..tensor import Tensor
from .index import unslice

__all__ = ["pad"]

Widths = tuple[tuple[int, int], ...]  # for each dimension: how many elements before and after


def _borders(mode: str, widths: Widths, shape: tuple[int, ...]) -> Iterator[tuple[tuple, tuple]]:
    """Which part of a padded array (of ``shape`` before padding) is a copy of which: pairs (border, inside).

    In this order each inside is complete when its turn comes: along later dimensions it includes earlier borders.
    """
    for dim, ((before, after), n) in enumerate(zip(widths, shape)):
        end = before + n  # of the interior, which starts at `before`
        if mode == "reflect":
            stop = end - 2 - after
            left, right = slice(2 * before, before, -1), slice(end - 2, stop if stop >= 0 else None, -1)
        elif mode == "circular":
            left, right = slice(end - before, end), slice(before, before + after)
        else:  # replicate
            left, right = slice(before, before + 1), slice(end - 1, end)
        whole = (slice(None),) * dim
        if before:
            yield (*whole, slice(0, before)), (*whole, left)
        if after:
            yield (*whole, slice(end, end + after)), (*whole, right)


def _interior(widths: Widths, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple([slice(before, before + n) for (before, _), n in zip(widths, shape)])


def _extend(x: Any, *, mode: str, widths: Widths, shape: tuple[int, ...]) -> Any:
    out = array_module(x).empty_like(x, shape=tuple([n + sum(w) for n, w in zip(shape, widths)]))
    out[_interior(widths, shape)] = x
    for border, inside in _borders(mode, widths, shape):
        out[border] = out[inside]
    return out


def _extend_transpose(x: Any, *, mode: str, widths: Widths, shape: tuple[int, ...]) -> Any:
    """Each border is added to what it was a copy of, the last one first."""
    out = x.copy(order="K")
    for border, inside in reversed(list(_borders(mode, widths, shape))):
        dim = len(inside) - 1
        out[inside] += out[border].sum(dim, keepdims=True) if mode == "replicate" else out[border]
    return out[_interior(widths, shape)]


_extend_op = primitive("extend", _extend, (lambda g, y, x, **how: _extend_transpose_op(g, **how),))
_extend_transpose_op: Primitive = primitive(
    "extend_transpose", _extend_transpose, (lambda g, y, x, **how: _extend_op(g, **how),)
)


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Pad the last dimensions: ``pad`` is (before, after) of the last, then of the last but one, and so on.

    ``mode``: ``"constant"`` (``value``, 0 by default), ``"reflect"`` (without repeating the edge), ``"replicate"`` (the
    edge) or ``"circular"``. Negative numbers crop. ``torch.nn.functional.pad``, here for any number of dimensions.
    """
    widths = _widths(input, pad)
    grow = tuple([(max(before, 0), max(after, 0)) for before, after in widths])
    shape = input.shape
    if mode == "constant":
        input = _crop(input, widths)
        padded_shape = tuple([n + sum(w) for n, w in zip(input.shape, grow)])
        return unslice(input, _interior(grow, input.shape), padded_shape, 0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise ValueError(f"pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}")
    if value is not None:
        raise ValueError(f"pad: mode {mode!r} takes no value, got {value}")
    if mode == "circular":  # wraps around what is left after cropping; the other modes look at the whole input
        input = _crop(input, widths)
        shape = input.shape
    for (before, after), n in zip(grow, shape):
        most = {"reflect": n - 1, "circular": n, "replicate": before + after if n else 0}[mode]
        if max(before, after) > most:
            raise ValueError(
                f"pad: ({before}, {after}) for a dimension of {n} in mode {mode!r}, expected at most {most}"
            )
    padded = _extend_op(input, mode=mode, widths=grow, shape=shape) if any(map(any, grow)) else input
    return padded if mode == "circular" else _crop(padded, widths)


def _widths(input: Tensor, pad: Sequence[int]) -> Widths:
    """Torch's flat list, last dimension first, as (before, after) for every dimension in order."""
    pairs = [(int(pad[i]), int(pad[i + 1])) for i in range(0, len(pad) - 1, 2)]
    if len(pad) % 2 or len(pairs) > input.ndim:
        raise ValueError(
            f"pad: expects two numbers for each of the last dimensions, got {list(pad)} for shape {list(input.shape)}"
        )
    widths = ((0, 0),) * (input.ndim - len(pairs)) + tuple(pairs[::-1])
    if any(n + before + after < 0 or min(before, after) < -n for n, (before, after) in zip(input.shape, widths)):
        raise ValueError(f"pad: {list(pad)} crops more than there is of shape {list(input.shape)}")
    return widths


def _crop(input: Tensor, widths: Widths) -> Tensor:
    """Without what the negative numbers of ``widths`` cut off."""
    if all(min(pair) >= 0 for pair in widths):
        return input
    return input[
        tuple([slice(max(-before, 0), n - max(-after, 0)) for n, (before, after) in zip(input.shape, widths)])
    ]
