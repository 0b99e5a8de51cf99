"""Winograd's minimal filtering: ``m`` outputs of a filter of ``r`` taps in ``m + r - 1`` multiplications, not ``m r``.

On a line, with x of n = m + r - 1 inputs, w of r taps and y of m outputs,

    y = A^T [(G w) * (B^T x)]

(Winograd 1980; Lavin and Gray 2016, eq. 8). Input and filter are polynomials, evaluated at n points of which the last
is infinity; products of values are values of the product. For images both axes are done:

    Y = A^T [(G w G^T) * (B^T x B)] A

and transposing that gives the gradient of the weights, G^T [(A y A^T) * (B^T x B)] G, by the same three matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from itertools import combinations
from typing import NamedTuple

Matrix = tuple[tuple[float, ...], ...]


def _pairs(*points: Fraction | int, zero: bool = False) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, [0] * zero + [p for q in points for p in (q, -q)]))


# The points besides infinity, by their number. Opposite points share half of their arithmetic. Rounding errors depend
# on the choice: of some dozen sets of short binary fractions these had the smallest or nearly so, on convolutions of
# 64 and 256 channels; for tiles of 4x4 and 3x3 filters a quarter of what 0, 1, -1, 2, -2 have.
POINTS = {
    3: _pairs(1, zero=True),
    4: _pairs(Fraction(1, 2), Fraction(5, 4)),
    5: _pairs(Fraction(5, 8), Fraction(3, 2), zero=True),
}


class Transforms(NamedTuple):
    """A^T (m, n), G (n, r), B^T (n, n), and n numbers that A^T makes ones of."""

    at: Matrix
    g: Matrix
    bt: Matrix
    ones: tuple[float, ...]


@cache
def transforms(outputs: int, taps: int) -> Transforms:
    """The matrices of F(outputs, taps), exact in rational arithmetic before they become floats.

    What Lagrange's formula divides by is in G, which is applied to the weights, once for all images.
    """
    n = outputs + taps - 1
    points = POINTS[n - 1]
    at = [[p**i for p in points] + [Fraction(int(i == outputs - 1))] for i in range(outputs)]
    # Lagrange: the i-th basis polynomial is the product of (t - q) over the other points, divided by its value at p
    bt = [_coefficients([q for q in points if q != p], n) for p in points] + [_coefficients(points, n)]
    values = [math.prod(p - q for q in points if q != p) for p in points]
    g = [[p**j / value for j in range(taps)] for p, value in zip(points, values)]
    g.append([Fraction(int(j == taps - 1)) for j in range(taps)])
    return Transforms(_floats(at), _floats(g), _floats(bt), _floats([_ones(points, outputs)])[0])


def transposed(matrix: Matrix) -> Matrix:
    """Rows as columns."""
    return tuple(zip(*matrix))


def _ones(points: tuple[Fraction, ...], outputs: int) -> list[Fraction]:
    """What is 1 to all powers below ``outputs``: the value at 1 from those at as many points, by Lagrange's formula."""

    def at_one(chosen: tuple[Fraction, ...]) -> list[Fraction]:
        values = {p: math.prod(((1 - q) / (p - q) for q in chosen if q != p), start=Fraction(1)) for p in chosen}
        return [values.get(p, Fraction(0)) for p in points] + [Fraction(0)]  # and nothing of infinity

    return min(map(at_one, combinations(points, outputs)), key=lambda values: sum(map(abs, values)))


def _coefficients(roots: Iterable[Fraction], n: int) -> list[Fraction]:
    """Coefficients, constant first and padded to ``n``, of the monic polynomial with these roots."""
    c = [Fraction(1)]
    for root in roots:
        c = [up - root * same for up, same in zip([Fraction(0), *c], [*c, Fraction(0)])]
    return c + [Fraction(0)] * (n - len(c))


def _floats(rows: list[list[Fraction]]) -> Matrix:
    return tuple(tuple(float(entry) for entry in row) for row in rows)
