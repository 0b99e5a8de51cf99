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

    # Sizes that vectors, tiles and blocks do not divide, in panels of every width, with every mask.
    for name, (L, S, E, Ev) in {
        "ragged": (70, 75, 20, 13),
        "several blocks of keys": (33, 300, 33, 16),
        "few queries": (8, 530, 16, 40),
        "few keys": (130, 5, 7, 3),
        "two keys": (600, 2, 4, 2),
        "five queries": (5, 75, 64, 16),
        "three queries": (3, 530, 32, 48),
    }.items():
        mask = rng.random((L, S)) < 0.7
        mask[L // 2] = False
        numbers = np.where(mask, rng.standard_normal((L, S)), -np.inf)
        for is_causal in (False, True):
            attrs = {"is_causal": is_causal, "scale": E**-0.5}
            kind = f"{name}{', causal' if is_causal else ''}"
            yield kind, (*draw(2, 3, L=L, S=S, E=E, Ev=Ev), None), attrs
            yield f"{kind}, bools", (*draw(2, 3, L=L, S=S, E=E, Ev=Ev), np.broadcast_to(mask, (2, 3, L, S))), attrs
            yield f"{kind}, numbers", (*draw(2, L=L, S=S, E=E, Ev=Ev), np.broadcast_to(numbers, (2, L, S))), attrs
    for L, S, is_causal in ((110, 1450, False), (1450, 1500, True), (1410, 70, False)):  # more than a cache holds
        name = f"{L} queries, {S} keys{', causal' if is_causal else ''}"
        yield name, (*draw(L=L, S=S, E=96, Ev=96), None), {"is_causal": is_causal, "scale": 0.1}
    swapped = [x.transpose(1, 0, 2).copy().transpose(1, 0, 2) for x in draw(3, L=96, S=96, E=32, Ev=32)]
    yield "heads side by side in memory", (*swapped, None), {"is_causal": True, "scale": 0.2}
    query, *kept = draw(2, 3, L=1, S=96, E=32, Ev=32)
    yield "one query, keys of a cache", (query, *(x[:, :, :70] for x in kept), None), {"is_causal": False, "scale": 0.2}
    turned = [x.swapaxes(-1, -2).copy().swapaxes(-1, -2) for x in draw(2, L=96, S=80, E=32, Ev=32)]
    yield "columns in memory", (*turned, None), {"is_causal": False, "scale": -0.2}
    yield "columns in memory, two queries", (turned[0][:, :2], *turned[1:], None), {"is_causal": False, "scale": -0.2}


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
