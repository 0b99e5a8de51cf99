"""Mode coverage, class balance, units of likelihood, AUROC, means with errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from scratchgen import metrics

GRID = np.array(list(itertools.product(range(-4, 5, 2), repeat=2)), float)


class TestMixtureModes:
    def test_the_mixture_itself(self) -> None:
        """2-D Gaussians: the share within 3 sd is 1 - exp(-9/2)."""
        rng = np.random.default_rng(0)
        x = GRID[rng.integers(0, 25, 100_000)] + 0.05 * rng.standard_normal((100_000, 2))
        got = metrics.mixture_modes(x, GRID, 0.05)
        assert got["modes"] == 25
        assert got["high_quality"] == pytest.approx(1 - np.exp(-4.5), abs=1e-3)
        # an empirical distribution over K bins is K - 1 over 2N nats away from its own source
        assert got["reverse_kl"] == pytest.approx(24 / 200_000, rel=1.0)

    def test_by_hand(self) -> None:
        centres = [[0.0, 0.0], [10.0, 0.0], [20.0, 0.0], [30.0, 0.0]]
        samples = [[0.1, 0.0], [0.0, 2.9], [0.0, 3.1], [10.0, 0.0], [15.0, 0.0], [500.0, 0.0]]
        got = metrics.mixture_modes(samples, centres, sd=1.0)
        reverse_kl = 2 / 3 * np.log(2 / 3 * 4) + 1 / 3 * np.log(1 / 3 * 4)
        assert got == pytest.approx({"modes": 2.0, "high_quality": 0.5, "reverse_kl": reverse_kl})

    def test_collapse_to_one_mode(self) -> None:
        got = metrics.mixture_modes(np.zeros((100, 2)), GRID, 0.05)
        assert got == pytest.approx({"modes": 1.0, "high_quality": 1.0, "reverse_kl": np.log(25)})

    def test_nothing_of_quality(self) -> None:
        got = metrics.mixture_modes(np.full((10, 2), 99.0), GRID, 0.05)
        assert got == {"modes": 0.0, "high_quality": 0.0, "reverse_kl": np.inf}

    def test_unequal_weights(self) -> None:
        x = np.repeat([[0.0], [9.0]], [3, 1], axis=0)
        assert metrics.mixture_modes(x, [[0.0], [9.0]], 1.0, weights=[3, 1])["reverse_kl"] == pytest.approx(0.0)

    def test_arguments_are_checked(self) -> None:
        with pytest.raises(ValueError, match=r"got \(3, 2\), \(2, 3\), sd=1"):
            metrics.mixture_modes(np.ones((3, 2)), np.ones((2, 3)), 1)
        with pytest.raises(ValueError, match="weights must be 2 positive numbers"):
            metrics.mixture_modes([[0.0]], [[0.0], [1.0]], 1.0, weights=[1.0, 0.0])


class TestStackedModes:
    def test_counts_the_triples(self) -> None:
        """An image of constant value v / 10 is the digit v."""
        labels = np.array([[1, 2, 3], [3, 2, 1], [1, 2, 3], [9, 9, 9]])
        images = np.broadcast_to((labels / 10)[:, :, None, None], (4, 3, 8, 8))
        got = metrics.stacked_modes(images, lambda x: np.rint(10 * x[:, 0, 0]).astype(int))
        reverse_kl = np.log(1000) - (0.5 * np.log(2) + 0.5 * np.log(4))
        assert got == pytest.approx({"modes": 3.0, "reverse_kl": reverse_kl})

    def test_all_modes(self) -> None:
        labels = np.array(list(itertools.product(range(10), repeat=3)))
        got = metrics.stacked_modes(labels[:, :, None, None], lambda x: x[:, 0, 0])
        assert got == pytest.approx({"modes": 1000.0, "reverse_kl": 0.0}, abs=1e-12)

    def test_arguments_are_checked(self) -> None:
        with pytest.raises(ValueError, match=r"need images \(N, C, H, W\), got shape \(2, 8, 8\)"):
            metrics.stacked_modes(np.ones((2, 8, 8)), lambda x: x)
        with pytest.raises(ValueError, match=r"labels must lie in 0\.\.9, got 10\.\.10"):
            metrics.stacked_modes(np.ones((2, 3, 8, 8)), lambda x: np.full(2, 10))


def test_class_balance() -> None:
    even = metrics.class_balance(np.arange(30) % 10)
    assert even == pytest.approx({"class_kl": 0.0, "class_min_ratio": 1.0})
    halves = metrics.class_balance(np.array([0, 0, 0, 1]), classes=2)
    assert halves == pytest.approx({"class_kl": 0.75 * np.log(1.5) + 0.25 * np.log(0.5), "class_min_ratio": 0.5})
    assert metrics.class_balance(np.array([0, 0, 0, 1]), 2, weights=[3, 1])["class_kl"] == pytest.approx(0.0)
    assert metrics.class_balance(np.array([3, 3]))["class_min_ratio"] == 0.0
    with pytest.raises(ValueError, match=r"integer labels \(N,\) in 0\.\.9"):
        metrics.class_balance(np.array([10]))


class TestLikelihoodUnits:
    def test_uniform_bytes_cost_eight_bits(self) -> None:
        assert metrics.bits_per_dim(784 * np.log(256), 784) == pytest.approx(8.0)

    def test_a_density_on_the_unit_interval(self) -> None:
        """Uniform density on [0, 1]^D has log 1 = 0, and is uniform over the 256 levels."""
        assert metrics.bits_per_dim(0.0, 784, levels=256) == pytest.approx(8.0)

    @pytest.mark.parametrize("levels", [1, 17, 256])
    def test_inverse(self, levels) -> None:
        nats = metrics.nats_from_bits_per_dim(metrics.bits_per_dim(123.4, 64, levels), 64, levels)
        assert nats == pytest.approx(123.4)

    def test_arguments_are_checked(self) -> None:
        for function in (metrics.bits_per_dim, metrics.nats_from_bits_per_dim):
            with pytest.raises(ValueError, match="at least 1, got dims=0, levels=1"):
                function(1.0, 0)


class TestAuroc:
    def test_equals_the_library_with_ties(self) -> None:
        rng = np.random.default_rng(0)
        p, q = rng.integers(2, 9, 70), rng.integers(0, 7, 50)
        expected = roc_auc_score(np.repeat([1, 0], [70, 50]), np.concatenate([p, q]))
        assert metrics.auroc(p, q).value == pytest.approx(expected, rel=1e-12)

    def test_extremes(self) -> None:
        assert metrics.auroc([2.0, 3.0], [0.0, 1.0]) == (1.0, 0.0)
        assert metrics.auroc([0.0, 1.0], [2.0, 3.0]) == (0.0, 0.0)
        assert metrics.auroc([1.0, 1.0], [1.0, 1.0]) == (0.5, 0.0)
        assert metrics.auroc([np.inf, 5.0], [0.0, -np.inf]).value == 1.0

    def test_error_is_the_spread_over_samples(self) -> None:
        rng = np.random.default_rng(0)
        values, errors = np.array([metrics.auroc(rng.normal(1, 1, 60), rng.normal(0, 1, 40)) for _ in range(500)]).T
        assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.1)

    def test_arguments_are_checked(self) -> None:
        with pytest.raises(ValueError, match="got 1 positive and 2 negative"):
            metrics.auroc([1.0], [0.0, 2.0])
        with pytest.raises(ValueError, match="a score is NaN"):
            metrics.auroc([1.0, np.nan], [0.0, 2.0])


def test_monte_carlo_mean() -> None:
    draws = np.random.default_rng(0).exponential(2.0, (100, 100))
    mean, se = metrics.mean_se(draws)
    assert mean == pytest.approx(draws.mean())
    assert se == pytest.approx(2.0 / 100, rel=0.05)
    assert abs(mean - 2.0) < 3 * se
    with pytest.raises(ValueError, match="needs at least 2 draws, got 1"):
        metrics.mean_se([1.0])
