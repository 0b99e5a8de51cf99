"""The two-dimensional densities against quadrature, scikit-learn and their definitions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal
from sklearn.datasets import make_moons

from scratchgen import data
from scratchgen.data.points import Density, Moons, PointDataset

NAMES = ["ring8", "grid25", "moons", "rings"]


@pytest.fixture(scope="module", params=NAMES)
def dataset(request: pytest.FixtureRequest) -> PointDataset:
    return data.load(request.param)


def grid(density: Density) -> tuple[np.ndarray, np.ndarray]:
    """Grid points over the bounds, and p there times the area of a cell.

    The trapezoidal rule converges exponentially on what Gaussian noise has smoothed: to 1e-8 at a step of sigma.
    """
    low, high = density.bounds
    axes = [np.arange(a, b, density.sigma) for a, b in zip(low, high)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    return points, np.exp(density.log_density(points)) * density.sigma**2


def test_the_density_integrates_to_one(dataset: PointDataset) -> None:
    assert grid(dataset.density)[1].sum() == pytest.approx(1, abs=1e-7)


def test_the_samples_follow_the_density(dataset: PointDataset) -> None:
    points, mass = grid(dataset.density)
    x = dataset.density.sample(20_000, np.random.default_rng(1))
    assert x.dtype == np.float32
    log_p = dataset.density.log_density(points)
    functions = {
        "entropy": (lambda p: dataset.density.log_density(p), log_p),
        "first": (lambda p: p[:, 0], points[:, 0]),
        "second": (lambda p: p[:, 1] ** 2, points[:, 1] ** 2),
        "wave": (lambda p: np.cos(3 * p[:, 0] - 2 * p[:, 1]), np.cos(3 * points[:, 0] - 2 * points[:, 1])),
    }
    for name, (function, on_grid) in functions.items():
        values = function(x.astype(np.float64))
        expected = (mass * on_grid).sum()
        assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(len(values)), name


def test_components_are_equally_likely(dataset: PointDataset) -> None:
    k = dataset.density.components
    counts = np.bincount(dataset.trainval.labels, minlength=k)
    assert len(counts) == k
    n = len(dataset.trainval)
    assert abs(counts - n / k).max() < 4.5 * np.sqrt(n / k)


@pytest.mark.parametrize(("name", "modes", "sigma"), [("ring8", 8, 0.02), ("grid25", 25, 0.05)])
def test_gaussian_mixtures_are_what_their_papers_say(name: str, modes: int, sigma: float) -> None:
    density = data.load(name).density
    assert density.centres is not None
    assert (density.centres.shape, density.sigma, density.components) == ((modes, 2), sigma, modes)
    if name == "ring8":
        assert np.hypot(*density.centres.T) == pytest.approx(np.full(8, 2.0))
        gaps = np.diff(np.sort(np.arctan2(density.centres[:, 1], density.centres[:, 0])))
        assert gaps == pytest.approx(np.full(7, np.pi / 4))
    else:
        assert {tuple(c) for c in density.centres} == {(a, b) for a in range(-4, 5, 2) for b in range(-4, 5, 2)}

    x, component = density.draw(100_000, np.random.default_rng(0))
    near = np.hypot(*(x - density.centres[component]).T) < 3 * sigma
    share = 1 - np.exp(-4.5)  # of a two-dimensional Gaussian within 3 standard deviations
    assert abs(near.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(x))

    points = x[:200]
    normals = [multivariate_normal(c, sigma**2).pdf(points) for c in density.centres]
    assert density.log_density(points) == pytest.approx(np.log(np.mean(normals, axis=0)), abs=1e-10)


def arc_density(x: np.ndarray, curve: Callable[[float], np.ndarray], end: float, sigma: float) -> float:
    """log of the mean over [0, end] of the Gaussian around a curve, scaled by its largest value."""
    nearest = min(((x - curve(t)) ** 2).sum() for t in np.linspace(0, end, 2001))

    def scaled(t: float) -> float:
        return float(np.exp((nearest - ((x - curve(t)) ** 2).sum()) / (2 * sigma**2)))

    integral, _ = quad(scaled, 0, end, epsabs=0, epsrel=1e-11, limit=500, points=np.linspace(0, end, 41)[1:-1])
    return float(np.log(integral / end) - nearest / (2 * sigma**2) - np.log(2 * np.pi * sigma**2))


@pytest.mark.parametrize("sigma", [0.03, 0.1, 2.0])
def test_moons_against_adaptive_quadrature(sigma: float) -> None:
    density = Moons(sigma)
    rng = np.random.default_rng(0)
    low, high = density.bounds
    points = np.concatenate([density.draw(4, rng)[0], rng.uniform(low, high, (3, 2)), [low, high]])
    moons = [
        lambda t: np.array([np.cos(t), np.sin(t)]),
        lambda t: np.array([1 - np.cos(t), 0.5 - np.sin(t)]),
    ]
    for x, log_p in zip(points, density.log_density(points)):
        parts = [arc_density(x, moon, np.pi, sigma) for moon in moons]
        assert log_p == pytest.approx(np.logaddexp(*parts) - np.log(2), abs=1e-9, rel=1e-12)


def test_rings_against_adaptive_quadrature() -> None:
    density = data.load("rings").density
    points = np.array([[0.0, 0.0], [0.75, 0.0], [1.1, 0.2], [-2.0, 1.0], [0.5, -2.95], [3.4, 0.0]])
    for x, log_p in zip(points, density.log_density(points)):
        parts = [
            arc_density(x, lambda t, r=r: r * np.array([np.cos(t), np.sin(t)]), 2 * np.pi, 0.08)
            for r in (0.75, 1.5, 2.25, 3.0)
        ]
        assert log_p == pytest.approx(np.logaddexp.reduce(parts) - np.log(4), abs=1e-8)


def test_moons_are_those_of_scikit_learn() -> None:
    density = data.load("moons").density
    ours, component = density.draw(20_000, np.random.default_rng(0))
    theirs, label = make_moons(20_000, noise=0.1, random_state=0)
    for moon in range(2):
        a, b = ours[component == moon], theirs[label == moon]
        for f in (density.log_density, lambda x: x[:, 0], lambda x: x[:, 1], lambda x: np.cos(4 * x).prod(1)):
            error = np.hypot(f(a).std() / np.sqrt(len(a)), f(b).std() / np.sqrt(len(b)))
            assert abs(f(a).mean() - f(b).mean()) < 4 * error


def test_log_density_stays_finite_far_away(dataset: PointDataset) -> None:
    far = np.array([[1e3, 0.0], [-1e3, 1e3], [0.0, 0.0]])
    assert np.isfinite(dataset.density.log_density(far)).all()
    assert dataset.density.log_density(np.zeros((0, 2))).shape == (0,)
    with pytest.raises(ValueError, match=r"expected points of shape \(n, 2\), got \(3,\)"):
        dataset.density.log_density(np.zeros(3))


def test_splits(dataset: PointDataset) -> None:
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [50_000, 5_000, 10_000]
    assert dataset.train.x.dtype == np.float32
    low, high = dataset.density.bounds
    assert ((dataset.trainval.x > low) & (dataset.trainval.x < high)).all()
