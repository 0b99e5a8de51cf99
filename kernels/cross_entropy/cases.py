"""What cross entropy is compared on: reductions, class weights, smoothing, ignored rows, positions, masked classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..compare import Case, cases
from .reference import cross_entropy


def _inputs(rng: np.random.Generator) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    def attrs(reduction: str = "mean", smoothing: float = 0.0) -> dict[str, Any]:
        return {"ignore_index": -100, "reduction": reduction, "label_smoothing": smoothing}

    yield "one sample", (rng.standard_normal(5), np.array(3), None), attrs()
    x, target = rng.standard_normal((200, 17)), rng.integers(0, 17, 200)
    weight = rng.random(17) + 0.5
    for reduction in ("mean", "sum", "none"):
        yield reduction, (x, target, None), attrs(reduction)
        yield f"{reduction}, weights", (x, target, weight), attrs(reduction)
        yield f"{reduction}, weights, smoothing", (x, target, weight), attrs(reduction, 0.1)
    some = np.where(rng.random(200) < 0.3, -100, target)
    yield "some ignored", (x, some, weight), attrs("mean", 0.2)
    yield "large", (rng.standard_normal((64, 1000)), rng.integers(0, 1000, 64), None), attrs()
    image, labels = rng.standard_normal((3, 10, 9, 8)), rng.integers(0, 10, (3, 9, 8))
    yield "positions", (image, labels, None), attrs("none", 0.1)
    yield "positions, channels last", (rng.standard_normal((3, 9, 8, 10)).transpose(0, 3, 1, 2), labels, None), attrs()
    masked = x.copy()
    masked[:, 9:] = -np.inf
    yield "masked classes", (masked, target % 9, None), attrs()


@cases("cross_entropy")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng):
        yield Case(name, arrays, attrs)


@cases("cross_entropy_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays, attrs in _inputs(rng):
        loss, lse = cross_entropy(*arrays, **attrs)
        yield Case(name, (rng.standard_normal(loss.shape), None, *arrays, lse), attrs)
