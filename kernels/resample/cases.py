"""What resampling is compared on: maps that grow, shrink, average, skip inputs and leave outputs empty."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases
from .axis import AxisMap, windows


def _random(rng: np.random.Generator, inputs: int, outputs: int, entries: int) -> AxisMap:
    into, index = rng.integers(outputs, size=entries), rng.integers(inputs, size=entries)
    return AxisMap(inputs, outputs, into, index, rng.standard_normal(entries))


@cases("resample2d")
def values(rng: np.random.Generator) -> Iterator[Case]:
    """Each pair of maps on contiguous and on transposed images."""
    twice = windows(12, np.arange(24) // 2, np.arange(24) // 2 + 1, 1)
    pairs = windows(12, np.arange(0, 12, 2), np.arange(0, 12, 2) + 2, 1, np.full(6, 0.5))
    every_third = windows(12, np.arange(0, 12, 3), np.arange(0, 12, 3) + 1, 1)
    some, more = _random(rng, 12, 7, 20), _random(rng, 12, 30, 40)
    for name, rows, columns in (
        ("doubled", twice, twice),
        ("halved", pairs, pairs),
        ("doubled's gradient", every_third.transpose, twice),
        ("one axis", None, pairs),
        ("random entries", some, more),
        ("random entries, transposed", more, some),
    ):
        x = rng.standard_normal((columns.inputs, 83, rows.inputs if rows else 3, 3))
        yield Case(name, (x.transpose(3, 1, 2, 0).copy(),), {"rows": rows, "columns": columns})
        yield Case(f"{name}, transposed", (x.transpose(3, 1, 2, 0),), {"rows": rows, "columns": columns})
    yield Case("no images", (np.zeros((0, 5, 12, 12)),), {"rows": some, "columns": more})
