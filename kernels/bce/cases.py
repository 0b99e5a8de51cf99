"""What binary cross entropy is compared on: all reductions, far logits, both kinds of weight, strides that differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..compare import Case, cases
from .reference import binary_cross_entropy_with_logits

REDUCTIONS = ("mean", "sum", "none")


def _inputs(rng: np.random.Generator) -> Iterator[tuple[str, tuple[Any, ...]]]:
    yield "0-d", (np.array(0.5), np.array(1.0), None, None)
    x, target = 3 * rng.standard_normal((40, 60)), rng.random((40, 60))
    yield "plain", (x, target, None, None)
    yield "weights", (x, target, rng.random((40, 1)), rng.random(60) + 0.5)
    yield "large", (rng.standard_normal((50, 784)), np.round(rng.random((50, 784))), None, None)
    yield "transposed", (x.T, target.T.copy(), None, None)
    yield "with gaps", (x[::-2, 5:], target[::-2, 5:], None, None)
    far = np.linspace(-1e4, 1e4, 2002)
    yield "far", (far, np.round(rng.random(2002)), None, None)


@cases("binary_cross_entropy_with_logits")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays in _inputs(rng):
        for reduction in REDUCTIONS:
            if (name, reduction) != ("far", "sum"):  # beyond float16
                yield Case(f"{name}, {reduction}", arrays, {"reduction": reduction})


@cases("binary_cross_entropy_with_logits_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays in _inputs(rng):
        for reduction in REDUCTIONS:
            if (name, reduction) == ("large", "mean"):  # below the normal numbers of float16
                continue
            g = rng.standard_normal(binary_cross_entropy_with_logits(*arrays, reduction=reduction).shape)
            attrs = {"reduction": reduction, "needs": (True, True, False, False)}
            yield Case(f"{name}, {reduction}", (g, None, *arrays), attrs)
