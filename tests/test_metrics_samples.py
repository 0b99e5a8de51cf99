"""Sample metrics against closed forms, brute force and their own definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

from scratchgen import metrics


def _gaussians(seed: int, n: int = 300, d: int = 5, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), scale * rng.standard_normal((n, d))


class TestFrechet:
    def test_commuting_covariances_have_a_closed_form(self) -> None:
        """For diagonal covariances the distance is |m - m'|^2 + |s - s'|^2 in standard deviations."""
        s1, s2 = np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.5, 4.0])  # one covariance is singular
        got = metrics.frechet_from_moments([0, 0, 0], np.diag(s1**2), [1, 2, 3], np.diag(s2**2))
        assert got == pytest.approx(14.0 + ((s1 - s2) ** 2).sum(), rel=1e-12)

    def test_general_covariances_match_the_matrix_square_root(self) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((200, 6)) @ rng.standard_normal((6, 6)), rng.standard_normal((150, 6)) + 1.0
        s1, s2 = np.cov(a.T), np.cov(b.T)
        expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)
        assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
        assert metrics.frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)

    def test_samples_approach_the_distance_of_their_distributions(self) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.normal(0.0, 1.0, (200_000, 2)), rng.normal([1.0, -2.0], 3.0, (200_000, 2))
        assert metrics.frechet_distance(a, b) == pytest.approx(5.0 + 2 * 2.0**2, rel=0.01)

    def test_fewer_samples_than_features(self) -> None:
        a, b = _gaussians(0, n=5, d=40)
        assert metrics.frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)
        assert metrics.frechet_distance(a, b) > 1.0

    def test_one_feature(self) -> None:
        x = np.arange(10.0)
        assert metrics.frechet_distance(x, x + 2.0) == pytest.approx(4.0)

    def test_normalised(self) -> None:
        assert metrics.normalised_frechet(1.15, 1.15, 86.0) == 0.0
        assert metrics.normalised_frechet(86.0, 1.15, 86.0) == pytest.approx(100.0)
        with pytest.raises(ValueError, match="must exceed the floor"):
            metrics.normalised_frechet(1.0, 2.0, 2.0)


class TestKID:
    def test_equals_its_definition(self) -> None:
        a, b = _gaussians(0, n=20, d=3)
        b = b[:15]

        def kernel(x: np.ndarray, y: np.ndarray) -> float:
            return (x @ y / 3 + 1) ** 3

        within_a = np.mean([kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
        within_b = np.mean([kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
        cross = np.mean([kernel(x, y) for x in a for y in b])
        assert metrics.kid(a, b).value == pytest.approx(within_a + within_b - 2 * cross, rel=1e-10)

    def test_error_is_the_delete_one_jackknife(self) -> None:
        a, b = _gaussians(1, n=12, d=3)
        without_a = [metrics.kid(np.delete(a, i, 0), b).value for i in range(12)]
        without_b = [metrics.kid(a, np.delete(b, i, 0)).value for i in range(12)]
        expected = np.sqrt(11 * (np.var(without_a) + np.var(without_b)))
        assert metrics.kid(a, b).se == pytest.approx(expected, rel=1e-9)

    def test_is_unbiased_and_its_error_is_honest(self) -> None:
        estimates = [metrics.kid(*_gaussians(seed, n=50, d=4)) for seed in range(300)]
        values, errors = np.array(estimates).T
        assert abs(values.mean()) < 3 * values.std() / np.sqrt(300)
        assert (values < 0).any()
        assert 0.9 < np.sqrt((errors**2).mean()) / values.std() < 1.7


class TestOneNN:
    def test_is_one_half_in_distribution(self) -> None:
        figures = np.array([metrics.one_nn(*_gaussians(seed, n=100)) for seed in range(100)])
        # 99 own and 100 other neighbours to find: the exact expectation is 99/199
        assert np.abs(figures.mean(0) - 99 / 199).max() < 3 * figures.std(0).max() / 10

    def test_equals_brute_force(self) -> None:
        a, b = _gaussians(3, n=40, scale=1.5)
        pooled, label = np.concatenate([a, b]), np.repeat([0, 1], 40)
        distance = cdist(pooled, pooled) + np.diag(np.full(80, np.inf))
        right = label[distance.argmin(1)] == label
        assert metrics.one_nn(a, b) == pytest.approx((right.mean(), right[:40].mean(), right[40:].mean()))

    def test_separated_samples(self) -> None:
        a, b = _gaussians(0)
        assert metrics.one_nn(a, b + 100.0) == (1.0, 1.0, 1.0)

    def test_copies_of_the_real_points_are_nearer_than_anything(self) -> None:
        a, _ = _gaussians(0)
        assert metrics.one_nn(a, a + 1e-9).accuracy == 0.0

    def test_collapse_shows_on_the_fake_side(self) -> None:
        a, b = _gaussians(0)
        figures = metrics.one_nn(a, np.repeat(b[:3], 100, axis=0))
        assert figures.fake == 1.0
        assert figures.real > 0.9

    def test_ties_count_half(self) -> None:
        a = np.array([[0.0], [2.0]])
        b = np.array([[1.0], [50.0]])  # 0 and 2 are at distance 1 from a fake and 2 from each other; 1 ties nowhere
        assert metrics.one_nn(a, b) == (0.0, 0.0, 0.0)
        square = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 1.0]])
        assert metrics.one_nn(*square) == (0.5, 0.5, 0.5)


class TestPRDC:
    def test_equals_the_definition(self) -> None:
        a, b = _gaussians(5, n=60, d=3, scale=0.7)
        k = 4
        radius_a, radius_b = (np.sort(cdist(x, x), 1)[:, k] for x in (a, b))
        inside_a = [[np.linalg.norm(a[i] - b[j]) < radius_a[i] for j in range(60)] for i in range(60)]
        inside_b = [[np.linalg.norm(a[i] - b[j]) < radius_b[j] for j in range(60)] for i in range(60)]
        expected = (
            np.mean([any(inside_a[i][j] for i in range(60)) for j in range(60)]),
            np.mean([any(row) for row in inside_b]),
            np.sum(inside_a) / (k * 60),
            np.mean([any(row) for row in inside_a]),
        )
        assert metrics.prdc(a, b, k) == pytest.approx(expected)

    def test_equal_distributions_have_the_exact_expectation(self) -> None:
        """Ranks are uniform: density 1, coverage 1 - prod_i (N - i) / (2N - i), i = 1..k (Naeem et al. 2020)."""
        n, k = 100, 5
        figures = np.array([metrics.prdc(*_gaussians(seed, n, d=2), k) for seed in range(200)])
        coverage = 1 - np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])
        error = figures.std(axis=0) / np.sqrt(200)
        assert abs(figures[:, 2].mean() - 1.0) < 3 * error[2]
        assert abs(figures[:, 3].mean() - coverage) < 3 * error[3]

    @pytest.mark.slow
    def test_published_figures_of_equal_gaussians(self) -> None:
        """The example of the authors' package: 10,000 points in 1,000 dimensions. Its draw is not seeded."""
        rng = np.random.default_rng(0)
        a, b = (rng.standard_normal((10_000, 1_000), dtype=np.float32) for _ in range(2))
        got = metrics.prdc(a, b, k=5)
        assert got == pytest.approx((0.48, 0.47, 1.06, 0.97), abs=0.015)

    def test_collapse_and_artefacts(self) -> None:
        a, b = _gaussians(0)
        collapsed = metrics.prdc(a, np.repeat(b[:10], 30, axis=0))
        assert collapsed.precision > 0.8
        assert collapsed.coverage < 0.3
        assert metrics.prdc(a, b + 100.0) == (0.0, 0.0, 0.0, 0.0)

    def test_k_must_fit(self) -> None:
        a, b = _gaussians(0, n=5)
        with pytest.raises(ValueError, match=r"below both sample counts \(5, 5\), got 5"):
            metrics.prdc(a, b, k=5)


