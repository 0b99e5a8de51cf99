"""What softmax is compared on: rows long and short, along and across memory, masked by -inf, far from 0."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases


def _points(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, int]]:
    yield "one row", rng.standard_normal(7), 0
    yield "empty", np.zeros((3, 0)), 1
    yield "long rows", 4 * rng.standard_normal((64, 1000)), 1
    yield "short rows", 4 * rng.standard_normal((5000, 10)), 1
    yield "channels last", rng.standard_normal((2, 20, 30, 16)).transpose(0, 3, 1, 2), 1
    yield "across memory", rng.standard_normal((50, 40, 3)), 0
    yield "across memory, few apart", rng.standard_normal((200, 40, 3)), 1
    yield "across memory, in blocks", 4 * rng.standard_normal((3, 70, 11, 19)), 1
    yield "with gaps", rng.standard_normal((200, 30))[::-2, 3:20], 1
    yield "far from 0", rng.integers(-8, 8, (100, 50)) + 1024.0, 1  # whole numbers, exact in float16 too
    yield "one row for all", np.broadcast_to(rng.standard_normal((40, 1, 30)), (40, 30, 30)), 1
    late = rng.standard_normal((8, 700))
    late[:, :600] = -np.inf
    yield "long rows, masked but for their end", late, 1
    masked = rng.standard_normal((100, 50))
    masked[np.tri(100, 50, 5, dtype=bool)] = -np.inf
    yield "masked, the last rows wholly", masked, 1


def _declare(op: str) -> None:
    @cases(op)
    def values(rng: np.random.Generator) -> Iterator[Case]:
        for name, x, dim in _points(rng):
            yield Case(name, (x,), {"dim": dim})

    @cases(f"{op}_vjp")
    def gradients(rng: np.random.Generator) -> Iterator[Case]:
        for name, x, dim in _points(rng):
            if not np.isfinite(x).all() and op == "log_softmax":
                continue  # its values are -inf there, and gradients through them NaN
            with np.errstate(invalid="ignore"):
                e = np.exp(x - x.max(dim, keepdims=True, initial=-np.inf))
                y = e / e.sum(dim, keepdims=True)
            y = np.log(y) if op == "log_softmax" else y
            yield Case(name, (rng.standard_normal(x.shape), y, None), {"dim": dim})


for _op in ("softmax", "log_softmax"):
    _declare(_op)
