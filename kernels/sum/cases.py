"""What sums are compared on: all numbers, channels, images' channels, and what lies in memory in other ways."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases


@cases("sum")
def sum_cases(rng: np.random.Generator) -> Iterator[Case]:
    image = 0.25 + rng.standard_normal((5, 31, 29, 37)).transpose(0, 3, 1, 2)
    for keepdim in (False, True):
        for name, dim in (("all", None), ("channels", (0, 2, 3)), ("images' channels", (2, 3)), ("pixels", (1,))):
            yield Case(f"{name}{', kept' * keepdim}", (image, ), {"dim": dim, "keepdim": keepdim})
    yield Case("columns", (1 + rng.standard_normal((9000, 20)),), {"dim": (0,), "keepdim": False})
    yield Case("short columns", (1 + rng.standard_normal((30000, 3)),), {"dim": (0,), "keepdim": False})
    yield Case("rows", (1 + rng.standard_normal((300, 301)),), {"dim": (1,), "keepdim": False})
    yield Case("with gaps", (1 + rng.standard_normal((700, 301))[::-2, 3:],), {"dim": (0,), "keepdim": False})
    yield Case("many equal numbers", (np.full((20, 100_003), 1 / 64),), {"dim": None, "keepdim": False})
    yield Case("small", (rng.standard_normal((3, 4)),), {"dim": (0,), "keepdim": True})
    yield Case("empty", (np.zeros((0, 4)),), {"dim": (0,), "keepdim": False})
