"""The honest set: every sample metric at once, with standard errors, against held-out real data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .distances import frechet_distance, frechet_distance_se, kid, normalised_frechet
from .neighbours import (
    PRDC,
    PairwiseDistances,
    nearest_squared_distance,
    one_nn_from_distances,
    prdc_from_distances,
    share_copied,
)
from .statistics import as_rows, half_sample_se
from .two_sample import c2st

REFERENCE_DRAWS = 20


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

    The same number of real and generated samples is used, the smaller count and at most ``max_samples``;
    ``samples`` says how many. ``features`` maps images (N, D) to the space of FD, KID and PRDC (give
    ``FeatureClassifier.features``; by default pixels, for small images only); 1-NN, C2ST and memorisation
    look at pixels. Give ``levels`` (17 for the digits, 256 for bytes) to round generated images to the grey
    levels real ones have: without it a classifier may find nothing but missing quantisation.

    Returns floats. ``fd`` with ``fd_floor`` (real training images in place of generated ones, mean of 20
    draws) and ``fd_noise`` (uniform noise, likewise), ``nfd`` = percent of the way from floor to noise,
    ``kid``, ``one_nn`` with its sides ``one_nn_real`` and ``one_nn_fake``, ``c2st``, ``precision``,
    ``recall``, ``density``, ``coverage``, ``memorisation``. ``<key>_se`` is the standard error over fresh
    draws of both the generated and the held-out sample.
    """
    test, generated, trained = _images(real_test, fake, train)
    n = min(len(test), len(generated), max_samples)
    if n <= 2 * k:  # the errors come from halves, which need k neighbours too
        raise ValueError(f"evaluate_samples: {n} samples are too few for {k} neighbours; give more than {2 * k}")
    rng = np.random.default_rng(seed)
    test, generated = (x[np.sort(rng.choice(len(x), n, replace=False))] for x in (test, generated))
    if levels is not None:
        generated = np.round(generated * (levels - 1)) / (levels - 1)
    space = features if features is not None else _pixels
    real_f, fake_f = space(test), space(generated)

    def reference(draw: Callable[[], NDArray[np.float64]]) -> float:
        return float(np.mean([frechet_distance(real_f, space(draw())) for _ in range(REFERENCE_DRAWS)]))

    floor = reference(lambda: trained[rng.permutation(len(trained))[:n]])
    noise = reference(lambda: _noise(rng, test.shape, levels))
    report = _neighbour_figures(test, generated, trained, real_f, fake_f, k, seed)
    report["fd"] = frechet_distance(real_f, fake_f)
    report["fd_se"] = frechet_distance_se(real_f, fake_f, seed=seed)
    report["nfd"] = normalised_frechet(report["fd"], floor, noise)
    report["nfd_se"] = 100.0 * report["fd_se"] / (noise - floor)
    report["kid"], report["kid_se"] = kid(real_f, fake_f)
    report["c2st"], report["c2st_se"] = c2st(test, generated, seed=seed)
    return report | {"fd_floor": floor, "fd_noise": noise, "samples": float(n)}


def _neighbour_figures(
    test: NDArray[np.float64],
    generated: NDArray[np.float64],
    trained: NDArray[np.float64],
    real_f: NDArray[np.float64],
    fake_f: NDArray[np.float64],
    k: int,
    seed: int,
) -> dict[str, float]:
    """1-NN, PRDC and memorisation with their errors, from distances computed once."""
    in_pixels = PairwiseDistances.between(test, generated)
    in_features = PairwiseDistances.between(real_f, fake_f)
    test_to_train, fake_to_train = (nearest_squared_distance(x, trained) for x in (test, generated))

    def figures(real_rows: NDArray[np.intp], fake_rows: NDArray[np.intp]) -> NDArray[np.float64]:
        neighbours = one_nn_from_distances(in_pixels.subset(real_rows, fake_rows))
        balls = prdc_from_distances(in_features.subset(real_rows, fake_rows), k)
        return np.array([*neighbours, *balls, share_copied(fake_to_train[fake_rows], test_to_train[real_rows])])

    names = ("one_nn", "one_nn_real", "one_nn_fake", *PRDC._fields, "memorisation")
    values = figures(np.arange(len(test)), np.arange(len(generated)))
    errors = half_sample_se(figures, len(test), len(generated), seed=seed)
    report = dict(zip(names, map(float, values), strict=True))
    return report | {f"{name}_se": float(error) for name, error in zip(names, errors, strict=True)}


def _noise(rng: np.random.Generator, shape: tuple[int, ...], levels: int | None) -> NDArray[np.float64]:
    return rng.random(shape) if levels is None else rng.integers(0, levels, shape) / (levels - 1)


def _pixels(images: NDArray[np.float64]) -> NDArray[np.float64]:
    return images


def _images(real_test: ArrayLike, fake: ArrayLike, train: ArrayLike) -> list[NDArray[np.float64]]:
    """The three samples as float64 rows; real ones must lie in [0, 1], generated ones are clipped to it."""
    given = {"real_test": real_test, "fake": fake, "train": train}
    rows = {name: as_rows(x, name).astype(np.float64, copy=False) for name, x in given.items()}
    if len({x.shape[1] for x in rows.values()}) > 1:
        shapes = ", ".join(f"{name} {np.shape(x)}" for name, x in given.items())
        raise ValueError(f"evaluate_samples: the samples differ in size: {shapes}")
    for name in ("real_test", "train"):
        low, high = rows[name].min(), rows[name].max()
        if low < 0.0 or high > 1.0:
            raise ValueError(f"evaluate_samples: {name} must lie in [0, 1], but spans {low:.4g}..{high:.4g}")
    return [rows["real_test"], np.clip(rows["fake"], 0.0, 1.0), rows["train"]]
