"""What the affine coupling is compared on: both layouts, one pixel, rows of numbers, scales near 0 and 1, nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases


def _channels_last(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def _inputs(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """What is split into both halves, and what the network says."""
    for name, shape in (
        ("images", (12, 4, 11, 9)),
        ("many channels", (13, 40, 2, 3)),
        ("two threads", (40, 8, 14, 14)),
        ("one pixel", (70, 48, 1, 1)),
        ("one channel each", (9, 2, 15, 13)),
    ):
        x, h = rng.standard_normal(shape), 2 * rng.standard_normal(shape)
        yield f"{name}, channels last", _channels_last(x), _channels_last(h)
        yield f"{name}, channels first", x, h
    yield "of two layouts", rng.standard_normal((12, 4, 11, 9)), _channels_last(rng.standard_normal((12, 4, 11, 9)))
    yield "rows", rng.standard_normal((300, 10)), rng.standard_normal((300, 10))
    x = rng.standard_normal((14, 8, 6, 5))
    yield "scales near 0 and 1", _channels_last(x), _channels_last(40 * rng.standard_normal(x.shape))
    yield "no samples", x[:0], x[:0]
    yield "with gaps", np.repeat(x, 2, 3)[..., ::2], np.repeat(x, 2, 1)[:, ::2]


def _halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]


@cases("affine_coupling")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, x, h in _inputs(rng):
        yield Case(name, (*_halves(x), h))


@cases("affine_coupling_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, x, h in _inputs(rng):
        a, _ = _halves(x)
        g = rng.standard_normal(x.shape)
        laid = _channels_last(g) if x.ndim == 4 and name.endswith("last") else g
        yield Case(name, ((laid, rng.standard_normal(len(x))), None, a, None, h))
