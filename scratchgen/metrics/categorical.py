"""Likelihood baselines for grey levels: independent categorical pixels and mixtures of them by EM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.special import logsumexp, softmax


@dataclass(frozen=True)
class CategoricalMixture:
    """p(x) = sum_k w_k prod_j p_kj(x_j); ``weights`` (K,), ``probabilities`` (K, D, levels)."""

    weights: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        x: ArrayLike,
        components: int,
        levels: int,
        iterations: int = 60,
        smoothing: float = 0.6,
        seed: int = 0,
    ) -> CategoricalMixture:
        """EM on integer ``x`` (N, ...) in 0..levels-1.

        Each pixel of each component gets ``smoothing * levels`` counts of prior, spread as that pixel's
        marginal: without it a component gives probability 0 to every level it has not seen. Starts at random,
        sharp responsibilities. Memory: about 12 N D bytes and 8 K D levels; give a random 10,000 of
        MNIST-sized images.
        """
        pixels = _levels(x, levels)
        n, d = pixels.shape
        if not 1 <= components <= n:
            raise ValueError(f"CategoricalMixture.fit: components must be between 1 and {n} samples, got {components}")
        one_hot = _one_hot(pixels, levels)
        marginal = (one_hot.sum(axis=0) / n + 1e-3).reshape(d, levels)
        prior = smoothing * levels * marginal / marginal.sum(axis=1, keepdims=True)
        # The eighth power makes random responsibilities peaked: even ones are a saddle point of the likelihood.
        responsibility = np.random.default_rng(seed).random((n, components)) ** 8
        responsibility /= responsibility.sum(axis=1, keepdims=True)
        for _ in range(iterations):
            mass = responsibility.sum(axis=0)
            counts = (one_hot.T @ responsibility).T.reshape(components, d, levels) + prior
            model = cls((mass + 0.5) / (n + 0.5 * components), counts / counts.sum(axis=2, keepdims=True))
            responsibility = softmax(model._log_joint(one_hot), axis=1)
        return model

    def _log_joint(self, one_hot: csr_array) -> NDArray[np.float64]:
        return one_hot @ np.log(self.probabilities).reshape(len(self.weights), -1).T + np.log(self.weights)

    def log_prob(self, x: ArrayLike) -> NDArray[np.float64]:
        """Log-probability in nats (N,) of integer ``x`` (N, ...)."""
        levels = self.probabilities.shape[2]
        return logsumexp(self._log_joint(_one_hot(_levels(x, levels), levels)), axis=1)

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """``n`` draws (n, D) of integer levels, by inversion of each pixel's distribution function."""
        component = rng.choice(len(self.weights), n, p=self.weights)
        cumulative = self.probabilities.cumsum(axis=2)
        cumulative[:, :, -1] = 1.0
        u = rng.random((n, self.probabilities.shape[1]))
        x = np.empty(u.shape, np.int64)
        for i, k in enumerate(component):  # one sample at a time: (n, D, levels) at once can fill the memory
            x[i] = (cumulative[k] <= u[i, :, None]).sum(axis=1)
        return x


def independent_categorical(x: ArrayLike, levels: int, smoothing: float = 0.5) -> CategoricalMixture:
    """Independent pixels of integer ``x`` (N, ...) in 0..levels-1; ``smoothing`` added to every count."""
    pixels = _levels(x, levels)
    counts = _one_hot(pixels, levels).sum(axis=0).reshape(1, pixels.shape[1], levels) + smoothing
    return CategoricalMixture(np.ones(1), counts / counts.sum(axis=2, keepdims=True))


def _levels(x: ArrayLike, levels: int) -> NDArray[np.int64]:
    array = np.asarray(x)
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"a categorical model needs samples (N, ...), got shape {array.shape}")
    pixels = array.reshape(len(array), -1).astype(np.int64)
    if (pixels != array.reshape(len(array), -1)).any() or pixels.min() < 0 or pixels.max() >= levels:
        raise ValueError(
            f"a categorical model needs integers in 0..{levels - 1}, "
            f"got {array.dtype} values in {array.min()}..{array.max()}"
        )
    return pixels


def _one_hot(pixels: NDArray[np.int64], levels: int) -> csr_array:
    """(N, D * levels) with a one at each pixel's level; sparse, for MNIST would need 96 GB dense."""
    n, d = pixels.shape
    columns = (pixels + levels * np.arange(d)).astype(np.int32)
    starts = np.arange(0, n * d + 1, d)
    return csr_array((np.ones(n * d), columns.ravel(), starts), shape=(n, d * levels))
