"""Generative adversarial networks: the game, its losses, and networks for points and images.

Goodfellow et al. 2014, "Generative Adversarial Networks" (arXiv:1406.2661). A generator G makes samples from noise
z ~ N(0, I); a discriminator D tells them from data; each is trained against the other:

    min_G max_D  E_x [log D(x)] + E_z [log(1 - D(G(z)))]                                                     (1)

For a fixed G the best D is p(x) / (p(x) + q(x)), with q the density of G's samples (proposition 1). Discriminators
here put out the logit of D, so no logarithm ever sees a saturated sigmoid.

Images are (N, C, H, W) in [-1, 1], points (N, 2), logits (N,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import scratchgen as sg
from scratchgen import Generator, Tensor, nn
from scratchgen.nn import functional as F

from .blocks import dense_layers, halved

Loss = Literal["non-saturating", "minimax", "least-squares", "hinge"]
Norm = Literal["none", "batch", "layer", "instance", "spectral"]


# --- losses


def discriminator_loss(kind: Loss, real: Tensor, fake: Tensor, smooth: float = 0.0) -> Tensor:
    """What D minimises, a scalar, from its logits on real and generated samples.

    ``non-saturating`` and ``minimax``: the cross-entropy of (1); ``smooth`` moves the target of real samples, and of
    those only, from 1 to 1 - smooth (Salimans et al. 2016, section 3.4). ``least-squares``: Mao et al. 2017, eq. 9.
    ``hinge``: Lim and Ye 2017.
    """
    if kind == "least-squares":
        return 0.5 * ((real - (1 - smooth)) ** 2).mean() + 0.5 * (fake**2).mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    target = sg.full_like(real, 1 - smooth)
    return F.binary_cross_entropy_with_logits(real, target) + F.softplus(fake).mean()


def generator_loss(kind: Loss, fake: Tensor) -> Tensor:
    """What G minimises, a scalar, from D's logits on generated samples.

    ``non-saturating``: -log D(G(z)) in place of log(1 - D(G(z))), ``minimax``, whose gradient dies while D wins
    (section 3 of the paper).
    """
    if kind == "minimax":
        return -F.softplus(fake).mean()
    if kind == "least-squares":
        return 0.5 * ((fake - 1) ** 2).mean()
    if kind == "hinge":
        return -fake.mean()
    return F.softplus(-fake).mean()


def pack(x: Tensor, count: int) -> Tensor:
    """Groups of ``count`` samples joined along dimension 1: (N, C, ...) to (N / count, count C, ...).

    A discriminator that sees several samples at once sees their diversity, so that collapse does not pay (PacGAN, Lin
    et al. 2018).
    """
    if count == 1:
        return x
    if len(x) % count:
        raise ValueError(f"pack: {len(x)} samples do not make groups of {count}")
    return x.reshape(len(x) // count, count * x.shape[1], *x.shape[2:])


# --- networks for points


def mlp(widths: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU, spectral: bool = False) -> nn.Sequential:
    """Fully connected layers from ``widths[0]`` to ``widths[-1]`` numbers, He's initial weights, linear at the end."""
    layers = dense_layers(widths[:-1], activation)
    layers.append(nn.Linear(widths[-2], widths[-1]))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            if spectral:
                nn.utils.spectral_norm(layer)
    if widths[-1] == 1:
        layers.append(nn.Flatten(0))
    return nn.Sequential(*layers)


# --- networks for images


class ImageGenerator(nn.Module):
    """DCGAN's generator (Radford et al. 2016): noise to an image in [-1, 1], by transposed convolutions only.

    z becomes ``H/4 W/4``-sized features ``2 width`` wide, and each of two transposed 4x4 convolutions of stride 2
    doubles them. Batch norm and ReLU after all but the last, whose tanh bounds the pixels. ``hidden``: units of a dense
    layer before the first, which lets distant parts of an image agree (InfoGAN's networks for MNIST, Chen et al. 2016,
    appendix C.1); 0: none.
    """

    def __init__(self, shape: Sequence[int], latent: int, width: int, hidden: int = 0) -> None:
        super().__init__()
        base = halved(shape, 2, "ImageGenerator")
        self.latent = latent
        dense = [nn.Linear(latent, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()] if hidden else []
        self.layers = nn.Sequential(
            *dense,
            nn.Unflatten(1, (hidden or latent, 1, 1)),
            nn.ConvTranspose2d(hidden or latent, 2 * width, base, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, shape[0], 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class ImageFeatures(nn.Module):
    """The body of a discriminator or critic: an image to ``2 width`` features of a quarter of its size, flattened.

    ``norm``: after the second convolution; ``spectral`` divides the weights instead. A critic with a gradient penalty
    must not have batch norm, which makes a sample's output depend on the others.
    """

    def __init__(self, shape: Sequence[int], width: int, norm: Norm = "batch") -> None:
        super().__init__()
        inner = halved(shape, 2, "ImageFeatures")
        first = nn.Conv2d(shape[0], width, 4, stride=2, padding=1)
        second = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=norm != "batch")
        if norm == "spectral":
            nn.utils.spectral_norm(first)
            nn.utils.spectral_norm(second)
        between: dict[str, Callable[[], nn.Module]] = {
            "batch": lambda: nn.BatchNorm2d(2 * width),
            "layer": lambda: nn.GroupNorm(1, 2 * width),
            "instance": lambda: nn.InstanceNorm2d(2 * width, affine=True),
        }
        normed = [between[norm]()] if norm in between else []
        self.features = 2 * width * math.prod(inner)
        self.layers = nn.Sequential(
            first, nn.LeakyReLU(0.2), second, *normed, nn.LeakyReLU(0.2), nn.Flatten()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ImageDiscriminator(nn.Module):
    """DCGAN's discriminator: strided convolutions with LeakyReLU(0.2), one logit for an image (or for a pack).

    A logit that is linear in the features adds up what is seen of small windows; ``hidden`` units of a dense layer
    between them see whole images, as InfoGAN's discriminator for MNIST does. 0: none.
    """

    def __init__(
        self, shape: Sequence[int], width: int, norm: Norm = "batch", packed: int = 1, hidden: int = 0
    ) -> None:
        super().__init__()
        self.body = ImageFeatures((packed * shape[0], *shape[1:]), width, norm)
        layers: list[nn.Module] = []
        if hidden:
            layers.append(nn.Linear(self.body.features, hidden, bias=norm != "batch"))
            layers += [nn.BatchNorm1d(hidden)] if norm == "batch" else []
            layers += [nn.LayerNorm(hidden)] if norm == "layer" else []
            layers.append(nn.LeakyReLU(0.2))
        layers.append(nn.Linear(hidden or self.body.features, 1))
        if norm == "spectral":
            for layer in layers:
                if isinstance(layer, nn.Linear):
                    nn.utils.spectral_norm(layer)
        self.head = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)).flatten(0)


def dcgan_weights(model: nn.Module) -> None:
    """DCGAN's initial weights, in place: N(0, 0.02) for convolutions and dense layers, N(1, 0.02) for norms' gains."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            weight = getattr(module, "weight_orig", module.weight)
            nn.init.normal_(weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert module.weight is not None
            assert module.bias is not None
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


def noise(count: int, latent: int, generator: Generator, like: Tensor) -> Tensor:
    """``count`` draws (count, latent) of z ~ N(0, I), of the dtype and device of ``like``."""
    return sg.randn((count, latent), generator=generator, dtype=like.dtype, device=like.device)
