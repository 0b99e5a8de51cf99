"""What scatter_add is compared on: few and many rows, wide and narrow, hit often, once and never."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases


@cases("scatter_add")
def scatter_add_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, n, width, rows in (
        ("few rows, hit often", 4096, 128, 65),
        ("many rows, hit rarely", 500, 64, 10_000),
        ("small", 32, 16, 10),
        ("one column", 10_000, 1, 1000),
        ("nothing to add", 0, 3, 5),
        ("no columns", 4, 0, 5),
        ("no rows", 0, 3, 0),
    ):
        yield Case(name, (rng.standard_normal((n, width)), rng.integers(0, max(rows, 1), n)), {"rows": rows})
    strided = rng.standard_normal((40, 300))[::-2, ::2]
    yield Case("with gaps", (strided, rng.integers(0, 3, len(strided))), {"rows": 3})


@cases("take_rows")
def take_rows_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, n, width, rows in ("small", 5, 3, 4), ("large", 900, 129, 50), ("none", 0, 3, 4), ("no columns", 4, 0, 5):
        yield Case(name, (rng.standard_normal((rows, width)), rng.integers(0, rows, n)))
    yield Case("with gaps", (rng.standard_normal((40, 300))[::-2, ::2], rng.integers(0, 20, 1000)))
