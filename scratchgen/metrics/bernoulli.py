"""Likelihood baselines for binary pixels: independent Bernoullis and mixtures of them by EM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, softmax

from .statistics import as_rows


@dataclass(frozen=True)
class BernoulliMixture:
    """p(x) = sum_k w_k prod_j p_kj^x_j (1 - p_kj)^(1 - x_j); ``weights`` (K,), ``probabilities`` (K, D)."""

    weights: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    @classmethod
    def fit(
        cls, x: ArrayLike, components: int, iterations: int = 100, smoothing: float = 0.5, seed: int = 0
    ) -> BernoulliMixture:
        """EM on binary ``x`` (N, ...), float64; ``smoothing`` counts a pixel and side, one a component.

        Starts at ``components`` random training samples pulled halfway to grey, with a little noise to
        separate equal ones. Cost: 4 N D K multiply-adds an iteration; a random 20,000 samples are enough for
        a baseline on MNIST-sized data.
        """
        data = _binary(x)
        n, d = data.shape
        if not 1 <= components <= n:
            raise ValueError(f"BernoulliMixture.fit: components must be between 1 and {n} samples, got {components}")
        rng = np.random.default_rng(seed)
        start = data[rng.choice(n, components, replace=False)]
        probabilities = np.clip(0.5 * start + 0.25 + 0.1 * rng.standard_normal((components, d)), 0.05, 0.95)
        model = cls(np.full(components, 1.0 / components), probabilities)
        for _ in range(iterations):
            responsibility = softmax(model._log_joint(data), axis=1)
            mass = responsibility.sum(axis=0)
            model = cls(
                (mass + 1.0) / (n + components),
                (responsibility.T @ data + smoothing) / (mass[:, None] + 2.0 * smoothing),
            )
        return model

    def _log_joint(self, data: NDArray[np.float64]) -> NDArray[np.float64]:
        log_one, log_zero = np.log(self.probabilities), np.log1p(-self.probabilities)
        return data @ (log_one - log_zero).T + log_zero.sum(axis=1) + np.log(self.weights)

    def log_prob(self, x: ArrayLike) -> NDArray[np.float64]:
        """Log-probability in nats (N,) of binary ``x`` (N, ...)."""
        return logsumexp(self._log_joint(_binary(x)), axis=1)

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """``n`` draws (n, D) of zeros and ones."""
        component = rng.choice(len(self.weights), n, p=self.weights)
        return (rng.random((n, self.probabilities.shape[1])) < self.probabilities[component]).astype(np.float64)


def independent_bernoulli(x: ArrayLike, smoothing: float = 0.5) -> BernoulliMixture:
    """Independent pixels: the mixture with one component, which needs no EM."""
    data = _binary(x)
    p = (data.sum(axis=0) + smoothing) / (len(data) + 2.0 * smoothing)
    return BernoulliMixture(np.ones(1), p[None])


def _binary(x: ArrayLike) -> NDArray[np.float64]:
    data = as_rows(x, "x", 1).astype(np.float64)
    if not ((data == 0.0) | (data == 1.0)).all():
        raise ValueError("a Bernoulli model needs zeros and ones; binarise first, for example (x >= 0.5)")
    return data
