"""Sparse linear maps along one axis: what all resampling and all average pooling is made of."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ..arrays import array_module

Selection = slice | np.ndarray


class AxisMap:
    """A linear map along one axis of length ``inputs``, as a sparse matrix of shape (outputs, inputs).

    Its entries lie in compressed rows: output o is ``scale`` times the sum of ``weight[e] * x[index[e]]`` for e from
    ``start[o]`` to ``start[o + 1]``. ``weight`` is None where all entries are equal: ``scale`` is their value then.
    A map depends on lengths alone and is never changed, so whoever makes one can keep it for the next call.
    """

    def __init__(self, inputs: int, outputs: int, into: np.ndarray, index: np.ndarray, weight: np.ndarray) -> None:
        """Entries (``into``, ``index``) with their weights in any order; equal ones are added up."""
        entries, place = np.unique(into * inputs + index, return_inverse=True)
        weight = np.bincount(place, weight, len(entries))
        uniform = len(weight) > 0 and bool((weight == weight[0]).all())
        self.inputs, self.outputs = inputs, outputs
        self.index = entries % inputs
        self.start = np.searchsorted(entries, np.arange(outputs + 1) * inputs)
        self.weight = None if uniform else weight
        self.scale = float(weight[0]) if uniform else 1.0
        self.complete = outputs > 0 and bool((np.diff(self.start) > 0).all())  # no output is a sum of nothing

    @cached_property
    def transpose(self) -> AxisMap:
        """The map of the transposed matrix: the derivative of this one."""
        into = np.repeat(np.arange(self.outputs), np.diff(self.start))
        weight = np.ones(len(into)) if self.weight is None else self.weight
        return AxisMap(self.outputs, self.inputs, self.index, into, weight * self.scale)

    @cached_property
    def diagonals(self) -> list[tuple[Selection, Selection, np.ndarray | None]]:
        """The matrix as jagged diagonals: the first entries of all rows, the second entries of all that have one, ...

        Each is (rows, their inputs, their weights), so that a whole diagonal is one operation on arrays; an
        arithmetic progression of positions is a slice, which NumPy and CuPy read in place.
        """
        count = np.diff(self.start)
        diagonals = []
        for k in range(count.max(initial=0)):
            rows = np.flatnonzero(count > k)
            entry = self.start[rows] + k
            weight = None if self.weight is None else self.weight[entry]
            diagonals.append((_selection(rows), _selection(self.index[entry]), weight))
        return diagonals

    @cached_property
    def entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``start`` and ``index`` in int64 and the weights times ``scale`` in float32, contiguous: for loops."""
        weight = np.ones(len(self.index)) if self.weight is None else self.weight
        start, index = (np.ascontiguousarray(a, np.int64) for a in (self.start, self.index))
        return start, index, (weight * self.scale).astype(np.float32)

    def __repr__(self) -> str:
        return f"<{self.inputs} to {self.outputs}>"


@lru_cache(maxsize=64)
def identity(length: int) -> AxisMap:
    """The map that changes nothing."""
    return AxisMap(length, length, np.arange(length), np.arange(length), np.ones(length))


def at(x: Any, axis: int, positions: Selection) -> tuple[Any, ...]:
    """The subscript that selects ``positions`` along an axis of ``x``."""
    here = positions if isinstance(positions, slice) else array_module(x).asarray(positions)
    return (slice(None),) * axis + (here,)


def read(x: Any, axis: int, positions: Selection) -> Any:
    """What ``x`` holds at ``positions`` along an axis: a view for a slice, else a contiguous copy."""
    if isinstance(positions, slice):
        return x[at(x, axis, positions)]
    return x.take(array_module(x).asarray(positions), axis)


def _selection(positions: np.ndarray) -> Selection:
    """``positions`` as a slice if they ascend in equal steps."""
    first = int(positions[0])
    step = int(positions[1]) - first if len(positions) > 1 else 1
    if step > 0 and (np.diff(positions) == step).all():
        return slice(first, int(positions[-1]) + 1, step)
    return positions


def windows(inputs: int, first: np.ndarray, last: np.ndarray, step: int, weight: np.ndarray | None = None) -> AxisMap:
    """Output o reads every ``step``-th position from ``first[o]`` to before ``last[o]``, with weight ``weight[o]``."""
    count = np.maximum(-((first - last) // step), 0)
    into = np.repeat(np.arange(len(first)), count)
    within = np.arange(len(into)) - np.repeat(np.cumsum(count) - count, count)
    return AxisMap(
        inputs, len(first), into, first[into] + step * within, np.ones(len(into)) if weight is None else weight[into]
    )
