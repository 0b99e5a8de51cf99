"""What steps of blocks are compared on: one text and several, the first token, no biases, sizes that fill no vector."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases


def _case(
    rng: np.random.Generator, name: str, texts: int, heads: int, length: int, size: int, hidden: int, *,
    blocks: int = 2, activation: str = "gelu_tanh", biased: bool = True, room: int = 200, scale: float = 1.0,
) -> Case:  # fmt: skip
    width = heads * size

    def layer(out: int, inputs: int) -> tuple:
        return rng.standard_normal((out, inputs)) / np.sqrt(inputs), rng.standard_normal(out) if biased else None

    def norm() -> tuple:
        return 1 + 0.1 * rng.standard_normal(width), rng.standard_normal(width) if biased else None

    x = rng.standard_normal((texts, width))
    stores = scale * rng.standard_normal((2 * blocks, texts, heads, room, size))
    weights = []
    for _ in range(blocks):
        weights += [*norm(), *layer(3 * width, width), *layer(width, width)]
        weights += [*norm(), *layer(hidden, width), *layer(width, hidden)]
    attrs = {"blocks": blocks, "length": length, "eps": 1e-5, "activation": activation}
    return Case(name, (x, *stores, *weights), attrs)


@cases("blocks_step")
def steps(rng: np.random.Generator) -> Iterator[Case]:
    yield _case(rng, "one text, four blocks", 1, 4, 70, 32, 512, blocks=4)
    yield _case(rng, "a text's first token", 1, 4, 0, 32, 512)
    yield _case(rng, "whole vectors of tokens", 2, 2, 32, 16, 64)
    yield _case(rng, "no room left, no bias", 5, 3, 131, 64, 320, activation="gelu", biased=False, room=131)
    yield _case(rng, "relu", 3, 2, 7, 16, 48, activation="relu")
    yield _case(rng, "sizes that fill no vector", 2, 3, 5, 6, 20)
    yield _case(rng, "several threads", 4, 8, 40, 64, 2048, blocks=1)
    yield _case(rng, "one key takes all", 2, 2, 20, 32, 64, blocks=1, scale=1e4)
