"""The honest set: every sample metric at once, with standard errors, against held-out real data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .distances import frechet_distance, kid, normalised_frechet
from .neighbours import (
    PairwiseDistances,
    nearest_squared_distance,
    one_nn_from_distances,
    prdc_from_distances,
)
from .statistics import as_rows, jackknife_se
from .two_sample import c2st

REFERENCE_DRAWS = 8


def evaluate_samples(
    real_test: ArrayLike,
    fake: ArrayLike,
    train: ArrayLike,
    *,
    features: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
    levels: int | None = None,
    k: int = 5,
    max_samples: int = 2000,
    seed: int = 0,
) -> dict[str, float]:
    """Compare generated images with held-out real ones; all arrays (N, ...) in [0, 1], one sample shape.

    The same number of real and generated samples is used, the smaller count and at most ``max_samples``; ``samples`` says how
    many. ``features`` maps images (N, D) to the space of FD, KID and PRDC (give ``FeatureClassifier.features``; pixels
    otherwise); 1-NN, C2ST and memorisation look at pixels. Give ``levels`` (17 for the digits, 256 for bytes) to round generated
    images to the grey levels real ones have: without it a classifier may find nothing but missing quantisation.

    Returns floats. ``fd`` with ``fd_floor`` (real training images in place of generated ones, mean of 8 draws) and
    ``fd_noise`` (uniform noise, likewise), ``nfd`` = percent of the way from floor to noise, ``kid``, ``one_nn`` with its sides
    ``one_nn_real`` and ``one_nn_fake``, ``c2st``, ``precision``, ``recall``, ``density``, ``coverage``, ``memorisation``.
    ``<key>_se`` is the standard error over fresh draws of both the generated and the held-out sample.
    """
    test, generated, trained = _images(real_test, fake, train)
    n = min(len(test), len(generated), max_samples)
    if n <= 2 * k:
        raise ValueError(f"evaluate_samples: {n} samples are too few for {k} neighbours; give at least {max(30, 4 * k)}")
    rng = np.random.default_rng(seed)
    test, generated = (x[np.sort(rng.permutation(len(x))[:n])] for x in (test, generated))
    if levels is not None:
        generated = np.round(generated * (levels - 1)) / (levels - 1)

    space = features if features is not None else _pixels
    real_f, fake_f = np.asarray(space(test), np.float64), np.asarray(space(generated), np.float64)
    floor, worst = (
        float(np.mean([frechet_distance(real_f, space(draw())) for _ in range(REFERENCE_DRAWS)]))
        for draw in (
            lambda: trained[rng.permutation(len(trained))[:n]],
            lambda: rng.integers(0, levels, test.shape) / (levels - 1) if levels else rng.random(test.shape),
        )
    )

    in_pixels, in_features = PairwiseDistances.between(test, generated), PairwiseDistances.between(real_f, fake_f)
    test_to_train, fake_to_train = (nearest_squared_distance(x, trained) for x in (test, generated))

    def figures(real_index: NDArray[np.intp], fake_index: NDArray[np.intp]) -> NDArray[np.float64]:
        neighbours = one_nn_from_distances(in_pixels.subset(real_index, fake_index))
        balls = prdc_from_distances(in_features.subset(real_index, fake_index), k)
        copied = fake_to_train[fake_index] <= np.percentile(test_to_train[real_index], 5.0)
        fd = frechet_distance(real_f[real_index], fake_f[fake_index])
        return np.array([fd, *neighbours, *balls, copied.mean()])

    names = ("fd", "one_nn", "one_nn_real", "one_nn_fake", "precision", "recall", "density", "coverage", "memorisation")
    everyone = np.arange(n)
    report = dict(zip(names, map(float, figures(everyone, everyone)), strict=True))
    errors = jackknife_se(figures, n, n, seed=seed)
    report |= {f"{name}_se": float(error) for name, error in zip(names, errors, strict=True)}
    report["nfd"] = normalised_frechet(report["fd"], floor, worst)
    report["nfd_se"] = 100.0 * report["fd_se"] / (worst - floor)
    report["kid"], report["kid_se"] = kid(real_f, fake_f)
    report["c2st"], report["c2st_se"] = c2st(test, generated, seed=seed)
    return report | {"fd_floor": floor, "fd_noise": worst, "samples": float(n)}


def _pixels(images: NDArray[np.float64]) -> NDArray[np.float64]:
    return images


def _images(real_test: ArrayLike, fake: ArrayLike, train: ArrayLike) -> list[NDArray[np.float64]]:
    """The three samples as float64 rows; real ones must lie in [0, 1], generated ones are clipped to it."""
    rows = {"real_test": as_rows(real_test, "real_test"), "fake": as_rows(fake, "fake"), "train": as_rows(train, "train")}
    if len({x.shape[1] for x in rows.values()}) > 1:
        shapes = ", ".join(f"{name} {x.shape}" for name, x in rows.items())
        raise ValueError(f"evaluate_samples: the samples differ in size: {shapes}")
    for name in ("real_test", "train"):
        low, high = rows[name].min(), rows[name].max()
        if low < 0.0 or high > 1.0:
            raise ValueError(f"evaluate_samples: {name} must lie in [0, 1], its values span {low:.4g}..{high:.4g}")
    return [np.clip(x.astype(np.float64), 0.0, 1.0) for x in rows.values()]
