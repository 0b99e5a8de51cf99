"""The autoencoder, and its denoising, sparse and contractive forms.

Hinton and Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks" (Science 313). An encoder f
maps an image to a few numbers, a decoder g back to an image, and both learn to lose as little as possible:

    minimise  E_x [ d(x, g(f(x))) ]

With linear f and g and the squared error the optimum is principal component analysis (Baldi and Hornik 1989). What
keeps a wide code from merely copying is one of three additions:

    denoising    d(x, g(f(x + noise))): Vincent et al. 2008
    sparse       + s E |f(x)|_1: few units at a time
    contractive  + c E ||df/dx||_F^2: the code hardly moves when the image does (Rifai et al. 2011, eq. 2 and 4)

Images are (N, C, H, W) in [0, 1], codes (N, latent).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import scratchgen as sg
from scratchgen import Generator, Tensor, nn
from scratchgen.nn import functional as F

from .blocks import dense_layers, doubling_convolutions, halved, halving_convolutions


class Autoencoder(nn.Module):
    """``encoder``: images to codes; ``decoder``: codes to an image of logits, or of grey levels if ``linear``."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent: int, linear: bool = False) -> None:
        super().__init__()
        self.latent = latent
        self.linear = linear
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x: Tensor) -> Tensor:
        """The code f(x)."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """The image g(z); within [0, 1] unless linear."""
        output = self.decoder(z)
        return output if self.linear else sg.sigmoid(output)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction g(f(x))."""
        return self.decode(self.encode(x))

    def loss(self, z: Tensor, x: Tensor, distance: Literal["mse", "bce"] = "mse") -> Tensor:
        """d(x, g(z)), the mean over images and pixels, a scalar.

        ``bce`` is the cross-entropy from logits. Of grey pixels its least value is not 0 but their mean entropy, so
        figures of it compare only on the same data; its minimum over g(z) is the same as that of ``mse``.
        """
        output = self.decoder(z)
        if distance == "bce":
            if self.linear:
                raise ValueError("bce reads the decoder's output as logits; a linear autoencoder has grey levels there")
            return F.binary_cross_entropy_with_logits(output, x)
        return F.mse_loss(output if self.linear else sg.sigmoid(output), x)

    def errors(self, x: Tensor) -> Tensor:
        """The squared error of each image's reconstruction, averaged over pixels (N,): an anomaly score."""
        return ((self(x) - x) ** 2).mean((-3, -2, -1))


def corrupt(x: Tensor, noise: float, masked: float, generator: Generator) -> Tensor:
    """Images with Gaussian noise of standard deviation ``noise`` and a share ``masked`` of the pixels set to 0."""
    if noise:
        x = x + noise * sg.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    if masked:
        x = x * (sg.rand(x.shape, generator=generator, device=x.device) >= masked).to(x.dtype)
    return x


def contraction(z: Tensor, x: Tensor, generator: Generator) -> Tensor:
    """An unbiased estimate of ||dz/dx||_F^2, the mean over images, that can be differentiated; a scalar.

    ``x`` requires grad and ``z`` was computed from it. For a random u ~ N(0, I) the squared length of u' dz/dx has the
    squared Frobenius norm as its expectation (Hutchinson 1990), at the cost of one backward pass in place of one for
    each latent unit.
    """
    u = sg.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device)
    (pulled,) = sg.grad((z * u).sum(), x, create_graph=True)
    return (pulled**2).sum() / len(x)


# --- its networks


def dense(
    shape: Sequence[int], hidden: Sequence[int], latent: int, activation: type[nn.Module] = nn.SiLU
) -> Autoencoder:
    """Fully connected layers of the widths ``hidden``, backwards in the decoder; with none it is linear: PCA."""
    pixels = math.prod(shape)
    encoder = [nn.Flatten(), *dense_layers((pixels, *hidden), activation)]
    decoder = dense_layers((latent, *reversed(hidden)), activation)
    first, last = (hidden[0], hidden[-1]) if hidden else (latent, pixels)
    encoder.append(nn.Linear(last, latent))
    decoder += [nn.Linear(first, pixels), nn.Unflatten(1, tuple(shape))]
    return Autoencoder(nn.Sequential(*encoder), nn.Sequential(*decoder), latent, linear=not hidden)


def convolutional(
    shape: Sequence[int],
    channels: Sequence[int],
    hidden: int,
    latent: int,
    activation: type[nn.Module] = nn.SiLU,
    upsampling: Literal["transposed", "upsample"] = "transposed",
) -> Autoencoder:
    """Stride-2 convolutions ``channels`` wide, a dense layer of ``hidden`` units on either side of the code."""
    inner = (channels[-1], *halved(shape, len(channels), "convolutional"))
    encoder = halving_convolutions((shape[0], *channels), activation)
    encoder += [nn.Flatten(), *dense_layers((math.prod(inner), hidden), activation), nn.Linear(hidden, latent)]
    decoder = [*dense_layers((latent, hidden, math.prod(inner)), activation), nn.Unflatten(1, inner)]
    decoder += doubling_convolutions((*reversed(channels), shape[0]), activation, upsampling)
    return Autoencoder(nn.Sequential(*encoder), nn.Sequential(*decoder), latent)
