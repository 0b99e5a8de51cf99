"""The variational autoencoder.

Kingma and Welling 2013, "Auto-Encoding Variational Bayes" (arXiv:1312.6114); the equation numbers are theirs.

A latent variable z ~ p(z) = N(0, I) is decoded into a distribution p(x|z) over images. The posterior p(z|x) cannot be
computed; an encoder gives an approximation q(z|x), and both are trained by the evidence lower bound

    log p(x) >= ELBO(x) = E_q(z|x)[log p(x|z)] - KL(q(z|x) || p(z))                                           (3)

All log-probabilities are in nats and *summed* over pixels and latent units. A mean over the 784 pixels of a digit in
place of the sum would be a beta of 784 in front of the KL, and the total would bound nothing.

Images are (N, C, H, W), labels (N,) integers, latents (..., N, latent).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import scratchgen as sg
from scratchgen import Generator, Tensor, nn
from scratchgen.nn import functional as F

from .blocks import dense_layers, doubling_convolutions, halved, halving_convolutions

LOG_2PI = math.log(2 * math.pi)
LOG_VARIANCES = (-30.0, 20.0)  # what a head may put out: beyond this exp() and its gradient leave float32
PIXELS = (-3, -2, -1)


# --- distributions


class Gaussian(NamedTuple):
    """N(mean, exp(log_variance)), independent in every element; ``log_variance`` may broadcast to ``mean``."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, generator: Generator, count: int | None = None) -> Tensor:
        """One draw, or ``count`` of them stacked in front; differentiable in mean and variance (section 2.4)."""
        shape = self.mean.shape if count is None else (count, *self.mean.shape)
        eps = sg.randn(shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + sg.exp(0.5 * self.log_variance) * eps

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x; mean, variance) of every element (9), (12)."""
        square = (x - self.mean) ** 2 * sg.exp(-self.log_variance)
        return -0.5 * (LOG_2PI + self.log_variance + square)

    def kl(self) -> Tensor:
        """KL(N(mean, variance) || N(0, 1)) of every element (appendix B): zero only for mean 0, variance 1."""
        return 0.5 * (self.mean**2 + sg.expm1(self.log_variance) - self.log_variance)


class Bernoulli(NamedTuple):
    """Binary pixels, each 1 with probability sigmoid(logit)."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """The probability of a 1."""
        return sg.sigmoid(self.logits)

    def sample(self, generator: Generator) -> Tensor:
        """One draw of zeros and ones; not differentiable."""
        uniform = sg.rand(self.logits.shape, generator=generator, device=self.logits.device)
        return (uniform < self.mean).to(self.logits.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        """x log p + (1 - x) log(1 - p) of every pixel (11)."""
        return -F.binary_cross_entropy_with_logits(self.logits, x.expand(self.logits.shape), reduction="none")


class GaussianHead(nn.Module):
    """Turns the decoder's output into N(mean, variance) over real pixels (appendix C.2).

    ``variance``: "fixed" at ``sd`` squared; "shared", one learned for all pixels (Rybkin et al. 2021, "sigma-VAE");
    or "pixel", a learned function of z for each, from twice as many output channels.
    """

    def __init__(self, variance: str = "shared", sd: float = 0.1) -> None:
        super().__init__()
        if variance not in ("fixed", "shared", "pixel"):
            raise ValueError(f"GaussianHead: variance must be 'fixed', 'shared' or 'pixel', got {variance!r}")
        self.variance = variance
        log_variance = sg.tensor(2 * math.log(sd))
        if variance == "shared":
            self.log_variance = nn.Parameter(log_variance)
        elif variance == "fixed":
            self.register_buffer("log_variance", log_variance)

    def forward(self, output: Tensor) -> Gaussian:
        if self.variance != "pixel":
            return Gaussian(output, self.log_variance)
        mean, log_variance = output.chunk(2, dim=-3)
        return Gaussian(mean, log_variance.clamp(*LOG_VARIANCES))


# --- the model


class Bound(NamedTuple):
    """The two terms of the ELBO of each image."""

    log_likelihood: Tensor  # (N,): log p(x|z) at one z ~ q(z|x)
    kl: Tensor  # (N, latent): the KL of each latent unit, in closed form

    @property
    def elbo(self) -> Tensor:
        """(N,), in nats; its expectation over z is a lower bound of log p(x)."""
        return self.log_likelihood - self.kl.sum(1)

    def objective(self, beta: float = 1.0, free_bits: float = 0.0) -> Tensor:
        """What training maximises, a scalar: the mean ELBO, with two changes for those who ask.

        ``beta`` weighs the KL (Higgins et al. 2017; growing from 0 it is the warm-up of Bowman et al. 2016).
        ``free_bits``: a unit whose mean KL over the batch is below so many nats is not pressed further (Kingma et al.
        2016, appendix C.8).
        """
        kl = self.kl.mean(0).clamp(min=free_bits) if free_bits else self.kl.mean(0)
        return self.log_likelihood.mean() - beta * kl.sum()


class VAE(nn.Module):
    """Encoder, decoder, and the bounds. ``dense`` and ``convolutional`` below build the usual ones.

    encoder   (images, one-hot labels or None) -> (N, features)
    decoder   (N, latent + classes) -> (N, C, H, W)
    observe   the decoder's output -> p(x|z): ``Bernoulli``, or a ``GaussianHead``
    classes   0, or the number of labels that both sides are told (Sohn et al. 2015, conditional VAE)
    """

    def __init__(
        self, encoder: nn.Module, features: int, decoder: nn.Module, latent: int, observe: Observation, classes: int = 0
    ) -> None:
        super().__init__()
        self.latent = latent
        self.classes = classes
        self.encoder = encoder
        self.mean = nn.Linear(features, latent)
        self.log_variance = nn.Linear(features, latent)
        self.decoder = decoder
        self.observe = observe

    def encode(self, x: Tensor, label: Tensor | None = None) -> Gaussian:
        """q(z|x) = N(mu(x), diag sigma^2(x))."""
        h = self.encoder(x, self._condition(label))
        return Gaussian(self.mean(h), self.log_variance(h).clamp(*LOG_VARIANCES))

    def decode(self, z: Tensor, label: Tensor | None = None) -> Bernoulli | Gaussian:
        """p(x|z), of shape (..., N, C, H, W) for z (..., N, latent)."""
        if (condition := self._condition(label)) is not None:
            z = sg.cat([z, condition.expand(*z.shape[:-1], self.classes)], -1)
        output = self.decoder(z.reshape(-1, z.shape[-1]))
        return self.observe(output.reshape(*z.shape[:-1], *output.shape[1:]))

    def elbo(self, x: Tensor, generator: Generator, label: Tensor | None = None) -> Bound:
        """The bound (3), its expectation by one draw of z, its KL in closed form: the estimator (10)."""
        q = self.encode(x, label)
        z = q.sample(generator)
        log_likelihood = self.decode(z, label).log_prob(x).sum(PIXELS)
        return Bound(log_likelihood, q.kl())

    def importance_bound(
        self, x: Tensor, count: int, generator: Generator, label: Tensor | None = None, beta: float = 1.0
    ) -> Tensor:
        """log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x) with K = ``count`` draws z_k ~ q(z|x), for each image (N,).

        Burda et al. 2016, "Importance Weighted Autoencoders", eq. 8. K = 1 is an ELBO (with the KL, too, by sampling);
        its expectation grows with K towards log p(x). As a training objective it makes an IWAE; ``beta`` below 1 is for
        the warm-up, as in ``Bound.objective``.
        """
        q = self.encode(x, label)
        z = q.sample(generator, count)  # (K, N, latent)
        log_likelihood = self.decode(z, label).log_prob(x).sum(PIXELS)
        log_prior = -0.5 * (LOG_2PI + z**2).sum(-1)
        log_weights = log_likelihood + beta * (log_prior - q.log_prob(z).sum(-1))  # (K, N)
        return log_weights.logsumexp(0) - math.log(count)

    def prior(self, count: int, generator: Generator) -> Tensor:
        """``count`` draws (count, latent) of z ~ N(0, I)."""
        like = self.mean.weight
        return sg.randn((count, self.latent), generator=generator, dtype=like.dtype, device=like.device)

    def _condition(self, label: Tensor | None) -> Tensor | None:
        if (label is None) != (self.classes == 0):
            raise ValueError(
                f"this VAE is conditional on {self.classes} classes: give label, (N,) integers"
                if label is None
                else "label given to a VAE that was built without classes"
            )
        return None if label is None else F.one_hot(label, self.classes).to(self.mean.weight.dtype)


Observation = type[Bernoulli] | GaussianHead


# --- its networks


def dense(
    shape: Sequence[int],
    hidden: Sequence[int],
    latent: int,
    observe: Observation = Bernoulli,
    classes: int = 0,
    activation: type[nn.Module] = nn.ReLU,
    dropout: float = 0.0,
) -> VAE:
    """A VAE of fully connected layers for images of ``shape`` (C, H, W).

    The encoder's layers have the widths ``hidden``, the decoder's the same ones backwards; with none it is the linear
    VAE, whose optimum is probabilistic PCA (Lucas et al. 2019). ``dropout`` acts where weights can memorise images: on
    the layers next to the pixels.
    """
    pixels = math.prod(shape)
    encoder = dense_layers((pixels + classes, *hidden), activation)
    decoder = dense_layers((latent + classes, *reversed(hidden)), activation)
    if hidden and dropout:
        encoder.insert(2, nn.Dropout(dropout))
        decoder.append(nn.Dropout(dropout))
    first, last = (hidden[0], hidden[-1]) if hidden else (latent + classes, pixels + classes)
    out = (_outputs(observe) * shape[0], *shape[1:])
    decoder += [nn.Linear(first, math.prod(out)), nn.Unflatten(1, out)]
    return VAE(_DenseEncoder(*encoder), last, nn.Sequential(*decoder), latent, observe, classes)


class _DenseEncoder(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        x = x.flatten(1)
        return self.layers(x if condition is None else sg.cat([x, condition], 1))


def convolutional(
    shape: Sequence[int],
    channels: Sequence[int],
    hidden: int,
    latent: int,
    observe: Observation = Bernoulli,
    classes: int = 0,
    activation: type[nn.Module] = nn.ReLU,
    dropout: float = 0.0,
) -> VAE:
    """A VAE of stride-2 convolutions, ``channels`` wide, with a dense layer of ``hidden`` units on either side of z.

    Each convolution halves the image, whose height and width must be divisible by 2 so many times.
    """
    inner = (channels[-1], *halved(shape, len(channels), "convolutional"))
    encoder = halving_convolutions((shape[0] + classes, *channels), activation)
    encoder += [nn.Flatten(), nn.Linear(math.prod(inner), hidden), activation(), nn.Dropout(dropout)]
    decoder = [nn.Linear(latent + classes, hidden), activation(), nn.Dropout(dropout)]
    decoder += [nn.Linear(hidden, math.prod(inner)), activation(), nn.Unflatten(1, inner)]
    decoder += doubling_convolutions((*reversed(channels), _outputs(observe) * shape[0]), activation)
    return VAE(_ConvEncoder(*encoder), hidden, nn.Sequential(*decoder), latent, observe, classes)


class _ConvEncoder(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        if condition is not None:
            planes = condition[:, :, None, None].expand(*condition.shape, *x.shape[2:])  # a constant image each
            x = sg.cat([x, planes], 1)
        return self.layers(x)


def _outputs(observe: Observation) -> int:
    """Numbers that the decoder puts out for each pixel."""
    return 2 if isinstance(observe, GaussianHead) and observe.variance == "pixel" else 1


# --- looking at the latents


def active_units(means: Tensor, threshold: float = 0.01) -> int:
    """How many latent units carry information: those with Var_x(E_q[z|x]) > 0.01 (Burda et al. 2016, section 5.2).

    ``means`` (N, latent) are posterior means of many images.
    """
    return int((means.var(0) > threshold).sum())


def latent_grid(side: int) -> Tensor:
    """``side`` x ``side`` points (side^2, 2) of a 2-D latent space, evenly spaced in probability under the prior.

    A square grid mapped through the inverse Gaussian distribution function (figure 4 of the paper); row by row from
    the top left.
    """
    centres = (sg.arange(side) + 0.5) / side
    z = math.sqrt(2) * sg.erfinv(2 * centres - 1)
    return sg.stack([z.expand(side, side), z.flip(0)[:, None].expand(side, side)], -1).reshape(-1, 2)
