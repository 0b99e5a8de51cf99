"""Elements reversed, rotated and repeated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..declare import Primitive, method, primitive
from ..tensor import Tensor, as_tensor
from .create import arange
from .dims import normalize_dim, normalize_dims, variadic
from .index import index_select
from .reduce import broadcast_to
from .shape import reshape, transpose, unsqueeze

__all__ = ["flip", "fliplr", "flipud", "repeat_interleave", "roll", "rot90", "tile"]

# --- reversing and rotating: permutations, whose transpose is their inverse

# A copy, because few kernels take negative strides as they are; order "K" keeps the order of dimensions in memory.
_flip: Primitive = primitive(
    "flip", lambda x, *, dims: np.flip(x, dims).copy(order="K"), (lambda g, y, x, *, dims: _flip(g, dims=dims),)
)
_roll: Primitive = primitive(
    "roll",
    lambda x, *, shifts, dims: np.roll(x, shifts, dims),
    (lambda g, y, x, *, shifts, dims: _roll(g, shifts=tuple([-n for n in shifts]), dims=dims),),
)


def flip(input: Tensor, dims: int | Sequence[int]) -> Tensor:
    """Reversed along ``dims``; a copy."""
    return _flip(input, dims=normalize_dims("flip", dims, input.shape) if input.ndim else ())


method("flip")(variadic(flip))


@method()
def fliplr(input: Tensor) -> Tensor:
    """Reversed along dim 1."""
    return flip(input, 1)


@method()
def flipud(input: Tensor) -> Tensor:
    """Reversed along dim 0."""
    return flip(input, 0)


@method()
def roll(input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Tensor:
    """Shifted by ``shifts`` along ``dims``, what leaves at one end entering at the other; None: in flattened order."""
    moves = tuple(shifts) if isinstance(shifts, (tuple, list)) else (shifts,)
    if dims is None or dims == ():
        if len(moves) != 1:
            raise ValueError(f"roll: {len(moves)} shifts {list(moves)} without dims; give one dim for each")
        return reshape(_roll(reshape(input, (-1,)), shifts=moves, dims=(0,)), input.shape)
    given = tuple(dims) if isinstance(dims, (tuple, list)) else (dims,)
    if len(given) != len(moves):
        raise ValueError(f"roll: {len(moves)} shifts {list(moves)} for {len(given)} dims {list(given)}")
    return _roll(input, shifts=moves, dims=tuple([normalize_dim("roll", dim, input.shape) for dim in given]))


@method()
def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned by ``k`` quarters from the first towards the second of ``dims``."""
    if len(dims) != 2:
        raise ValueError(f"rot90: expects 2 dims, got {list(dims)}")
    first, second = normalize_dims("rot90", dims, input.shape)
    match k % 4:
        case 1:
            return transpose(flip(input, second), first, second)
        case 2:
            return flip(input, (first, second))
        case 3:
            return flip(transpose(input, first, second), second)
        case _:
            return input.clone()


# --- repeating: broadcasting along a new dimension, then merging it


def repeat(input: Tensor, repeats: Sequence[int]) -> Tensor:
    """``input`` laid side by side ``repeats`` times along each dimension; further leading repeats add dimensions."""
    lead = len(repeats) - input.ndim
    if lead < 0 or any(n < 0 for n in repeats):
        raise ValueError(
            f"repeat: {len(repeats)} repeats {list(repeats)} for a tensor of shape {list(input.shape)}; "
            "expected one non-negative number for each dimension"
        )
    shape = (1,) * lead + input.shape
    if all(n == 1 for n in repeats):
        return reshape(input, shape).clone()
    apart = [n for length in shape for n in (1, length)]
    wide = [n for pair in zip(repeats, shape) for n in pair]
    merged = tuple([times * length for times, length in zip(repeats, shape)])
    return reshape(broadcast_to(reshape(input, apart), tuple(wide)), merged)


method("repeat")(variadic(repeat))


def tile(input: Tensor, dims: Sequence[int]) -> Tensor:
    """As ``repeat``; missing leading ``dims`` count as 1."""
    return repeat(input, (1,) * (input.ndim - len(dims)) + tuple(dims))


method("tile")(variadic(tile))


@method()
def repeat_interleave(input: Tensor, repeats: int | Tensor | None = None, dim: int | None = None) -> Tensor:
    """Each element of ``dim`` repeated in place ``repeats`` times; without ``dim``, those of the flattened input.

    ``repeats`` may be a tensor with a number for each element. ``repeat_interleave(repeats)`` alone gives the
    positions: 0 ``repeats[0]`` times, then 1 ``repeats[1]`` times, and so on.
    """
    if repeats is None:
        return repeat_interleave(arange(input.numel(), device=input.device), input, 0)
    if dim is None:
        input, dim = reshape(input, (-1,)), 0
    dim = normalize_dim("repeat_interleave", dim, input.shape)
    counts = np.asarray(repeats.tolist() if isinstance(repeats, Tensor) else repeats)
    length = input.shape[dim]
    if counts.dtype.kind != "i" or counts.ndim > 1 or counts.size not in (1, length) or counts.min(initial=0) < 0:
        raise ValueError(
            f"repeat_interleave: repeats {counts.tolist()} for dim {dim} of a tensor of shape {list(input.shape)}; "
            f"expected a non-negative integer, or {length} of them"
        )
    if counts.size != 1:
        positions = np.repeat(np.arange(length), counts)
        return index_select(input, dim, as_tensor(positions, device=input.device))
    times = int(counts.item())
    before, after = input.shape[:dim], input.shape[dim + 1 :]
    repeated = broadcast_to(unsqueeze(input, dim + 1), (*before, length, times, *after))
    return reshape(repeated, (*before, length * times, *after))