class TestMemorisation:
    def test_copies_fresh_and_far(self) -> None:
        rng = np.random.default_rng(0)
        train, test, fresh = (rng.standard_normal((n, 4)) for n in (500, 2000, 2000))
        assert metrics.memorisation(train[:100], test, train) == 1.0
        assert metrics.memorisation(train[:100] + 1e-4, test, train) == 1.0
        assert metrics.memorisation(test, test, train) == pytest.approx(0.05, abs=1e-3)
        assert metrics.memorisation(fresh, test, train) == pytest.approx(0.05, abs=0.015)
        assert metrics.memorisation(fresh + 100.0, test, train) == 0.0

    def test_where_real_data_repeat_only_copies_count(self) -> None:
        train = np.array([[0.0, 0.0], [1.0, 1.0]])
        assert metrics.memorisation([[0.0, 0.0], [0.0, 1.0]], train, train) == 0.5


class TestC2ST:
    def test_chance_certainty_and_error(self) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.random((100, 8)), rng.random((100, 8))
        chance = metrics.c2st(a, b)
        assert abs(chance.value - 0.5) < 3 * chance.se
        assert chance.se == pytest.approx(np.sqrt(chance.value * (1 - chance.value) / 200))
        assert metrics.c2st(a, b) == chance
        assert metrics.c2st(a, b + 1.0) == (1.0, 0.0)

    def test_wants_equal_counts(self) -> None:
        a, b = _gaussians(0)
        with pytest.raises(ValueError, match="got 300 and 200"):
            metrics.c2st(a, b[:200])


