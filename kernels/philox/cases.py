"""What the generators are compared on: whole and partial blocks, serial and parallel sizes, counters above 2^32."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases

KEY = np.array([0x123456789ABCDEF0], np.uint64)
PLACES = [(0, 1), (7, 4), (2**33, 4099), (1, 70_000)]


@cases("philox_bits")
def bits(rng: np.random.Generator) -> Iterator[Case]:
    for counter, count in PLACES:
        yield Case(f"{count} from {counter}", (KEY,), {"counter": counter, "count": count})


@cases("philox_uniform")
@cases("philox_normal")
def numbers(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in (np.float32, np.float64):
        for counter, count in PLACES:
            yield Case(f"{count} from {counter}", (KEY,), {"counter": counter, "count": count, "dtype": dtype})
