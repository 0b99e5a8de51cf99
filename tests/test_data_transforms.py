"""Binarisation, dequantisation and back."""

from __future__ import annotations

import numpy as np
import pytest

from scratchgen.data import binarise, dequantise, dynamic_binarise, flatten, quantise


class Extreme(np.random.Generator):
    """A generator whose integers are all the least or the greatest possible."""

    def __init__(self, greatest: bool) -> None:
        super().__init__(np.random.Philox(0))
        self.greatest = greatest

    def integers(self, low, high, size, dtype):
        return np.full(size, high - 1 if self.greatest else low, dtype)


def test_binarise_is_the_usual_threshold_on_17_and_on_256_levels() -> None:
    digits, bytes_ = np.arange(17), np.arange(256)
    assert np.array_equal(binarise(digits / np.float32(16)), digits >= 8)
    assert np.array_equal(binarise(bytes_ / np.float32(255)), bytes_ > 127)
    assert binarise(np.array([0.2]), threshold=0.1).dtype == np.float32


def test_dynamic_binarise_draws_each_pixel_with_its_own_probability() -> None:
    x = np.tile(np.linspace(0, 1, 11, dtype=np.float32), (20_000, 1))
    drawn = dynamic_binarise(x, np.random.default_rng(0))
    assert drawn.dtype == np.float32
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert not drawn[:, 0].any()  # black stays black,
    assert drawn[:, -1].all()  # and white white
    error = abs(drawn.mean(0) - x[0]) / np.sqrt(0.25 / len(x))
    assert error.max() < 4  # standard errors


def test_dynamic_binarise_is_new_at_every_call_and_the_same_from_the_same_generator() -> None:
    x = np.full((4, 50), 0.5, np.float32)
    rng = np.random.default_rng(3)
    first, second = dynamic_binarise(x, rng), dynamic_binarise(x, rng)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, dynamic_binarise(x, np.random.default_rng(3)))


@pytest.mark.parametrize("greatest", [False, True])
def test_dequantised_levels_never_leave_their_bins(greatest: bool) -> None:
    for levels in range(2, 257):
        x = np.arange(levels, dtype=np.float32) / np.float32(levels - 1)
        y = dequantise(x, levels, Extreme(greatest))
        assert y.dtype == np.float32
        assert y.min() > 0
        assert y.max() < 1
        assert np.array_equal(quantise(y, levels), x), levels


def test_dequantised_values_are_uniform_in_their_bins() -> None:
    u = dequantise(np.full(100_000, 3 / 16, np.float32), 17, np.random.default_rng(0)) * 17 - 3
    assert abs(u.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / u.size)
    assert abs(u.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / u.size)
    counts, _ = np.histogram(u, 20, (0, 1))
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8  # chi squared with 19 degrees of freedom, 0.1 %


def test_quantise_clips_what_a_model_puts_outside() -> None:
    assert quantise(np.array([-0.3, 0.0, 0.999, 1.0, 7.0]), 17).tolist() == [0, 0, 1, 1, 1]


def test_flatten() -> None:
    x = np.zeros((5, 1, 8, 8), np.float32)
    assert flatten(x).shape == (5, 64)
    assert np.shares_memory(flatten(x), x)
    assert flatten(np.zeros((0, 3, 4))).shape == (0, 12)
    assert flatten(np.zeros(3)).shape == (3, 1)
