"""What attention is compared on: causal, masked by bools and by numbers, queries with nothing to attend to, blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..compare import Case, cases
from .reference import scaled_dot_product_attention


def _inputs(rng: np.random.Generator) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    def draw(*batch: int, L: int = 7, S: int = 9, E: int = 8, Ev: int = 5) -> tuple[np.ndarray, ...]:
        return (
            rng.standard_normal((*batch, L, E)),
            rng.standard_normal((*batch, S, E)),
            rng.standard_normal((*batch, S, Ev)),
        )

    scale = 8**-0.5
    yield "plain", (*draw(2, 3), None), {"is_causal": False, "scale": scale}
    yield "without batch", (*draw(), None), {"is_causal": False, "scale": 0.5}
    yield "causal", (*draw(2, 3), None), {"is_causal": True, "scale": scale}
    yield "causal, more queries than keys", (*draw(2, L=12), None), {"is_causal": True, "scale": scale}
    allowed = rng.random((2, 1, 7, 9)) < 0.6
    allowed[0, 0, 3] = False
    yield "bools", (*draw(2, 3), np.broadcast_to(allowed, (2, 3, 7, 9))), {"is_causal": False, "scale": scale}
    yield "numbers", (*draw(2, 3), rng.standard_normal((2, 3, 7, 9))), {"is_causal": False, "scale": scale}
    both = np.broadcast_to(allowed, (2, 3, 7, 9))
    yield (
        "bools, causal",
        (
            *draw(2, 3),
            both,
        ),
        {"is_causal": True, "scale": scale},
    )
    yield "no keys", (*draw(2, S=0), None), {"is_causal": False, "scale": scale}
    yield "several blocks", (*draw(3, L=700, S=600, E=4, Ev=3), None), {"is_causal": True, "scale": 0.5}


@cases("scaled_dot_product_attention")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng):
        yield Case(name, arrays, attrs)


@cases("scaled_dot_product_attention_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng):
        y, lse = scaled_dot_product_attention(*arrays, **attrs)
        adds = arrays[3] is not None and arrays[3].dtype.kind == "f"
        yield Case(name, (rng.standard_normal(y.shape), y, *arrays, lse), {**attrs, "needs": (True, True, True, adds)})
