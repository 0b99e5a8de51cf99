"""Distances between two samples: Frechet (FD) and kernel (KID) in a feature space, and the earth mover's."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .statistics import Estimate, as_pair


def frechet_from_moments(mean_real: ArrayLike, cov_real: ArrayLike, mean_fake: ArrayLike, cov_fake: ArrayLike) -> float:
    """Squared Frechet (2-Wasserstein) distance between two Gaussians.

    |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2))  (Dowson and Landau 1982; Heusel et al. 2017, eq. 6).
    Means (D,), covariances (D, D), which may be singular.
    """
    m1, m2 = np.asarray(mean_real, np.float64), np.asarray(mean_fake, np.float64)
    s1, s2 = np.asarray(cov_real, np.float64), np.asarray(cov_fake, np.float64)
    d = m1.size
    if m1.shape != (d,) or m2.shape != (d,) or s1.shape != (d, d) or s2.shape != (d, d):
        raise ValueError(
            "frechet_from_moments: need means (D,) and covariances (D, D), "
            f"got {m1.shape}, {s1.shape} and {m2.shape}, {s2.shape}"
        )
    # tr (S S')^(1/2) is the sum of the singular values of S^(1/2) S'^(1/2). Unlike the root of the product,
    # which turns complex for singular covariances, this needs roots of symmetric matrices only.
    cross = np.linalg.svd(_root(s1) @ _root(s2), compute_uv=False).sum()
    return float(((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2.0 * cross)


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    variances, axes = np.linalg.eigh(covariance)
    # Rounding leaves variances of 1e-16 where there are none, and their roots of 1e-8 would add up.
    variances[variances < max(variances[-1], 0.0) * len(variances) * np.finfo(np.float64).eps] = 0.0
    return axes * np.sqrt(variances) @ axes.T


def frechet_distance(real: ArrayLike, fake: ArrayLike) -> float:
    """Frechet distance between Gaussians fitted to ``real`` (N, D) and ``fake`` (M, D).

    In squared feature units. It is biased upwards by O(1/N): compare only figures of equal sample counts, and
    with the floor that held-out real data reaches at that count.
    """
    a, b = as_pair(real, fake)
    a, b = a.astype(np.float64), b.astype(np.float64)
    covariances = [np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b)]
    return frechet_from_moments(a.mean(axis=0), covariances[0], b.mean(axis=0), covariances[1])


def frechet_distance_se(real: ArrayLike, fake: ArrayLike, groups: int = 10, seed: int = 0) -> float:
    """Standard error of :func:`frechet_distance` over fresh draws of both samples.

    Delete-a-group jackknife: each sample in turn is cut into ``groups`` random parts, each part left out
    once; with g replicates t_j a sample contributes (g-1)/g sum_j (t_j - mean t)^2 to the variance (Kott
    2001). It errs on the large side, by 1.1 far from the floor and 1.5 at it, where the variance falls as
    1/N^2 and not as 1/N.
    """
    a, b = as_pair(real, fake, at_least=2 * groups)
    rng = np.random.default_rng(seed)
    parts_a = np.array_split(rng.permutation(len(a)), groups)
    parts_b = np.array_split(rng.permutation(len(b)), groups)
    without_a = [frechet_distance(np.delete(a, part, axis=0), b) for part in parts_a]
    without_b = [frechet_distance(a, np.delete(b, part, axis=0)) for part in parts_b]
    return float(np.sqrt((groups - 1) * (np.var(without_a) + np.var(without_b))))


def normalised_frechet(fd: float, floor: float, noise: float) -> float:
    """(fd - floor) / (noise - floor) in percent: 0 is as good as real data, 100 is uniform noise.

    FD depends on the classifier behind the features; this ratio can be compared between classifiers.
    """
    if not noise > floor:
        raise ValueError(f"normalised_frechet: the noise FD ({noise:.4g}) must exceed the floor ({floor:.4g})")
    return 100.0 * (fd - floor) / (noise - floor)


def kid(real: ArrayLike, fake: ArrayLike) -> Estimate:
    """Kernel distance (squared MMD, kernel (x.y / D + 1)^3), unbiased, with its standard error.

    ``real`` (N, D) and ``fake`` (M, D) with N, M >= 3 (Binkowski et al. 2018, sec. 4). Its expectation is 0
    for equal distributions, so the estimate can be negative. The error is the delete-one jackknife over both
    samples, exact from row sums of the kernel matrices.
    """
    a, b = as_pair(real, fake, at_least=3)
    a, b = a.astype(np.float64), b.astype(np.float64)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1.0) ** 3

    def sums_without_self(x: np.ndarray) -> np.ndarray:
        return kernel(x, x).sum(axis=1) - ((x * x).sum(axis=1) / x.shape[1] + 1.0) ** 3

    within_a, within_b, cross = sums_without_self(a), sums_without_self(b), kernel(a, b)
    cross_a, cross_b, total = cross.sum(axis=1), cross.sum(axis=0), cross.sum()
    n, m = len(a), len(b)

    mean_a, mean_b = within_a.sum() / (n * (n - 1)), within_b.sum() / (m * (m - 1))
    value = mean_a + mean_b - 2.0 * total / (n * m)
    without_a = (within_a.sum() - 2 * within_a) / ((n - 1) * (n - 2)) + mean_b - 2 * (total - cross_a) / ((n - 1) * m)
    without_b = mean_a + (within_b.sum() - 2 * within_b) / ((m - 1) * (m - 2)) - 2 * (total - cross_b) / (n * (m - 1))
    variance = (n - 1) * np.var(without_a) + (m - 1) * np.var(without_b)
    return Estimate(float(value), float(np.sqrt(variance)))


def earth_movers_distance(real: ArrayLike, fake: ArrayLike) -> float:
    """The 1-Wasserstein distance of two samples of N points each, (N, D): the mean way of the cheapest matching.

    Exact, by the assignment problem, in O(N^3): for a thousand points. Two samples of one density are not at 0.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    a, b = as_pair(real, fake)
    if len(a) != len(b):
        raise ValueError(f"earth_movers_distance: as many points of both are needed, got {len(a)} and {len(b)}")
    way = cdist(a, b)
    return float(way[linear_sum_assignment(way)].mean())
