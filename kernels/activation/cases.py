"""What activations are compared on: both tails, the bend, and sizes below and above those of one thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..compare import Case, cases

ATTRS: dict[str, list[dict[str, Any]]] = {
    "silu": [{}],
    "gelu": [{"approximate": "none"}, {"approximate": "tanh"}],
    "softplus": [{"beta": 1.0, "threshold": 20.0}, {"beta": 3.0, "threshold": 5.0}],
    "logsigmoid": [{}],
    "mish": [{}],
}


def _points(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    yield "tails", np.concatenate([np.array([-1e4, -87.5, -0.0, 0.0, 87.5, 1e4]), np.linspace(-30, 30, 2001)])
    yield "0-d", np.array(0.5)
    yield "empty", np.zeros((0, 3))
    yield "small", rng.standard_normal((3, 5))
    yield "large", 3 * rng.standard_normal((4, 16, 40, 40))
    yield "channels last", 3 * rng.standard_normal((2, 24, 24, 8)).transpose(0, 3, 1, 2)
    yield "with gaps", 3 * rng.standard_normal((64, 100))[::-2, 10:60]


def _declare(op: str) -> None:
    @cases(op)
    def values(rng: np.random.Generator) -> Iterator[Case]:
        for name, x in _points(rng):
            for attrs in ATTRS[op]:
                yield Case(f"{name} {attrs or ''}".strip(), (x,), attrs)

    @cases(f"{op}_vjp")
    def gradients(rng: np.random.Generator) -> Iterator[Case]:
        for name, x in _points(rng):
            for attrs in ATTRS[op]:
                yield Case(f"{name} {attrs or ''}".strip(), (rng.standard_normal(x.shape), None, x), attrs)


for _op in ATTRS:
    _declare(_op)
