"""Likelihood baselines: each is a distribution, fits what it should, and agrees with independent formulas."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from scratchgen import data, metrics


class TestBernoulli:
    def test_probabilities_sum_to_one(self) -> None:
        every = np.array(list(itertools.product([0, 1], repeat=6)))
        x = every[np.random.default_rng(0).integers(0, 64, 100)]
        for model in (metrics.independent_bernoulli(x), metrics.BernoulliMixture.fit(x, 3)):
            assert np.exp(model.log_prob(every)).sum() == pytest.approx(1.0, abs=1e-12)

    def test_each_iteration_raises_what_em_maximises(self) -> None:
        """The log-likelihood plus the log-prior that smoothing stands for: half a count a side, one a component."""
        x = np.random.default_rng(0).random((200, 10)) < 0.3
        objective = []
        for iterations in range(40):
            fit = metrics.BernoulliMixture.fit(x, 4, iterations)
            p, prior = fit.probabilities, np.log(fit.weights).sum()
            objective.append(fit.log_prob(x).sum() + prior + 0.5 * (np.log(p) + np.log1p(-p)).sum())
        assert (np.diff(objective) > -1e-9).all()
        assert objective[-1] > objective[0] + 100

    def test_recovers_a_mixture_from_its_samples(self) -> None:
        truth = metrics.BernoulliMixture(np.array([0.3, 0.7]), np.array([[0.9] * 8 + [0.1] * 8, [0.2] * 16]))
        x = truth.sample(5_000, np.random.default_rng(0))
        fit = metrics.BernoulliMixture.fit(x, 2)
        order = np.argsort(fit.weights)
        assert fit.weights[order] == pytest.approx(truth.weights, abs=0.03)
        assert fit.probabilities[order] == pytest.approx(truth.probabilities, abs=0.05)
        assert fit.log_prob(x).mean() == pytest.approx(truth.log_prob(x).mean(), abs=0.01)

    def test_one_component_is_independent(self) -> None:
        x = np.random.default_rng(0).random((50, 2, 3)) < 0.2
        assert metrics.BernoulliMixture.fit(x, 1).log_prob(x) == pytest.approx(
            metrics.independent_bernoulli(x).log_prob(x), rel=1e-12
        )

    def test_arguments_are_checked(self) -> None:
        with pytest.raises(ValueError, match="needs zeros and ones; binarise first"):
            metrics.independent_bernoulli([[0.5, 1.0]])
        with pytest.raises(ValueError, match="components must be between 1 and 3 samples, got 4"):
            metrics.BernoulliMixture.fit(np.eye(3), 4)


class TestCategorical:
    def test_probabilities_sum_to_one(self) -> None:
        every = np.array(list(itertools.product(range(3), repeat=4)))
        x = every[np.random.default_rng(0).integers(0, 81, 60)]
        for model in (metrics.independent_categorical(x, 3), metrics.CategoricalMixture.fit(x, 4, 3)):
            assert np.exp(model.log_prob(every)).sum() == pytest.approx(1.0, abs=1e-12)

    def test_independent_pixels_are_smoothed_counts(self) -> None:
        model = metrics.independent_categorical([[0], [0], [2]], 3)
        assert np.exp(model.log_prob([[0], [1], [2]])) == pytest.approx([2.5 / 4.5, 0.5 / 4.5, 1.5 / 4.5])

    def test_samples_follow_the_model(self) -> None:
        probabilities = np.array([[[0.7, 0.2, 0.1]], [[0.0, 0.1, 0.9]]])
        model = metrics.CategoricalMixture(np.array([0.25, 0.75]), probabilities)
        x = model.sample(40_000, np.random.default_rng(0))
        assert x.shape == (40_000, 1)
        shares = np.bincount(x[:, 0], minlength=3) / len(x)
        assert shares == pytest.approx([0.175, 0.125, 0.7], abs=0.01)

    def test_mixture_beats_independence_where_pixels_depend(self) -> None:
        x = np.repeat(np.random.default_rng(0).integers(0, 4, (300, 1)), 5, axis=1)
        independent = metrics.independent_categorical(x, 4).log_prob(x).mean()
        mixture = metrics.CategoricalMixture.fit(x, 12, 4, smoothing=0.01).log_prob(x).mean()
        assert independent == pytest.approx(-5 * np.log(4), rel=0.01)
        assert mixture == pytest.approx(-np.log(4), rel=0.1)

    def test_arguments_are_checked(self) -> None:
        with pytest.raises(ValueError, match=r"integers in 0\.\.1, got int64 values in 0\.\.2"):
            metrics.independent_categorical(np.array([[0, 2]]), 2)
        with pytest.raises(ValueError, match=r"integers in 0\.\.4, got float64"):
            metrics.CategoricalMixture.fit([[0.5, 2.0]], 1, 5)


class TestGaussian:
    def test_dequantised_gaussian_of_uniform_levels(self) -> None:
        """Uniform on [0, 16): a Gaussian of its variance 16^2/12 needs log2(16) + 0.254 bits (KL to the uniform)."""
        x = np.random.default_rng(0).integers(0, 16, (20_000, 2))
        model = metrics.DequantisedMixture.fit(x, 1, 16, copies=2)
        estimate = model.bits_per_dim(x)
        expected = 0.5 * np.log2(2 * np.pi * np.e / 12) + np.log2(16)
        assert abs(estimate.value - expected) < 4 * estimate.se
        assert estimate.se < 0.004

    @pytest.mark.parametrize("covariance", ["full", "diag"])
    def test_samples_have_the_moments_of_the_data(self, covariance) -> None:
        rng = np.random.default_rng(0)
        x = np.round(rng.normal([20.0, 40.0], [3.0, 6.0], (5000, 2)) + rng.standard_normal((5000, 1)))
        draws = metrics.DequantisedMixture.fit(x, 2, 64, covariance).sample(20_000, rng)
        assert draws == pytest.approx(np.round(draws))
        assert draws.mean(0) == pytest.approx(x.mean(0), abs=0.15)
        assert draws.std(0) == pytest.approx(x.std(0), rel=0.03)

    def test_reconstruction_error_is_that_of_pca(self) -> None:
        rng = np.random.default_rng(0)
        train, test = rng.random((80, 3, 4)), rng.random((30, 3, 4))
        got = metrics.pca_reconstruction_mse(train, test, (0, 5, 12))
        pca = PCA(5).fit(train.reshape(80, -1))
        rebuilt = pca.inverse_transform(pca.transform(test.reshape(30, -1)))
        assert got[5] == pytest.approx(((rebuilt - test.reshape(30, -1)) ** 2).mean(), rel=1e-10)
        assert got[0] == pytest.approx(((test - train.mean(0)) ** 2).mean(), rel=1e-12)
        assert got[12] == 0.0

    def test_ppca_is_the_gaussian_of_its_covariance(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 7)) + 0.3 * rng.standard_normal((500, 7)) + 2.0
        for dims in (0, 2, 6):
            model = metrics.ProbabilisticPCA.fit(x, dims)
            scale = model.variances - model.noise_variance
            covariance = (model.axes * scale) @ model.axes.T + model.noise_variance * np.eye(7)
            direct = multivariate_normal(x.mean(0), covariance).logpdf(x)
            assert model.log_prob(x) == pytest.approx(direct, rel=1e-10)

    def test_ppca_likelihood_is_the_closed_form_and_the_maximum(self) -> None:
        """Tipping and Bishop 1999, eq. 8; scikit-learn scores the same model with the covariance over N - 1."""
        rng = np.random.default_rng(1)
        x = rng.standard_normal((400, 3)) @ rng.standard_normal((3, 6)) + rng.standard_normal((400, 6))
        eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))[::-1]
        noise = eigenvalues[3:].mean()
        expected = -0.5 * (6 * np.log(2 * np.pi) + np.log(eigenvalues[:3]).sum() + 3 * np.log(noise) + 6)
        model = metrics.ProbabilisticPCA.fit(x, 3)
        assert model.noise_variance == pytest.approx(noise, rel=1e-12)
        assert model.log_prob(x).mean() == pytest.approx(expected, rel=1e-12)
        assert PCA(3).fit(x).score(x) == pytest.approx(expected, abs=1e-4)
        assert PCA(3).fit(x).score(x) < expected

    def test_arguments_are_checked(self) -> None:
        with pytest.raises(ValueError, match="dims must be between 0 and 3 for 4 values, got 4"):
            metrics.ProbabilisticPCA.fit(np.random.default_rng(0).random((9, 4)), 4)
        with pytest.raises(ValueError, match="the data lie in 1 dimensions"):
            metrics.ProbabilisticPCA.fit(np.outer(np.arange(5.0), [1.0, 2.0, 3.0]), 1)
        with pytest.raises(ValueError, match="do not fit"):
            metrics.pca_reconstruction_mse(np.ones((3, 4)), np.ones((3, 4)), (5,))


class TestWittenBell:
    def test_by_hand(self) -> None:
        """abab over {a, b, c}. Order 0: 4 tokens of 2 types; after a: b twice (1 type), after b: a once (1 type)."""
        model = metrics.WittenBell.fit(np.array([0, 1, 0, 1]), 3, max_order=1)
        unigram = np.array([(2 + 2 / 3) / 6, (2 + 2 / 3) / 6, (2 / 3) / 6])
        log_p = model.log_prob(np.array([0, 1, 0, 2]))
        assert np.exp(log_p[0]) == pytest.approx(unigram[[0, 1, 0, 2]])
        after_a, after_b = (2 + unigram[1]) / 3, (1 + unigram[0]) / 2
        assert np.exp(log_p[1]) == pytest.approx([unigram[0], after_a, after_b, unigram[2] / 3])

    def test_next_token_probabilities_sum_to_one(self) -> None:
        rng = np.random.default_rng(0)
        model = metrics.WittenBell.fit(rng.integers(0, 4, 300), 5, max_order=4)
        for length in (0, 2, 6):
            history = rng.integers(0, 5, length)
            total = sum(np.exp(model.log_prob(np.append(history, token))[:, -1]) for token in range(5))
            assert total == pytest.approx(np.ones(5), abs=1e-12)

    def test_finds_the_entropy_of_a_markov_source(self) -> None:
        rng = np.random.default_rng(0)
        text = [0]
        for flip in rng.random(60_000) < 0.1:
            text.append(text[-1] ^ int(flip))
        model = metrics.WittenBell.fit(np.array(text[:50_000]), 2, max_order=2)
        nats = model.nats_per_token(np.array(text[50_000:]))
        entropy = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))
        assert nats == pytest.approx([np.log(2), entropy, entropy], abs=0.01)

    def test_unseen_histories_fall_back(self) -> None:
        model = metrics.WittenBell.fit(np.array([0, 1, 0, 1]), 4, max_order=3)
        log_p = model.log_prob(np.array([3, 3, 3, 3]))
        assert log_p == pytest.approx(np.full((4, 4), log_p[0, 0]))

    def test_texts_shorter_than_the_order(self) -> None:
        model = metrics.WittenBell.fit(np.array([0, 1]), 2, max_order=7)
        assert model.log_prob(np.array([1])).shape == (2, 1)

    def test_arguments_are_checked(self) -> None:
        with pytest.raises(ValueError, match=r"tokens must lie in 0\.\.2, got 0\.\.3"):
            metrics.WittenBell.fit(np.array([0, 3]), 3)
        with pytest.raises(ValueError, match="needs integer tokens"):
            metrics.WittenBell.fit(np.array([0.0, 1.0]), 3)

    def test_tiny_shakespeare(self) -> None:
        """The 90/10 character split: nats a character for 0 to 7 characters of history, and the uniform 4.174."""
        try:
            text = data.load("tinyshakespeare")
        except data.DataError as error:
            pytest.skip(str(error))
        train, held_out = text.trainval.ids, text.test.ids
        assert np.log(len(text.vocab)) == pytest.approx(4.174, abs=5e-4)
        nats = metrics.WittenBell.fit(train, len(text.vocab)).nats_per_token(held_out)
        assert nats == pytest.approx([3.347, 2.486, 2.049, 1.774, 1.669, 1.698, 1.779, 1.876], abs=6e-4)
