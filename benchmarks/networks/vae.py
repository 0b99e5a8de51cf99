"""The dense variational autoencoder of Kingma and Welling 2013: 784-400-40, Bernoulli pixels, Adam."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..library import Library
from .step import Training, normal

BATCH, PIXELS, HIDDEN, LATENT = 128, 784, 400, 40


def vae(L: Library) -> Training:
    """Encoder and decoder with one hidden layer each."""
    nn, F = L.nn, L.F

    class Hidden(nn.Module):  # type: ignore[name-defined,misc]  # mypy: the library is known at run time
        def __init__(self, before: int) -> None:
            super().__init__()
            self.linear = nn.Linear(before, HIDDEN)

        def forward(self, x: Any) -> Any:
            return L.linear_relu(x, self.linear.weight, self.linear.bias)

    encoder = L.prepared(Hidden(PIXELS))
    mean, log_variance = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)
    decoder = L.prepared(nn.Sequential(Hidden(LATENT), nn.Linear(HIDDEN, PIXELS)))
    network = nn.ModuleList([encoder, mean, log_variance, decoder])
    optimizer = L.adam(network.parameters(), lr=1e-3)

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        pixels = (rng.random((BATCH, PIXELS), np.float32) < 0.3).astype(np.float32)
        return pixels, normal(rng, BATCH, LATENT)

    def step(x: Any, eps: Any) -> Any:
        h = encoder(x)
        mu, logvar = mean(h), log_variance(h)
        z = mu + L.exp(0.5 * logvar) * eps
        reconstruction = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        divergence = 0.5 * (mu**2 + L.exp(logvar) - logvar - 1).sum()
        loss = (reconstruction + divergence) / BATCH
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return Training({"network": network}, draw, step)
