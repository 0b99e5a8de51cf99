"""What recurrent layers are compared on: one step and many, ragged sizes, absent steps, both ways, huge values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..compare import Case, cases
from .reference import gru, lstm, rnn

SHAPES = {  # name -> steps, rows, hidden
    "one step of one row": (1, 1, 3),
    "no rows": (3, 0, 4),
    "one row": (7, 1, 20),
    "rows and units that fill no tile": (6, 17, 35),
    "many rows": (4, 61, 64),
    "wide": (5, 30, 150),
}


def _inputs(rng: np.random.Generator, gates: int, states: int) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Names, (x, states ..., weight, bias, present) and attributes."""

    def draw(steps: int, rows: int, size: int, scale: float = 1.0) -> tuple[Any, ...]:
        x = scale * rng.standard_normal((steps, rows, gates * size))
        first = [rng.standard_normal((rows, size)) * 0.5 for _ in range(states)]
        weight = rng.standard_normal((gates * size, size)) / np.sqrt(size)
        return x, *first, weight, rng.standard_normal(gates * size)

    for name, shape in SHAPES.items():
        yield name, (*draw(*shape), None), {"reverse": False}
    yield "backwards", (*draw(6, 17, 35), None), {"reverse": True}
    for reverse in (False, True):
        lengths = rng.integers(1, 10, 23)
        present = np.arange(9)[:, None] < lengths
        yield "lengths" + ", backwards" * reverse, (*draw(9, 23, 24), present), {"reverse": reverse}
    x, *rest = draw(5, 18, 32)
    yield "holes, without bias", (x, *rest[:-1], None, rng.random((5, 18)) < 0.5), {"reverse": False}
    x, *rest = draw(5, 18, 32, scale=100.0)
    yield "gates that are shut or open", (x, *rest, None), {"reverse": False}
    x, *rest = draw(6, 18, 32)
    turned = np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2)
    weight = np.asfortranarray(rest[-2])
    yield "batch first in memory", (turned, *rest[:-2], weight, rest[-1], None), {"reverse": False}


@cases("rnn")
def rnn_values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng, 1, 1):
        for activation in ("tanh", "relu"):
            yield Case(f"{name}, {activation}", arrays, {**attrs, "activation": activation})


@cases("rnn_vjp")
def rnn_gradients(rng: np.random.Generator) -> Iterator[Case]:
    for case in rnn_values(rng):
        h = rnn(*case.arrays, **case.attrs)
        yield Case(case.name, (rng.standard_normal(h.shape), h, *case.arrays), case.attrs)


@cases("gru")
def gru_values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng, 3, 1):
        yield Case(name, arrays, attrs)


@cases("gru_vjp")
def gru_gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng, 3, 1):
        h, gates = gru(*arrays, **attrs)
        yield Case(name, (rng.standard_normal(h.shape), h, *arrays, gates), attrs)


@cases("lstm")
def lstm_values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng, 4, 2):
        yield Case(name, arrays, attrs)


@cases("lstm_vjp")
def lstm_gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng, 4, 2):
        h, last, cells, gates = lstm(*arrays, **attrs)
        g = rng.standard_normal(h.shape), rng.standard_normal(last.shape)
        yield Case(name, (g, (h, last), *arrays, cells, gates), attrs)
