"""Two-dimensional densities of which everything is known: a sampler, the log-density, the modes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy.special import ive, logsumexp

from scratchgen.data.dataset import Dataset, IntArray, Split
from scratchgen.data.registry import dataset

Points64 = npt.NDArray[np.float64]


class Density(ABC):
    """A density on the plane: equally likely components, plus Gaussian noise of standard deviation `sigma`.

    components  how many there are
    centres     (components, 2) float64, where the components are the modes of a Gaussian mixture; else None
    bounds      ((2,) low corner, (2,) high corner) of a box outside which lies less than 1e-12 of the mass
    """

    sigma: float
    components: int
    centres: Points64 | None = None
    bounds: tuple[Points64, Points64]

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Points64, IntArray]:
        """n points (n, 2), and (n,) the component that each comes from."""
        component = rng.integers(self.components, size=n)
        return self._skeleton(component, rng) + self.sigma * rng.standard_normal((n, 2)), component

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """n points, (n, 2) float32."""
        return self.draw(n, rng)[0].astype(np.float32)

    def log_density(self, x: npt.ArrayLike) -> Points64:
        """log p(x) in nats: (n, 2) -> (n,), computed in float64."""
        points = np.asarray(x, np.float64)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"log_density: expected points of shape (n, 2), got {points.shape}")
        return self._log_density(points)

    @abstractmethod
    def _skeleton(self, component: IntArray, rng: np.random.Generator) -> Points64:
        """A point of each component before the noise is added, (n, 2)."""

    @abstractmethod
    def _log_density(self, x: Points64) -> Points64: ...

    def _box(self, low: npt.ArrayLike, high: npt.ArrayLike) -> tuple[Points64, Points64]:
        margin = 8 * self.sigma
        return np.asarray(low, np.float64) - margin, np.asarray(high, np.float64) + margin


class GaussianMixture(Density):
    """Equal isotropic Gaussians: p(x) = mean over centres c of N(x; c, sigma^2 I)."""

    centres: Points64

    def __init__(self, centres: Points64, sigma: float) -> None:
        self.centres, self.sigma, self.components = centres, sigma, len(centres)
        self.bounds = self._box(centres.min(0), centres.max(0))

    def _skeleton(self, component: IntArray, rng: np.random.Generator) -> Points64:
        return self.centres[component]

    def _log_density(self, x: Points64) -> Points64:
        squared = ((x[:, None] - self.centres) ** 2).sum(-1)
        log_normal = -squared / (2 * self.sigma**2) - np.log(2 * np.pi * self.sigma**2)
        return logsumexp(log_normal, axis=1) - np.log(self.components)


class Rings(Density):
    """Concentric circles, each with the same mass.

    For a circle of radius r the angle integrates to a Bessel function: with rho = |x|,
    p(x) = exp(-(rho^2 + r^2) / (2 sigma^2)) I0(rho r / sigma^2) / (2 pi sigma^2).
    """

    def __init__(self, radii: Points64, sigma: float) -> None:
        self.radii, self.sigma, self.components = radii, sigma, len(radii)
        self.bounds = self._box([-radii.max()] * 2, [radii.max()] * 2)

    def _skeleton(self, component: IntArray, rng: np.random.Generator) -> Points64:
        angle = rng.uniform(0, 2 * np.pi, len(component))
        return self.radii[component, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def _log_density(self, x: Points64) -> Points64:
        rho = np.hypot(x[:, :1], x[:, 1:])
        # ive(0, z) = exp(-z) I0(z) keeps the exponentials from overflowing.
        bessel = np.log(ive(0, rho * self.radii / self.sigma**2))
        log_ring = bessel - (rho - self.radii) ** 2 / (2 * self.sigma**2) - np.log(2 * np.pi * self.sigma**2)
        return logsumexp(log_ring, axis=1) - np.log(self.components)


class Moons(Density):
    """Two interleaved half circles of radius 1, where scikit-learn's `make_moons` has them.

    p(x) is the mean over both moons of 1/pi times the integral over their angle of N(x; c(angle), sigma^2 I).
    The integral is taken by Gauss-Legendre quadrature, whose error falls exponentially once the nodes lie
    closer together than sigma: with 20 + 10 / sigma of them it is below 1e-9 in log p within `bounds`.
    """

    components = 2

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma
        self.bounds = self._box([-1.0, -0.5], [2.0, 1.0])
        nodes, weights = np.polynomial.legendre.leggauss(20 + round(10 / sigma))
        angle = np.pi * (nodes + 1) / 2
        self._nodes = np.concatenate([self._arc(np.full(len(angle), moon), angle) for moon in range(2)])
        self._log_weights = np.log(np.tile(weights, 2) / 4)  # the weights add up to 2, on each of 2 moons

    @staticmethod
    def _arc(moon: IntArray, angle: Points64) -> Points64:
        upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return np.where(moon[:, None] == 0, upper, np.array([1.0, 0.5]) - upper)

    def _skeleton(self, component: IntArray, rng: np.random.Generator) -> Points64:
        return self._arc(component, rng.uniform(0, np.pi, len(component)))

    def _log_density(self, x: Points64) -> Points64:
        result = np.empty(len(x))
        for start in range(0, len(x), 1024):  # in blocks, to keep the table of distances in the cache
            block = slice(start, start + 1024)
            squared = ((x[block, None] - self._nodes) ** 2).sum(-1)
            result[block] = logsumexp(self._log_weights - squared / (2 * self.sigma**2), axis=1)
        return result - np.log(2 * np.pi * self.sigma**2)


@dataclass(frozen=True, eq=False, repr=False)
class Points(Split):
    """n points of the plane: x (n, 2) float32, and labels (n,) int64, the component that each comes from."""

    x: npt.NDArray[np.float32]
    labels: IntArray

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: IntArray) -> Self:
        return type(self)(self.x[rows], self.labels[rows])


@dataclass(frozen=True, eq=False, repr=False)
class PointDataset(Dataset[Points]):
    """Points drawn from a known density; `density.sample` draws as many more as one likes."""

    kind: ClassVar[str] = "points"

    density: Density


TRAIN, VALIDATION, TEST = 50_000, 5_000, 10_000


def _points(name: str, density: Density, seed: int) -> PointDataset:
    rng = np.random.default_rng(seed)

    def draw(n: int) -> Points:
        x, component = density.draw(n, rng)
        return Points(x.astype(np.float32), component)

    rows = np.arange(TRAIN, TRAIN + VALIDATION)
    return PointDataset(name, draw(TRAIN + VALIDATION), draw(TEST), rows, density)


SIZE = f"{TRAIN + VALIDATION:,} + {TEST:,}, or endless"


@dataset(
    "ring8",
    kind="points",
    what="8 Gaussians on a circle of radius 2, sd 0.02",
    size=SIZE,
    shape="2",
    source="Metz et al. 2017; VEEGAN's and PacGAN's ring (radius 1, sd 0.01) at twice the scale",
    terms="generated",
)
def ring8(seed: int = 0) -> PointDataset:
    """Eight Gaussians on a circle."""
    angle = 2 * np.pi * np.arange(8) / 8
    return _points("ring8", GaussianMixture(2 * np.stack([np.cos(angle), np.sin(angle)], axis=1), 0.02), seed)


@dataset(
    "grid25",
    kind="points",
    what="5x5 Gaussians, spacing 2 in [-4, 4]^2, sd 0.05",
    size=SIZE,
    shape="2",
    source="VEEGAN (Srivastava et al. 2017), PacGAN (Lin et al. 2018)",
    terms="generated",
)
def grid25(seed: int = 0) -> PointDataset:
    """Twenty-five Gaussians on a grid."""
    side = np.arange(-4.0, 5.0, 2.0)
    centres = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    return _points("grid25", GaussianMixture(centres, 0.05), seed)


@dataset(
    "moons",
    kind="points",
    what="two interleaved half circles of radius 1, noise sd 0.1",
    size=SIZE,
    shape="2",
    source="scikit-learn's make_moons(noise=0.1)",
    terms="generated",
)
def moons(seed: int = 0) -> PointDataset:
    """Two moons."""
    return _points("moons", Moons(0.1), seed)


@dataset(
    "rings",
    kind="points",
    what="four circles of radius 0.75, 1.5, 2.25 and 3, noise sd 0.08",
    size=SIZE,
    shape="2",
    source="FFJORD (Grathwohl et al. 2019)",
    terms="generated",
)
def rings(seed: int = 0) -> PointDataset:
    """Four rings."""
    return _points("rings", Rings(np.array([0.75, 1.5, 2.25, 3.0]), 0.08), seed)
