"""The floors and baselines of the 8x8 digits, figure by figure.

The reference is a run of other code on the same split. Its draws came from one generator in the order of
`generated`, its Gaussian mixtures from scikit-learn with seed 0. Figures that are deterministic given the
split must agree to the printed digit. Those behind a trained network get a band of 1 %: rounding differences
in training were measured to move them by less.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from scratchgen import data, metrics

Array = NDArray[np.float64]
N = 360


@pytest.fixture(scope="module")
def digits() -> tuple[Array, Array, Array, Array]:
    """Grey levels 0..16 and labels: train, test."""
    loaded = data.load("digits")
    train, test = (split.pixels.reshape(-1, 64).astype(np.float64) for split in (loaded.trainval, loaded.test))
    return train, loaded.trainval.labels, test, loaded.test.labels


@pytest.fixture(scope="module")
def classifier(digits: tuple[Array, Array, Array, Array]) -> metrics.FeatureClassifier:
    train, labels, _, _ = digits
    return metrics.FeatureClassifier.fit(train / 16, labels)


@pytest.fixture(scope="module")
def generated(digits: tuple[Array, Array, Array, Array]) -> dict[str, Array]:
    train, labels, _, _ = digits
    rng = np.random.default_rng(0)
    shares = [np.bincount(column.astype(int), minlength=17) / len(train) for column in train.T]
    samples = {
        "real": train[rng.choice(len(train), N, replace=False)],
        "independent": np.stack([rng.choice(17, N, p=share) for share in shares], axis=1),
        "uniform": rng.integers(0, 17, (N, 64)),
        "noisy train": train[rng.choice(len(train), N, replace=False)] + rng.standard_normal((N, 64)),
        "one class": np.repeat(train[labels == 3][: N // 2], 3, axis=0)[:N],
        "mixture 10": _mixture(train, 10, "full", 0.3),
        "mixture 100": _mixture(train, 100, "diag", 0.03),
    }
    return {name: np.clip(np.round(x), 0, 16) for name, x in samples.items()}


def _mixture(train: Array, components: int, covariance: str, regularisation: float) -> Array:
    mixture = GaussianMixture(components, covariance_type=covariance, reg_covar=regularisation, random_state=0).fit(
        train
    )
    return mixture.sample(N)[0]


def test_the_classifier_is_as_good_as_its_figures_suppose(digits, classifier) -> None:
    _, _, test, labels = digits
    assert classifier.accuracy(test / 16, labels) == pytest.approx(0.967, abs=0.003)


@pytest.mark.parametrize(
    ("name", "fd", "one_nn", "coverage"),
    [
        ("real", 1.15, 0.485, 0.992),
        ("independent", 23.2, 0.81, 0.33),
        ("mixture 10", 2.08, 0.69, 0.93),
        ("mixture 100", 1.69, 0.66, 0.99),
        ("noisy train", 0.95, 0.52, 0.98),
        ("one class", 168, 0.96, 0.13),
        ("uniform", 86, 1.0, 0.16),
    ],
)
def test_frechet_neighbours_and_coverage(digits, classifier, generated, name, fd, one_nn, coverage) -> None:
    test, fake = digits[2] / 16, generated[name] / 16
    real_features, fake_features = classifier.features(test), classifier.features(fake)
    assert metrics.frechet_distance(real_features, fake_features) == pytest.approx(fd, rel=0.01)
    # The reference breaks ties by the order of the rows, here they count half: the last printed digit may differ by
    # one. So may that of coverage: the mixtures depend on the order in which threads add up k-means.
    assert metrics.one_nn(test, fake).accuracy == pytest.approx(one_nn, abs=0.006)
    assert metrics.prdc(real_features, fake_features).coverage == pytest.approx(coverage, abs=0.01)


@pytest.mark.parametrize(
    ("name", "accuracy"), [("real", 0.51), ("independent", 0.94), ("mixture 100", 0.56), ("noisy train", 0.95)]
)
def test_c2st_tells_what_frechet_does_not(digits, generated, name, accuracy) -> None:
    assert metrics.c2st(digits[2] / 16, generated[name] / 16).value == pytest.approx(accuracy, abs=0.006)


def test_one_full_gaussian(digits, classifier) -> None:
    """The reference figures of this row come from an unseeded draw: they must be ordinary among 20 seeded ones."""
    train, _, test, _ = digits
    reference = np.array([7.09, 0.90, 0.49])  # fd, 1-NN, coverage
    draws = []
    for seed in range(20):
        x = np.random.default_rng(seed).multivariate_normal(train.mean(axis=0), np.cov(train.T), N)
        fake = np.clip(np.round(x), 0, 16) / 16
        real_features, fake_features = classifier.features(test / 16), classifier.features(fake)
        draws.append(
            [
                metrics.frechet_distance(real_features, fake_features),
                metrics.one_nn(test / 16, fake).accuracy,
                metrics.prdc(real_features, fake_features).coverage,
            ]
        )
    mean, sd = np.mean(draws, axis=0), np.std(draws, axis=0, ddof=1)
    assert (np.abs(reference - mean) < 2 * sd).all(), (mean, sd)
    assert (sd < 0.1 * mean).all()


def test_binary_likelihoods(digits) -> None:
    train, test = digits[0] >= 8, digits[2] >= 8
    nats = {1: -metrics.independent_bernoulli(train).log_prob(test).mean()}
    for components in (10, 30, 50, 100):
        nats[components] = -metrics.BernoulliMixture.fit(train, components, seed=1).log_prob(test).mean()
    printed = {1: 25.21, 10: 19.87, 30: 18.49, 50: 18.20, 100: 17.89}
    assert nats == pytest.approx(printed, abs=0.006)


def test_bits_per_dim_of_grey_levels(digits) -> None:
    train, test = digits[0], digits[2]

    def bits(model: metrics.CategoricalMixture) -> float:
        return metrics.bits_per_dim(-model.log_prob(test).mean(), 64)

    assert metrics.bits_per_dim(64 * np.log(17), 64) == pytest.approx(4.087, abs=5e-4)
    assert bits(metrics.independent_categorical(train, 17)) == pytest.approx(2.433, abs=5e-4)
    assert bits(metrics.CategoricalMixture.fit(train, 10, 17)) == pytest.approx(2.213, abs=5e-4)


@pytest.mark.parametrize(("components", "regularisation", "bits"), [(1, 1e-3, 2.94), (10, 3e-2, 2.62)])
def test_bits_per_dim_of_gaussians_on_dequantised_pixels(digits, components, regularisation, bits) -> None:
    model = metrics.DequantisedMixture.fit(digits[0], components, 17, regularisation=regularisation)
    assert model.bits_per_dim(digits[2]).value == pytest.approx(bits, abs=0.006)


def test_pca_reconstruction(digits) -> None:
    mse = metrics.pca_reconstruction_mse(digits[0] / 16, digits[2] / 16, (2, 4, 8, 16, 32))
    assert mse == pytest.approx({2: 0.0532, 4: 0.0379, 8: 0.0247, 16: 0.0116, 32: 0.0026}, abs=6e-5)
