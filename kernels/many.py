"""Many arrays in one call: a table of addresses, and blocks of elements that go over all of them.

A model has hundreds of parameters, most of them small. What an optimizer does to each is over sooner than a call from
Python and the start of a parallel loop, and where it is not, the last block of each parameter leaves a thread idle.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from .numba_config import njit

BLOCK = 1 << 13  # elements that a thread takes at a time


@intrinsic
def _pointer(typing, address):
    """An address (int64) as a pointer to float32."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), emit


@njit(nogil=True)
def block_of(address, start, stop):
    """The elements from ``start`` to ``stop`` of the float32 array at ``address``."""
    return carray(_pointer(address), (stop,))[start:]


def in_one_run(arrays: Sequence[np.ndarray]) -> bool:
    """Whether all are float32 and lie in memory without gaps, in row-major order: what ``tabulate`` takes."""
    return all(a.dtype == np.float32 and a.flags.c_contiguous for a in arrays)


def tabulate(*columns: Sequence[np.ndarray], fresh: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Addresses [arrays, columns], and blocks [n, 3] of the number of the array, first element and end.

    The columns are as many lists of arrays, of the same size row by row. The caller keeps them while it uses the
    addresses. ``fresh``: the column whose arrays are others in each call, as gradients are.
    """
    addresses = np.empty((len(columns[0]), len(columns)), np.int64)
    for i, column in enumerate(columns):
        addresses[:, i] = _addresses(column) if i == fresh else kept_addresses(column)
    return addresses, _blocks(tuple([a.size for a in columns[0]]))


def _addresses(arrays: Sequence[np.ndarray | None]) -> list[int]:
    return [0 if a is None else a.__array_interface__["data"][0] for a in arrays]


# To ask an array for its address takes 0.8 us: for a network of 230 parameters longer than to update them.
_kept: dict[int, tuple[list[Callable[[], np.ndarray | None]], list[int]]] = {}
KEPT = 64  # lists of arrays


def _nothing() -> None:
    """As a reference to nothing answers."""


def kept_addresses(arrays: Sequence[np.ndarray | None]) -> list[int]:
    """Addresses, 0 for None; found again if these very arrays, none of which this keeps alive, were asked for before.

    The caller keeps the arrays while it uses the addresses, and writes to none of the list.
    """
    if not arrays:
        return []
    refs, addresses = _kept.get(id(arrays[0]), ([], []))
    if len(refs) != len(arrays) or not all(ref() is a for ref, a in zip(refs, arrays)):
        if len(_kept) >= KEPT:
            _kept.clear()
        refs, addresses = [_nothing if a is None else weakref.ref(a) for a in arrays], _addresses(arrays)
        _kept[id(arrays[0])] = refs, addresses
    return addresses


@lru_cache(maxsize=16)  # an optimizer asks for the same in each step
def _blocks(sizes: tuple[int, ...]) -> np.ndarray:
    """Of arrays of these sizes: rows of the number of an array, first element and end. Nobody may write to it."""
    each = np.array(sizes, np.int64)
    counts = -(-each // BLOCK)
    owner = np.repeat(np.arange(len(each)), counts)
    start = (np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)) * BLOCK
    return np.stack([owner, start, np.minimum(start + BLOCK, each[owner])], axis=1)
