"""Estimates and their standard errors; the checks on sample arrays that every metric shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Estimate(NamedTuple):
    """A figure and its standard error, in the same unit."""

    value: float
    se: float


def as_rows(x: ArrayLike, name: str, at_least: int = 2) -> NDArray[np.floating]:
    """``x`` of shape (N, ...) as a finite (N, D) float array; float32 stays, anything else becomes float64."""
    array = np.asarray(x)
    if array.ndim == 0 or len(array) < at_least:
        raise ValueError(f"{name}: need an array of at least {at_least} samples, got shape {array.shape}")
    if array.dtype != np.float32:
        array = array.astype(np.float64)
    rows = array.reshape(len(array), -1)
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows)).any(axis=1).sum())
        raise ValueError(f"{name}: {bad} of {len(rows)} samples hold NaN or infinity")
    return rows


def as_pair(real: ArrayLike, fake: ArrayLike, at_least: int = 2) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Both samples as rows (see :func:`as_rows`) of one width."""
    real_rows, fake_rows = as_rows(real, "real", at_least), as_rows(fake, "fake", at_least)
    if real_rows.shape[1] != fake_rows.shape[1]:
        raise ValueError(
            f"real and fake must have the same number of values a sample: "
            f"got {np.shape(real)} ({real_rows.shape[1]}) and {np.shape(fake)} ({fake_rows.shape[1]})"
        )
    return real_rows, fake_rows


def mean_se(values: ArrayLike) -> Estimate:
    """Monte Carlo mean of independent draws (N,) and its standard error s / sqrt(N)."""
    draws = np.asarray(values, dtype=np.float64).ravel()
    if draws.size < 2:
        raise ValueError(f"mean_se: a standard error needs at least 2 draws, got {draws.size}")
    return Estimate(float(draws.mean()), float(draws.std(ddof=1) / np.sqrt(draws.size)))


def jackknife_se(
    statistic: Callable[[NDArray[np.intp], NDArray[np.intp]], ArrayLike],
    n_real: int,
    n_fake: int,
    groups: int = 10,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Standard error of a two-sample statistic over fresh draws of both samples, by the delete-a-group jackknife.

    ``statistic(real_index, fake_index)`` returns the figure (or an array of figures) on those rows. Each sample in turn
    is cut into ``groups`` random parts, each part left out once; with g replicates t_j a sample contributes
    (g-1)/g sum_j (t_j - mean t)^2 to the variance (Kott 2001, "The delete-a-group jackknife"). A bootstrap would be wrong
    here: its repeated rows are nearest neighbours of each other.
    """
    if groups < 2 or min(n_real, n_fake) < groups:
        raise ValueError(f"jackknife_se: need 2 <= groups <= samples, got {groups} groups of {n_real} and {n_fake}")
    rng = np.random.default_rng(seed)
    every_real, every_fake = np.arange(n_real), np.arange(n_fake)
    without_real = [np.delete(every_real, part) for part in np.array_split(rng.permutation(n_real), groups)]
    without_fake = [np.delete(every_fake, part) for part in np.array_split(rng.permutation(n_fake), groups)]
    variance = (groups - 1) * (
        np.var([statistic(kept, every_fake) for kept in without_real], axis=0)
        + np.var([statistic(every_real, kept) for kept in without_fake], axis=0)
    )
    return np.sqrt(variance)