def test_half_sample_errors_are_honest() -> None:
    """The error of 1-NN, PRDC and Frechet against the spread over fresh samples: not too small, not twice too large."""
    values, errors, frechet = [], [], []
    for seed in range(50):
        a, b = _gaussians(seed, n=100, scale=1.2)

        def figures(i: np.ndarray, j: np.ndarray, a: np.ndarray = a, b: np.ndarray = b) -> np.ndarray:
            return np.array([*metrics.one_nn(a[i], b[j]), *metrics.prdc(a[i], b[j])])

        everyone = np.arange(100)
        values.append(figures(everyone, everyone))
        errors.append(metrics.half_sample_se(figures, 100, 100, replicates=12))
        frechet.append((metrics.frechet_distance(a, b), metrics.frechet_distance_se(a, b)))
    ratio = np.sqrt(np.square(errors).mean(axis=0)) / np.std(values, axis=0)
    assert (ratio > 0.85).all(), ratio
    assert (ratio < 1.8).all(), ratio
    distance, error = np.array(frechet).T
    assert 0.85 < np.sqrt((error**2).mean()) / distance.std() < 1.6


@pytest.fixture(scope="module")
def real() -> tuple[np.ndarray, np.ndarray]:
    """Held-out and training images (N, 1, 4, 4) of two kinds, on 9 grey levels."""
    rng = np.random.default_rng(0)
    kinds = np.array([[0.2, 0.8], [0.8, 0.2]]).repeat(8, axis=1)
    x = np.clip(kinds[rng.integers(0, 2, 460)] + 0.1 * rng.standard_normal((460, 16)), 0, 1)
    x = (np.round(x * 8) / 8).reshape(-1, 1, 4, 4)
    return x[:160], x[160:]


