"""Products with units that are on or off, by lists of those that are on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
import pytest

from scratchgen.kernels.matmul import units

SIZES = [  # rows, units, columns: ragged, several blocks, one row, more rows than are kept at once
    (37, 301, 131),
    (64, 2 * units.DEEPEST + 3, 129),
    (1, 9000, 160),
    (16, units.TALLEST + 70, 128),
]


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def drawn(rows: int, k: int, n: int, share: float = 0.2) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    v = (rng.random((rows, k)) < share).astype(np.float32)
    return v, *(rng.standard_normal(s, np.float32) for s in ((n, k), (rows, n), n))


def close(made: np.ndarray, truth: np.ndarray) -> None:
    np.testing.assert_allclose(made, truth, rtol=0, atol=1e-6 * abs(truth).max())


@pytest.mark.parametrize("sizes", SIZES)
def test_both_products_are_those_of_the_matrices(sizes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "LEAST", 0)
    v, weight, g, bias = drawn(*sizes)
    for laid in (weight, np.asfortranarray(weight), weight[::-1, ::-1]):
        lists = units.lists_of(v, len(laid))
        assert lists is not None
        c = np.full(g.shape, np.nan, np.float32)
        units.add_up(lists, laid.T, c, bias)
        close(c, v @ laid.T.astype(np.float64) + bias)
    turned = units.lists_of(v, len(weight), turned=True)
    assert turned is not None
    for laid in (g, np.asfortranarray(g)):
        c = np.full((weight.shape[0], weight.shape[1] + 5), np.nan, np.float32)
        units.add_up(turned, laid, c[:, 2:-3], turned=True)
        close(c[:, 2:-3], laid.T.astype(np.float64) @ v)
        assert np.isnan(c[:, [0, 1, -3, -2, -1]]).all()


def test_threads_change_no_bit() -> None:
    v, weight, g, bias = drawn(120, 500, 300)

    def both() -> list[np.ndarray]:
        made = [units.linear(v, weight, bias), np.empty(weight.shape, np.float32)]
        lists = units.lists_of(v, len(weight), turned=True)
        assert lists is not None
        units.add_up(lists, g, made[1], turned=True)
        return made

    several = both()
    with threads(1):
        alone = both()
    for a, b in zip(several, alone, strict=True):
        np.testing.assert_array_equal(a, b)


def test_lists_are_made_only_where_they_pay() -> None:
    v, weight, _, bias = drawn(120, 500, 300)
    assert units.lists_of(v, 300) is not None
    assert units.lists_of(v, 100) is None  # few columns
    assert units.lists_of(v[:6], 300) is None  # few rows
    assert units.lists_of(1 - v, 300) is None  # many are on
    for other in (0.5, -1.0, np.nan):
        odd = v.copy()
        odd[77, 3] = other
        assert units.lists_of(odd, 300) is None
        close(units.linear(odd, weight, bias)[:77], v[:77] @ weight.T.astype(np.float64) + bias)
