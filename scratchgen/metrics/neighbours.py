"""Metrics from nearest neighbours: 1-NN accuracy; precision, recall, density, coverage; memorisation.

All comparisons are between squared Euclidean distances, so no root is ever taken.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.metrics.pairwise import euclidean_distances

from .statistics import as_pair, as_rows


class PairwiseDistances(NamedTuple):
    """Squared distances real-real (N, N), real-fake (N, M) and fake-fake (M, M)."""

    real: NDArray[np.floating]
    cross: NDArray[np.floating]
    fake: NDArray[np.floating]

    @classmethod
    def between(cls, real: ArrayLike, fake: ArrayLike) -> PairwiseDistances:
        """Distances of ``real`` (N, ...) and ``fake`` (M, ...). Memory: N^2 + N M + M^2 floats."""
        a, b = as_pair(real, fake)
        return cls(*(euclidean_distances(x, y, squared=True) for x, y in ((a, a), (a, b), (b, b))))

    def subset(self, real_index: NDArray[np.intp], fake_index: NDArray[np.intp]) -> PairwiseDistances:
        """The distances among those rows."""
        pairs = ((real_index, real_index), (real_index, fake_index), (fake_index, fake_index))
        return PairwiseDistances(*(block[np.ix_(i, j)] for block, (i, j) in zip(self, pairs, strict=True)))


class OneNN(NamedTuple):
    """Leave-one-out 1-NN accuracies: over both samples, over the real side, over the fake side."""

    accuracy: float
    real: float
    fake: float


def one_nn(real: ArrayLike, fake: ArrayLike) -> OneNN:
    """Leave-one-out 1-NN accuracy of telling ``real`` (N, ...) from ``fake`` (M, ...); use N = M.

    0.5: indistinguishable. Above: artefacts (both sides high) or collapse (fake side high). Below: copying of
    the real points (Lopez-Paz and Oquab 2017; Xu et al. 2018). Look at both sides: in many dimensions noise
    around the data has real nearest neighbours only, real side 1 and fake side 0, which makes 0.5 again.
    """
    return one_nn_from_distances(PairwiseDistances.between(real, fake))


def one_nn_from_distances(distances: PairwiseDistances) -> OneNN:
    """:func:`one_nn` where the distances are known."""

    def side(own: np.ndarray, other: np.ndarray) -> np.ndarray:
        others = own.copy()
        np.fill_diagonal(others, np.inf)
        nearest_own, nearest_other = others.min(axis=1), other.min(axis=1)
        # Grey levels give exact ties; a tie counts as half. Rounding in |x|^2 + |y|^2 - 2 x.y must not break one,
        # hence a tolerance, relative to the scale of the data because the distance itself may be zero.
        tie = np.isclose(nearest_own, nearest_other, rtol=0.0, atol=1e-12 * float(own.mean()))
        return np.where(tie, 0.5, nearest_own < nearest_other)

    real = side(distances.real, distances.cross)
    fake = side(distances.fake, distances.cross.T)
    return OneNN(float(np.concatenate([real, fake]).mean()), float(real.mean()), float(fake.mean()))


class PRDC(NamedTuple):
    """Precision and density (fidelity), recall and coverage (diversity)."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: ArrayLike, fake: ArrayLike, k: int = 5) -> PRDC:
    """Precision, recall, density and coverage of ``fake`` (M, D) against ``real`` (N, D) with k-NN balls.

    Precision and recall: Kynkaanniemi et al. 2019; density and coverage: Naeem et al. 2020, eq. 3 and 5, the
    ones to trust (two equal distributions give precision and recall far below 1 in high dimension, but
    density 1 and coverage near 1).
    """
    return prdc_from_distances(PairwiseDistances.between(real, fake), k)


def prdc_from_distances(distances: PairwiseDistances, k: int) -> PRDC:
    """:func:`prdc` where the distances are known."""
    if not 1 <= k < min(distances.cross.shape):
        raise ValueError(f"prdc: k must be at least 1 and below both sample counts {distances.cross.shape}, got {k}")
    # Each row holds the zero distance of a point to itself, so position k is the k-th neighbour.
    real_radius = np.partition(distances.real, k, axis=1)[:, k]
    fake_radius = np.partition(distances.fake, k, axis=1)[:, k]
    in_real_ball = distances.cross < real_radius[:, None]
    in_fake_ball = distances.cross < fake_radius[None, :]
    return PRDC(
        precision=float(in_real_ball.any(axis=0).mean()),
        recall=float(in_fake_ball.any(axis=1).mean()),
        density=float(in_real_ball.sum(axis=0).mean() / k),
        coverage=float(in_real_ball.any(axis=1).mean()),
    )


def nearest_squared_distance(points: ArrayLike, references: ArrayLike) -> NDArray[np.floating]:
    """Squared distance (M,) from each of ``points`` (M, ...) to the nearest of ``references`` (N, ...)."""
    a, b = as_rows(points, "points", 1), as_rows(references, "references", 1)
    return pairwise_distances_argmin_min(a, b, metric="sqeuclidean")[1]


def memorisation(fake: ArrayLike, test: ArrayLike, train: ArrayLike, percentile: float = 5.0) -> float:
    """Share of ``fake`` at least as near to ``train`` as the given percentile of the test-to-train distances.

    Fresh real data scores percentile / 100 by construction, copies of training samples score 1. Arrays (N,
    ...) in pixel space. Where that many test samples are themselves copies (binarised or tiny images), the
    threshold is 0 and only exact copies count.
    """
    return share_copied(nearest_squared_distance(fake, train), nearest_squared_distance(test, train), percentile)


def share_copied(
    fake_to_train: NDArray[np.floating], test_to_train: NDArray[np.floating], percentile: float = 5.0
) -> float:
    """:func:`memorisation` where the nearest distances are known."""
    return float((fake_to_train <= np.percentile(test_to_train, percentile)).mean())
