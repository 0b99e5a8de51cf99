"""What dropout is compared on: sizes that divide into blocks of four words and such that do not, layouts, extremes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases


@cases("dropout")
def dropout_cases(rng: np.random.Generator) -> Iterator[Case]:
    key = np.array([0x123456789ABCDEF], np.uint64)
    for name, shape in (
        ("0-d", ()),
        ("empty", (0, 3)),
        ("ragged", (7, 9)),
        ("one run and a bit", (4099,)),
        ("large", (64, 1000)),
    ):
        for p in (0.1, 0.5, 1.0):
            yield Case(f"{name}, p = {p}", (rng.standard_normal(shape),), {"key": key, "counter": 5, "p": p})
    image = rng.standard_normal((2, 8, 8, 16)).transpose(0, 3, 1, 2)
    yield Case("channels last", (image,), {"key": key, "counter": (1 << 32) - 3, "p": 0.25})
