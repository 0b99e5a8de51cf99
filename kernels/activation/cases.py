"""What activations are compared on: both tails, the bend, and sizes below and above those of one thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..compare import Case, cases
from . import reference

ATTRS: dict[str, list[dict[str, Any]]] = {
    "sigmoid": [{}],
    "tanh": [{}],
    "silu": [{}],
    "gelu": [{"approximate": "none"}, {"approximate": "tanh"}],
    "softplus": [{"beta": 1.0, "threshold": 20.0}, {"beta": 2.0, "threshold": 5.0}],
    "logsigmoid": [{}],
    "mish": [{}],
    "elu": [{"alpha": 1.0, "scale": 1.0, "rate": 1.0}, {"alpha": 1.7, "scale": 1.1, "rate": 0.5}],
    "relu": [{}],
    "leaky_relu": [{"slope": 0.2}],
}
# the ops whose derivative is a function of the output
OF_OUTPUT = {"sigmoid": reference.sigmoid, "tanh": reference.tanh, "relu": reference.relu}


def _points(op: str, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    yield "far", np.tile([-1e4, 1e4], 600)
    if op != "tanh":  # a rounded y near -1 has no digits of the derivative 1 - y^2
        yield "lower tail", np.arange(-8, -4, 1 / 256)  # exact in float16 too
    yield "bend", np.concatenate([[0.0, -0.0], np.linspace(-4, 8, 2001)])
    yield "0-d", np.array(0.5)
    yield "empty", np.zeros((0, 3))
    yield "small", rng.standard_normal((3, 5))
    yield "large", 3 * rng.standard_normal((4, 16, 40, 40))
    yield "channels last", 3 * rng.standard_normal((2, 24, 24, 8)).transpose(0, 3, 1, 2)
    yield "with gaps", 3 * rng.standard_normal((64, 100))[::-2, 10:60]


def _declare(op: str) -> None:
    @cases(op)
    def values(rng: np.random.Generator) -> Iterator[Case]:
        for name, x in _points(op, rng):
            for attrs in ATTRS[op]:
                yield Case(f"{name} {attrs or ''}".strip(), (x,), attrs)

    @cases(f"{op}_vjp")
    def gradients(rng: np.random.Generator) -> Iterator[Case]:
        for name, x in _points(op, rng):
            for attrs in ATTRS[op]:
                y = np.asarray(OF_OUTPUT[op](x)) if op in OF_OUTPUT else None
                yield Case(f"{name} {attrs or ''}".strip(), (rng.standard_normal(x.shape), y, x), attrs)


for _op in ATTRS:
    _declare(_op)
