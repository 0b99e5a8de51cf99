"""A flow on the plane against the density that its points come from: no sampling, the integrals themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.stats

from scratchgen.data.points import Density, PointDataset

LogDensity = Callable[[np.ndarray], np.ndarray]  # points (n, 2) -> nats (n,)
FINENESS = 4  # points of the grid in a standard deviation of the data's noise
MARGIN = 0.25  # of the box of the data, added on each side: mass of the model lies outside too
NEGLIGIBLE = -30.0  # log-density below which a point adds nothing to the KL


def plane(density: Density, margin: float = 0.0) -> tuple[np.ndarray, float]:
    """The points (n, 2) of a grid over the density's box, and the area that each stands for."""
    low, high = density.bounds
    side, extra = density.sigma / FINENESS, margin * (high - low)
    axes = [np.arange(a - e, b + e, side) for a, b, e in zip(low, high, extra, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2), side**2


def by_quadrature(log_model: LogDensity, density: Density) -> dict[str, float]:
    """``kl``: KL(density || model) in nats; ``mass``: the integral of the model over the box and its margin."""
    points, area = plane(density, MARGIN)
    mass = float(np.exp(log_model(points).astype(np.float64)).sum() * area)
    return {"kl": divergence(log_model, density), "mass": mass}


def divergence(log_model: LogDensity, density: Density) -> float:
    """KL(density || model) in nats: the integral of p (log p - log q), where p is not negligible."""
    points, area = plane(density)
    log_p = density.log_density(points)
    counts = log_p > NEGLIGIBLE
    log_p = log_p[counts]
    return float((np.exp(log_p) * (log_p - log_model(points[counts]))).sum() * area)


def one_gaussian(dataset: PointDataset) -> dict[str, float]:
    """``kl`` of the Gaussian with the mean and covariance of the training points."""
    x = dataset.trainval.x.astype(np.float64)
    fitted = scipy.stats.multivariate_normal(x.mean(0), np.cov(x.T))
    return {"kl": divergence(fitted.logpdf, dataset.density)}
