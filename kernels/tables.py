"""The table that takes many arrays to a CUDA kernel in one launch; ``many.cuh`` has the other half."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from .launch import TYPES, Holding

MOST_ARRAYS, BLOCK_SHARE, THREADS = 80, 4096, 256  # as in many.cuh


@cache
def _record(columns: int) -> np.dtype:
    return np.dtype(
        [
            ("address", np.uint64, (columns, MOST_ARRAYS)),
            ("size", np.int64, MOST_ARRAYS),
            ("first", np.int32, MOST_ARRAYS + 1),
            ("arrays", np.int32),
        ],
        align=True,
    )


def tables(*columns: Sequence[Any]) -> Iterator[tuple[Holding, int]]:
    """Tables of as many arrays as a launch takes, and the blocks of each.

    ``columns``: as many lists of arrays (or ``Out``, ``Changed``), of the same sizes row by row.
    """
    sizes = np.array([getattr(a, "array", a).size for a in columns[0]], np.int64)
    for start in range(0, len(sizes), MOST_ARRAYS):
        rows = slice(start, start + MOST_ARRAYS)
        count = len(sizes[rows])
        record = np.zeros((), _record(len(columns)))
        record["size"][:count] = sizes[rows]
        np.cumsum(-(-sizes[rows] // BLOCK_SHARE), out=record["first"][1 : count + 1])
        record["arrays"] = count
        yield Holding(record, [column[rows] for column in columns]), int(record["first"][count])


def alike(*columns: Sequence[Any]) -> bool:
    """Whether all arrays have one dtype that a kernel takes, and lie in memory without gaps, in row-major order."""
    dtype = columns[0][0].dtype
    return dtype.name in TYPES and all(a.dtype == dtype and a.flags.c_contiguous for column in columns for a in column)
