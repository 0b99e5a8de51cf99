"""Gaussian baselines: mixtures on dequantised pixels, PCA reconstruction, probabilistic PCA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.mixture import GaussianMixture

from .fitting import fit_quietly
from .likelihood import bits_per_dim
from .statistics import Estimate, as_rows, mean_se


@dataclass(frozen=True)
class DequantisedMixture:
    """A mixture of Gaussians over grey levels 0..levels-1 plus uniform noise on [0, 1).

    Its mean log-density at dequantised pixels, in units of one level, is a lower bound on the discrete
    log-likelihood (Theis et al. 2016, sec. 3.1). One full component is the "one Gaussian" baseline.
    """

    mixture: GaussianMixture
    levels: int

    @classmethod
    def fit(
        cls,
        x: ArrayLike,
        components: int,
        levels: int,
        covariance: str = "full",
        regularisation: float = 1e-3,
        copies: int = 5,
        seed: int = 0,
    ) -> DequantisedMixture:
        """EM from k-means on ``copies`` dequantisations of integer ``x`` (N, ...).

        ``covariance`` is "full" or "diag"; ``regularisation``, in squared levels, is added to every variance
        and is the one figure to choose on validation data.
        """
        pixels = as_rows(x, "x").astype(np.float64)
        rng = np.random.default_rng(seed)
        data = np.concatenate([pixels + rng.random(pixels.shape) for _ in range(copies)])
        mixture = GaussianMixture(components, covariance_type=covariance, reg_covar=regularisation, random_state=seed)
        return cls(fit_quietly(mixture, data), levels)

    def bits_per_dim(self, x: ArrayLike, copies: int = 5, seed: int = 1) -> Estimate:
        """Bits a dimension of integer ``x`` (N, ...), with the standard error over the samples."""
        pixels = as_rows(x, "x").astype(np.float64)
        rng = np.random.default_rng(seed)
        nats = -np.mean([self.mixture.score_samples(pixels + rng.random(pixels.shape)) for _ in range(copies)], axis=0)
        mean, se = mean_se(nats)
        return Estimate(bits_per_dim(mean, pixels.shape[1]), bits_per_dim(se, pixels.shape[1]))

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """``n`` draws (n, D), rounded down to grey levels 0..levels-1."""
        mixture = self.mixture
        component = rng.choice(mixture.n_components, n, p=mixture.weights_)
        noise = rng.standard_normal((n, mixture.means_.shape[1]))
        if mixture.covariance_type == "diag":
            draws = mixture.means_[component] + noise * np.sqrt(mixture.covariances_[component])
        else:
            roots = np.linalg.cholesky(mixture.covariances_)
            draws = mixture.means_[component] + np.einsum("nij,nj->ni", roots[component], noise)
        return np.clip(np.floor(draws), 0, self.levels - 1)


def _principal_axes(
    x: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean (D,), variances (D,) in falling order (dividing by N), orthonormal axes (D, D) in columns."""
    data = x.astype(np.float64)
    mean = data.mean(axis=0)
    data -= mean
    variances, axes = np.linalg.eigh(data.T @ data / len(data))
    return mean, np.maximum(variances[::-1], 0.0), axes[:, ::-1]


def pca_reconstruction_mse(train: ArrayLike, test: ArrayLike, dims: Sequence[int]) -> dict[int, float]:
    """Mean squared error a value of ``test`` (M, ...) rebuilt from the principal components of ``train``.

    For each number of components in ``dims``: what a linear autoencoder with d latents reaches at best (Baldi
    and Hornik 1989).
    """
    fit, held_out = as_rows(train, "train"), as_rows(test, "test", 1).astype(np.float64)
    width = fit.shape[1]
    if held_out.shape[1] != width or not all(0 <= d <= width for d in dims):
        raise ValueError(
            f"pca_reconstruction_mse: train {fit.shape}, test {held_out.shape}, dims {tuple(dims)} do not fit"
        )
    mean, _, axes = _principal_axes(fit)
    # The axes are orthonormal: the squared error is the energy in the components that were dropped.
    energy = (((held_out - mean) @ axes) ** 2).mean(axis=0)
    return {d: float(energy[d:].sum() / width) for d in dims}


@dataclass(frozen=True)
class ProbabilisticPCA:
    """x = mean + W z + noise, z ~ N(0, I_d), noise ~ N(0, noise_variance I_D), at its maximum likelihood.

    Closed form of Tipping and Bishop 1999: W W' + noise_variance I keeps the first d eigenvalues of the
    sample covariance and replaces the others by their mean. ``axes`` (D, d) orthonormal, ``variances`` (d,)
    along them (noise included). The ELBO of a linear VAE at its optimum equals this likelihood (Lucas et al.
    2019).
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    variances: NDArray[np.float64]
    noise_variance: float

    @classmethod
    def fit(cls, x: ArrayLike, dims: int) -> ProbabilisticPCA:
        """From ``x`` (N, ...) with ``dims`` latents, 0 <= dims < D."""
        data = as_rows(x, "x")
        width = data.shape[1]
        if not 0 <= dims < width:
            raise ValueError(
                f"ProbabilisticPCA.fit: dims must be between 0 and {width - 1} for {width} values, got {dims}"
            )
        mean, variances, axes = _principal_axes(data)
        noise = float(variances[dims:].mean())
        if noise <= 1e-12 * variances[0]:
            raise ValueError(
                f"ProbabilisticPCA.fit: the data lie in {dims} dimensions, so the noise variance is 0 and "
                "the likelihood unbounded; use fewer dims or more varied data"
            )
        return cls(mean, axes[:, :dims], variances[:dims], noise)

    def log_prob(self, x: ArrayLike) -> NDArray[np.float64]:
        """Log-density in nats (N,) of ``x`` (N, ...)."""
        centred = as_rows(x, "x", 1).astype(np.float64) - self.mean
        latent = centred @ self.axes
        width, dims = self.axes.shape
        log_det = np.log(self.variances).sum() + (width - dims) * np.log(self.noise_variance)
        outside = ((centred**2).sum(axis=1) - (latent**2).sum(axis=1)) / self.noise_variance
        return -0.5 * (width * np.log(2 * np.pi) + log_det + outside + (latent**2 / self.variances).sum(axis=1))
