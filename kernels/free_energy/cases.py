"""What free energies are compared on: ragged layers, none, many rows, saturated units, whatever strides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compare import Case, cases
from .reference import free_energy


def _machines(rng: np.random.Generator) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    def machine(rows: int, visible: int, hidden: int, scale: float = 0.1, on: float = 0.4) -> tuple[np.ndarray, ...]:
        v = (rng.random((rows, visible)) < on).astype(np.float64)
        weight, b, c = (scale * rng.standard_normal(s) for s in ((hidden, visible), visible, hidden))
        return v, weight, b, c, rng.random(hidden)

    for name, sizes in (
        ("one unit each", (1, 1, 1)),
        ("ragged", (7, 37, 61)),
        ("no rows", (0, 9, 5)),
        ("many rows", (900, 40, 33)),
        ("digits", (200, 64, 128)),
    ):
        yield name, machine(*sizes)
    v, *rest = machine(30, 50, 70)
    yield "real units, no offset", (rng.standard_normal(v.shape), *rest[:3], np.zeros(70))
    yield "saturated", machine(30, 50, 70, 40.0)
    v, weight, b, c, offset = machine(130, 90, 70)
    yield "strided", (v[::-1], weight[:, ::-1], b[::-1], c[::-1], offset[::-1])
    yield "columns first", (np.asfortranarray(v), np.asfortranarray(weight), b, c, offset)


@cases("free_energy")
def values(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays in _machines(rng):
        yield Case(name, arrays)


@cases("free_energy_vjp")
def gradients(rng: np.random.Generator) -> Iterator[Case]:
    for name, arrays in _machines(rng):
        g, (_, activity) = rng.standard_normal(len(arrays[0])), free_energy(*arrays)
        for needs in ((True,) * 5, (False, True, True, True, False)):
            yield Case(f"{name}, {sum(needs)} wanted", (g, None, *arrays, activity), {"needs": needs})
