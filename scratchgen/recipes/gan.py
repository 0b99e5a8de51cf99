"""Training the GAN: losses, stabilisers, presets. The model is in ``scratchgen.models.gan``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import scratchgen as sg
from scratchgen import Tensor, nn
from scratchgen.models.gan import (
    ImageDiscriminator,
    dcgan_weights,
    discriminator_loss,
    generator_loss,
    mlp,
    pack,
)

from .adversarial import AdversarialConfig, AdversarialRecipe
from .base import setting


@dataclass(frozen=True)
class GANConfig(AdversarialConfig):
    """Settings of the GAN."""

    loss: Literal["non-saturating", "minimax", "least-squares", "hinge"] = setting("non-saturating", "the game's form")
    smooth: float = setting(0.0, "one-sided label smoothing: real samples' target is 1 minus this")
    instance_noise: float = setting(0.0, "standard deviation of noise on all that the discriminator sees")
    norm: Literal["none", "batch", "layer", "instance", "spectral"] = setting("batch", "of the discriminator")
    gain: float = setting(1.0, "factor of the discriminator's logits; with norm=spectral its Lipschitz bound")
    hidden: int = setting(0, "images: units of a dense layer on both networks' narrow side, as InfoGAN has; 0: none")
    packed: int = setting(1, "samples that the discriminator judges together (PacGAN)")


_POINTS: dict[str, Any] = {"latent": 2, "width": 128, "depth": 3, "batch_size": 256, "norm": "none"}


class GANRecipe(AdversarialRecipe):
    """Generative adversarial network."""

    name: ClassVar[str] = "gan"
    paper: ClassVar[str] = "Goodfellow et al. 2014, Generative Adversarial Networks; Radford et al. 2016 (DCGAN)"
    default_data: ClassVar[str] = "mnist-5k"
    presets: ClassVar[Mapping[str, Mapping[str, GANConfig]]] = {
        "tiny": {
            "ring8": GANConfig(steps=10_000, learning_rate=1e-3, packed=4, beta2=0.9, **_POINTS),
            # A larger gain makes sharper modes, less even shares, and at 300 fewer modes.
            "grid25": GANConfig(
                steps=2000,
                learning_rate=1e-3,
                loss="hinge",
                gain=50.0,
                opponent_steps=3,
                beta2=0.9,
                **_POINTS | {"norm": "spectral"},
            ),
            "moons": GANConfig(steps=10_000, learning_rate=1e-3, packed=2, beta2=0.9, **_POINTS),
            "rings": GANConfig(steps=10_000, learning_rate=1e-3, packed=2, beta2=0.9, **_POINTS),
            "digits": GANConfig(steps=6000, batch_size=64, learning_rate=1e-3, width=48, dequantise=True),
            "*": GANConfig(steps=4000, batch_size=64, learning_rate=5e-4, width=32, hidden=512),
            "stacked-digits": GANConfig(
                steps=1500, batch_size=64, learning_rate=1e-3, width=48, packed=2, dequantise=True
            ),
        },
        # Radford et al.: latent 100, Adam 2e-4 with beta1 0.5, batch 128, no decay of the rate.
        "full": {
            "*": GANConfig(
                steps=23_000, batch_size=128, latent=100, width=64, learning_rate=2e-4, decay_rates=False
            ),
        },
        # The plain game on points: what mode collapse looks like.
        "collapse": {"*": GANConfig(steps=10_000, learning_rate=1e-3, decay_rates=False, average=0.0, **_POINTS)},
    }
    expected: ClassVar[str] = (
        "tiny on mnist: nfd 0.22 %, rarest class at 0.82 of its share; ring8: 8 of 8 modes, reverse KL 0.002; "
        "grid25: 25 of 25; stacked-digits: 996 of 1000; collapse on grid25: 14 of 25"
    )

    config: GANConfig

    def build(self) -> tuple[nn.Module, nn.Module]:
        config, generator = self.config, self.make_generator(self.config.hidden)
        spectral = config.norm == "spectral"
        hidden = [config.width] * config.depth
        if not self.is_image:
            return generator, mlp((2 * config.packed, *hidden, 1), spectral=spectral)
        shape = self.dataset.shape
        if config.network == "mlp":
            pixels = config.packed * math.prod(shape)
            body = mlp((pixels, *hidden, 1), lambda: nn.LeakyReLU(0.2), spectral)
            return generator, nn.Sequential(nn.Flatten(), *body)
        discriminator = ImageDiscriminator(shape, config.width, config.norm, config.packed, config.hidden)
        for network in (generator, discriminator):
            dcgan_weights(network)
        return generator, discriminator

    def _logits(self, x: Tensor) -> Tensor:
        """D's logits, of noisy samples in packs. Real and generated ones come in batches of their own."""
        if self.config.instance_noise:
            x = x + self.config.instance_noise * sg.randn(x.shape, generator=self.generator, device=self.device)
        return self.config.gain * self.opponent(pack(x, self.config.packed))

    def opponent_loss(self, real: Tensor, fake: Tensor, label: Tensor) -> tuple[Tensor, dict[str, float]]:
        on_real, on_fake = self._logits(real), self._logits(fake)
        loss = discriminator_loss(self.config.loss, on_real, on_fake, self.config.smooth)
        right = ((on_real > 0).float().mean() + (on_fake <= 0).float().mean()) / 2
        return loss, {
            "d_loss": loss.item(),
            "D(x)": sg.sigmoid(on_real).mean().item(),
            "D(G(z))": sg.sigmoid(on_fake).mean().item(),
            "accuracy": right.item(),
        }

    def generator_loss(self, fake: Tensor, label: Tensor) -> tuple[Tensor, dict[str, float]]:
        loss = generator_loss(self.config.loss, self._logits(fake))
        return loss, {"g_loss": loss.item()}
