"""DCGAN (Radford et al. 2016) for 28x28 digits: an update of the discriminator and one of the generator."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..library import Library
from .step import Training, normal

BATCH, LATENT, WIDTH = 64, 100, 64


def dcgan(L: Library) -> Training:
    """Convolutions 4x4 of stride 2, batch norm, the objective that does not saturate, Adam with beta1 = 0.5."""
    F = L.F
    generator, discriminator = L.prepared(_generator(L)), L.prepared(_discriminator(L))
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


def _generator(L: Library) -> Any:
    nn = L.nn

    class Generator(nn.Module):  # type: ignore[name-defined,misc]  # mypy: the library is known at run time
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.ConvTranspose2d(LATENT, 2 * WIDTH, 7, bias=False)  # 7x7
            self.norm1 = nn.BatchNorm2d(2 * WIDTH)
            self.second = nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, stride=2, padding=1, bias=False)  # 14x14
            self.norm2 = nn.BatchNorm2d(WIDTH)
            self.last = nn.ConvTranspose2d(WIDTH, 1, 4, stride=2, padding=1)  # 28x28

        def forward(self, z: Any) -> Any:
            h = L.batch_norm_relu(self.norm1, self.first(z))
            h = L.batch_norm_relu(self.norm2, self.second(h))
            return L.tanh(self.last(h))

    return Generator()


def _discriminator(L: Library) -> Any:
    nn, F = L.nn, L.F

    class Discriminator(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, WIDTH, 4, stride=2, padding=1)  # 14x14
            self.second = nn.Conv2d(WIDTH, 2 * WIDTH, 4, stride=2, padding=1, bias=False)  # 7x7
            self.norm = nn.BatchNorm2d(2 * WIDTH)
            self.last = nn.Conv2d(2 * WIDTH, 1, 7)

        def forward(self, x: Any) -> Any:
            h = F.leaky_relu(self.first(x), 0.2)
            h = L.batch_norm_relu(self.norm, self.second(h), 0.2)
            return self.last(h).flatten()

    return Discriminator()