class TestEvaluateSamples:
    def test_every_figure_and_its_error(self, real) -> None:
        test, train = real
        report = metrics.evaluate_samples(test, np.random.default_rng(1).random((160, 1, 4, 4)), train, levels=9)
        distances, neighbours = ["fd", "nfd", "kid", "c2st"], ["one_nn", "one_nn_real", "one_nn_fake", "memorisation"]
        random = [*distances, *neighbours, *metrics.PRDC._fields]
        expected = {*random, *(f"{name}_se" for name in random), "fd_floor", "fd_noise", "samples"}
        assert set(report) == expected
        assert all(type(value) is float and np.isfinite(value) for value in report.values())
        assert report["samples"] == 160
        assert report["nfd"] == pytest.approx(100.0, abs=10.0)
        assert report["c2st"] > 0.9
        assert report["coverage"] < 0.5

    def test_training_images_are_perfect_but_for_memorisation(self, real) -> None:
        test, train = real
        report = metrics.evaluate_samples(test, train[:160], train, levels=9)
        assert abs(report["nfd"]) < 3 * report["nfd_se"]
        assert abs(report["one_nn"] - 0.5) < 3 * report["one_nn_se"]
        assert report["coverage"] > 0.9
        assert report["memorisation"] == 1.0

    def test_its_figures_are_those_of_the_single_functions(self, real) -> None:
        test, train = real
        fake = np.clip(train[:160] + 0.3, 0, 1)
        report = metrics.evaluate_samples(test, fake, train)
        flat = [x.reshape(len(x), -1) for x in (test, fake, train)]
        assert report["fd"] == pytest.approx(metrics.frechet_distance(flat[0], flat[1]))
        assert report["one_nn_fake"] == pytest.approx(metrics.one_nn(flat[0], flat[1]).fake)
        assert report["density"] == pytest.approx(metrics.prdc(flat[0], flat[1]).density)
        assert (report["kid"], report["kid_se"]) == pytest.approx(metrics.kid(flat[0], flat[1]))
        assert (report["c2st"], report["c2st_se"]) == pytest.approx(metrics.c2st(flat[0], flat[1]))
        assert report["memorisation"] == metrics.memorisation(flat[1], flat[0], flat[2])

    def test_counts_are_made_equal_reproducibly(self, real) -> None:
        test, train = real
        first, again = (metrics.evaluate_samples(test, train, train, max_samples=40) for _ in range(2))
        assert first == again
        assert first["samples"] == 40

    def test_features_are_used(self, real) -> None:
        test, train = real
        blind = metrics.evaluate_samples(
            test, 1.0 - train, train, features=lambda x: np.abs(x.reshape(len(x), -1) - 0.5)
        )
        assert abs(blind["nfd"]) < 3 * blind["nfd_se"]

    def test_what_does_not_fit_is_named(self, real) -> None:
        test, train = real
        with pytest.raises(ValueError, match=r"real_test must lie in \[0, 1\], but spans -1..1"):
            metrics.evaluate_samples(2 * test - 1, test, train)
        with pytest.raises(ValueError, match=r"differ in size: .* fake \(160, 1, 4, 3\)"):
            metrics.evaluate_samples(test, test[..., :3], train)
        with pytest.raises(ValueError, match="10 samples are too few for 5 neighbours"):
            metrics.evaluate_samples(test[:10], test, train)
        broken = test.copy()
        broken[3, 0, 0, 0] = np.nan
        with pytest.raises(ValueError, match="fake: 1 of 160 samples hold NaN"):
            metrics.evaluate_samples(test, broken, train)


def test_arguments_are_checked() -> None:
    a, b = _gaussians(0)
    with pytest.raises(ValueError, match=r"same number of values a sample: got \(300, 5\) \(5\) and \(300, 4\) \(4\)"):
        metrics.frechet_distance(a, b[:, :4])
    with pytest.raises(ValueError, match=r"real: need an array of at least 2 samples, got shape \(1, 5\)"):
        metrics.one_nn(a[:1], b)
    with pytest.raises(ValueError, match="fake: need an array of at least 3 samples"):
        metrics.kid(a, b[:2])
    with pytest.raises(ValueError, match="half_sample_se: need 2 replicates and 4 samples"):
        metrics.half_sample_se(lambda i, j: 0.0, 3, 10)
    with pytest.raises(ValueError, match="need means"):
        metrics.frechet_from_moments([0.0], np.eye(2), [0.0], np.eye(1))


def test_earth_movers_distance_is_that_of_the_sorted_points_on_a_line() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(200), 0.5 + 2 * rng.standard_normal(200)
    found = metrics.earth_movers_distance(a[:, None], b[:, None])
    assert found == pytest.approx(np.abs(np.sort(a) - np.sort(b)).mean(), rel=1e-12)
    plane = rng.standard_normal((50, 2))
    assert metrics.earth_movers_distance(plane, plane[::-1] + [3.0, 4.0]) == pytest.approx(5.0)  # a shift: its length
    with pytest.raises(ValueError, match="as many points of both are needed, got 50 and 49"):
        metrics.earth_movers_distance(plane, plane[1:])
