"""Conditional GANs: generator and discriminator are told the class.

Mirza and Osindero 2014, "Conditional Generative Adversarial Nets" (arXiv:1411.1784): the game (1) of ``models.gan``
for each class at once. How the label enters:

    generator      its embedding beside z, and conditional batch norm: gain and shift by class (Dumoulin et al. 2017)
    discriminator  ``concat``: planes of the one-hot label beside the image
                   ``embedding``: planes of a learned embedding
                   ``projection``: the inner product of the features and an embedding (Miyato and Koyama 2018, eq. 4)
                   ``auxiliary``: a second head that names the class (AC-GAN, Odena et al. 2017)

Images are (N, C, H, W) in [-1, 1], labels (N,) integers, logits (N,).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import scratchgen as sg
from scratchgen import Tensor, nn
from scratchgen.nn import functional as F

from .blocks import halved
from .gan import ImageFeatures, Norm

Condition = Literal["concat", "embedding", "projection", "auxiliary"]


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm whose gain and shift are each class's own: (N, C, H, W), (N,) to (N, C, H, W)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Embedding(classes, channels)
        self.shift = nn.Embedding(classes, channels)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        gain, shift = (table(label)[:, :, None, None] for table in (self.gain, self.shift))
        return gain * self.norm(x) + shift


class ConditionalGenerator(nn.Module):
    """DCGAN's generator for a class: its embedding joins z, and ``class_norm`` makes the batch norms conditional."""

    def __init__(
        self, shape: Sequence[int], latent: int, width: int, classes: int, embedding: int = 16, class_norm: bool = True
    ) -> None:
        super().__init__()
        base = halved(shape, 2, "ConditionalGenerator")
        self.latent, self.class_norm = latent, class_norm
        self.embedding = nn.Embedding(classes, embedding)
        self.first = nn.ConvTranspose2d(latent + embedding, 2 * width, base, bias=False)
        self.second = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False)
        self.third = nn.ConvTranspose2d(width, shape[0], 4, stride=2, padding=1)
        widths = (2 * width, width)
        self.norms = nn.ModuleList(
            [ConditionalBatchNorm2d(c, classes) if class_norm else nn.BatchNorm2d(c) for c in widths]
        )

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        h = sg.cat([z, self.embedding(label)], 1)[:, :, None, None]
        for layer, norm in zip((self.first, self.second), self.norms, strict=True):
            h = layer(h)
            h = F.relu(norm(h, label) if self.class_norm else norm(h))
        return sg.tanh(self.third(h))


class ConditionalDiscriminator(nn.Module):
    """DCGAN's discriminator for a class; ``forward`` gives the logits (N,) that image and label belong together."""

    def __init__(
        self,
        shape: Sequence[int],
        width: int,
        classes: int,
        condition: Condition = "projection",
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        self.condition, self.classes = condition, classes
        planes = {"concat": classes, "embedding": 4}.get(condition, 0)
        self.body = ImageFeatures((shape[0] + planes, *shape[1:]), width, norm)
        self.head = nn.Linear(self.body.features, 1)
        if condition == "embedding":
            self.embedding = nn.Embedding(classes, planes)
        elif condition == "projection":
            self.embedding = nn.Embedding(classes, self.body.features)
            nn.init.normal_(self.embedding.weight, 0.0, 0.02)
        elif condition == "auxiliary":
            self.classifier = nn.Linear(self.body.features, classes)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.judge(x, label)[0]

    def judge(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor | None]:
        """The logits (N,), and of the auxiliary head the logits of each class (N, classes), else None."""
        if self.condition in ("concat", "embedding"):
            one_hot = F.one_hot(label, self.classes).to(x.dtype)
            values = one_hot if self.condition == "concat" else self.embedding(label)
            x = sg.cat([x, values[:, :, None, None].expand(*values.shape, *x.shape[2:])], 1)
        features = self.body(x)
        logits = self.head(features).flatten(0)
        if self.condition == "projection":
            logits = logits + (features * self.embedding(label)).sum(1)
        return logits, self.classifier(features) if self.condition == "auxiliary" else None
