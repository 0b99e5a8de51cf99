"""DCGAN (Radford et al. 2016) for 28x28 digits: an update of the discriminator and one of the generator."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..library import Library
from .step import Training, normal

BATCH, LATENT, WIDTH = 64, 100, 64


def dcgan(L: Library) -> Training:
    """Convolutions 4x4 of stride 2, batch norm, the objective that does not saturate, Adam with beta1 = 0.5."""
    nn, F = L.nn, L.F
    generator = L.prepared(
        nn.Sequential(
            nn.ConvTranspose2d(LATENT, 2 * WIDTH, 7, bias=False),  # 7x7
            nn.BatchNorm2d(2 * WIDTH),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, stride=2, padding=1, bias=False),  # 14x14
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.ConvTranspose2d(WIDTH, 1, 4, stride=2, padding=1),  # 28x28
            nn.Tanh(),
        )
    )
    discriminator = L.prepared(
        nn.Sequential(
            nn.Conv2d(1, WIDTH, 4, stride=2, padding=1),  # 14x14
            nn.LeakyReLU(0.2),
            nn.Conv2d(WIDTH, 2 * WIDTH, 4, stride=2, padding=1, bias=False),  # 7x7
            nn.BatchNorm2d(2 * WIDTH),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * WIDTH, 1, 7),
            nn.Flatten(0),
        )
    )
    of_generator = L.adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    of_discriminator = L.adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    one, zero = L.tensor(np.ones(BATCH, np.float32)), L.tensor(np.zeros(BATCH, np.float32))

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        return np.tanh(normal(rng, BATCH, 1, 28, 28)), normal(rng, BATCH, LATENT, 1, 1)

    def step(real: Any, z: Any) -> Any:
        fake = generator(z)
        of_discriminator.zero_grad()
        judged_real = F.binary_cross_entropy_with_logits(discriminator(real), one)
        judged_fake = F.binary_cross_entropy_with_logits(discriminator(fake.detach()), zero)
        loss = judged_real + judged_fake
        loss.backward()
        of_discriminator.step()

        of_generator.zero_grad()
        F.binary_cross_entropy_with_logits(discriminator(fake), one).backward()
        of_generator.step()
        return loss

    return Training({"generator": generator, "discriminator": discriminator}, draw, step)
