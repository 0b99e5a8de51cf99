"""Normalizing flows: a density by an invertible map that knows how it changes volume.

Rezende and Mohamed 2015, "Variational Inference with Normalizing Flows" (arXiv:1505.05770); Dinh et al. 2017 (RealNVP).
With z = f(x) and z ~ N(0, I) the change of variables gives the density exactly,

    log p(x) = log N(f(x); 0, I) + log |det df/dx|,                                     (RealNVP, 2)

and x = f^-1(z) draws from it. This file has what all flows share: the laws that a layer must keep (``Flow``), the
layers that are not couplings, and the density (``FlowDensity``). The couplings are in ``realnvp`` and ``glow``.

Samples are (N, D) or (N, C, H, W); the latents of a whole model are (N, D). Log-determinants are (N,), in nats.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import scratchgen as sg
from scratchgen import Generator, Tensor, nn
from scratchgen.nn import functional as F

LOG_2PI = math.log(2 * math.pi)

# --- the laws of a layer


class Flow(nn.Module, ABC):
    """An invertible map of samples: ``inverse(forward(x)[0])`` is x, and the log-determinant is that of the Jacobian.

    ``condition``, (N, K) or planes (N, K, H, W), is told to the networks inside; the map is invertible for each of its
    values. Layers without networks ignore it.
    """

    @abstractmethod
    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z = f(x), and log |det df/dx| of each sample, (N,)."""

    @abstractmethod
    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """x = f^-1(z)."""


class Chain(Flow):
    """One layer after the other; log-determinants add up.

    ``recompute``: keep only what goes from layer to layer, and compute the inside of each again in the backward pass:
    memory for one layer instead of all, for a second forward pass.
    """

    def __init__(self, *layers: Flow, recompute: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(list(layers))
        self.recompute = recompute

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det: Tensor | None = None
        for layer in self.layers:
            x, own = self._apply(layer, x, condition)
            log_det = own if log_det is None else log_det + own
        return x, no_change(x) if log_det is None else log_det

    def _apply(self, layer: Flow, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self.recompute:
            return layer(x, condition)
        return sg.checkpoint(lambda x: layer(x, condition), x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        for layer in reversed(list(self.layers)):
            z = layer.inverse(z, condition)
        return z


def no_change(x: Tensor, log_det: Tensor | float = 0.0) -> Tensor:
    """A log-determinant that is the same for every sample of ``x``, as (N,)."""
    return sg.zeros(len(x), dtype=x.dtype, device=x.device) + log_det


def sum_samples(x: Tensor) -> Tensor:
    """The sum over all numbers of each sample, (N,)."""
    return x.flatten(1).sum(1)


def joined(x: Tensor, condition: Tensor | None) -> Tensor:
    """What a network inside a layer is shown: ``x`` with the condition in further channels or features."""
    if condition is None:
        return x
    if x.ndim == 2:
        condition = condition.flatten(1)
    elif condition.ndim == 2:
        condition = condition[:, :, None, None].expand(*condition.shape, *x.shape[2:])
    return sg.cat([x, condition.to(x.dtype)], 1)


def per_feature(x: Tensor, like: Tensor) -> Tensor:
    """Numbers (C,), one for a channel or feature, in a shape that broadcasts over samples ``like``."""
    return x.reshape(-1, *[1] * (like.ndim - 2))


# --- layers without a network


class ActNorm(Flow):
    """A scale and a shift for each channel (or feature), which start so that the first batch comes out standardised.

    Kingma and Dhariwal 2018, section 3.1: y = s * x + b in place of batch normalisation, whose statistics would tie
    the samples of a batch together. The first forward pass in training mode sets them, once; the flag is in the
    state, so a model that was loaded keeps what it has learnt.
    """

    initialised: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(sg.zeros(features))
        self.log_scale = nn.Parameter(sg.zeros(features))
        self.register_buffer("initialised", sg.tensor(0.0))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.needs_batch:
            self.initialise(x)
        pixels = math.prod(x.shape[2:])
        y = (x + per_feature(self.bias, x)) * per_feature(sg.exp(self.log_scale), x)
        return y, no_change(x, pixels * self.log_scale.sum())

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return z * per_feature(sg.exp(-self.log_scale), z) - per_feature(self.bias, z)

    def within(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of a layer without a bias, of filters ``weight``, that does what it and then this one do."""
        return F.scaled_filters(weight, self.bias, self.log_scale)

    @property
    def needs_batch(self) -> bool:
        """Whether the next batch is to be the one that sets the scale and the shift."""
        return self.training and not self.initialised.item()

    def initialise(self, x: Tensor) -> None:
        """Set them by the batch ``x``."""
        with sg.no_grad():
            rows = x.transpose(0, 1).flatten(1)  # (C, all its values)
            self.bias.copy_(-rows.mean(1))
            self.log_scale.copy_(-sg.log(rows.std(1, correction=0) + 1e-6))
            self.initialised.copy_(sg.ones_like(self.initialised))


class Logit(Flow):
    """Numbers in [0, levels] as logits (RealNVP, section 4.1), so that no mass of the model lies outside.

    logit(alpha + (1 - 2 alpha) x / levels): ``alpha`` keeps pure black and white from infinity.
    """

    def __init__(self, levels: float = 1.0, alpha: float = 0.0) -> None:
        super().__init__()
        self.levels = levels
        self.alpha = alpha

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        share = self.alpha + (1 - 2 * self.alpha) / self.levels * x
        z = sg.log(share) - sg.log1p(-share)
        slope = math.log((1 - 2 * self.alpha) / self.levels)
        return z, sum_samples(F.softplus(z) + F.softplus(-z) + slope)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return (sg.sigmoid(z) - self.alpha) * (self.levels / (1 - 2 * self.alpha))


class Centre(Flow):
    """Numbers in [0, levels] brought to [-1/2, 1/2], as in Glow's code."""

    def __init__(self, levels: float) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x / self.levels - 0.5, no_change(x, -math.prod(x.shape[1:]) * math.log(self.levels))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return (z + 0.5) * self.levels


class Squeeze(Flow):
    """Each block of ``factor`` x ``factor`` pixels as channels (RealNVP, section 3.6)."""

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_unshuffle(x, self.factor), no_change(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return F.pixel_shuffle(z, self.factor)


class Flatten(Flow):
    """Samples of ``shape`` as rows of numbers."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.flatten(1), no_change(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return z.reshape(-1, *self.shape)


class MultiScale(Flow):
    """Levels of a flow; after each but the last, half of the channels go straight to the latents (RealNVP, 3.6).

    ``shapes[i]``: (C, H, W) of what level i puts out. ``priors[i]``: a flow that the channels which leave go through,
    told those that stay; of the last level, one that all go through. The latents are in the order in which they leave.
    """

    def __init__(
        self, levels: Sequence[Flow], shapes: Sequence[Sequence[int]], priors: Sequence[Flow] | None = None
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(list(levels))
        self.shapes = [tuple(shape) for shape in shapes]
        self.priors = nn.ModuleList([Chain() for _ in levels] if priors is None else list(priors))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        parts, log_det = [], no_change(x)
        for level, prior in zip(self.levels, self.priors, strict=True):
            x, own = level(x, condition)
            last = level is self.levels[-1]
            x, leaving = (x, x) if last else x.chunk(2, 1)
            z, of_prior = prior(leaving, condition if last else joined(x, condition))
            log_det = log_det + own + of_prior
            parts.append(z.flatten(1))
        return sg.cat(parts, 1), log_det

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        *before, last = self._parts(z)
        x = self.levels[-1].inverse(self.priors[-1].inverse(last, condition), condition)
        for i, part in reversed(list(enumerate(before))):
            leaving = self.priors[i].inverse(part, joined(x, condition))
            x = self.levels[i].inverse(sg.cat([x, leaving], 1), condition)
        return x

    def _parts(self, z: Tensor) -> list[Tensor]:
        """The latents of each level, in its shape."""
        shapes = [(c // 2, h, w) for c, h, w in self.shapes[:-1]] + [self.shapes[-1]]
        sizes = [math.prod(shape) for shape in shapes]
        return [part.reshape(-1, *shape) for part, shape in zip(z.split(sizes, 1), shapes, strict=True)]


# --- the density


def standard_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I) of each sample (N, ...), in nats: (N,)."""
    return -0.5 * sum_samples(z**2 + LOG_2PI)


class FlowDensity(nn.Module):
    """The density that a flow makes of N(0, I). ``classes``: 0, or how many labels it is told as its condition."""

    def __init__(self, flow: Flow, dims: int, classes: int = 0) -> None:
        super().__init__()
        self.flow = flow
        self.dims = dims
        self.classes = classes

    def log_prob(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """log p(x) in nats, (N,)."""
        z, log_det = self.flow(x, self._condition(label, x))
        return standard_log_prob(z) + log_det

    def encode(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """z = f(x), (N, D)."""
        z, _ = self.flow(x, self._condition(label, x))
        return z.flatten(1)

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """x = f^-1(z), of z (N, D)."""
        return self.flow.inverse(z, self._condition(label, z))

    def sample(self, count: int, generator: Generator, label: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws of x. ``temperature`` below 1 shrinks z: fewer oddities and less variety (Glow, section 6)."""
        return self.decode(temperature * self.noise(count, generator), label)

    def noise(self, count: int, generator: Generator) -> Tensor:
        """z ~ N(0, I), (count, D)."""
        like = next(iter(self.parameters()))
        return sg.randn((count, self.dims), generator=generator, dtype=like.dtype, device=like.device)

    def _condition(self, label: Tensor | None, like: Tensor) -> Tensor | None:
        if (label is None) != (self.classes == 0):
            raise ValueError(
                f"this flow is conditional on {self.classes} classes: give label, (N,) integers"
                if label is None
                else "label given to a flow that was built without classes"
            )
        return None if label is None else F.one_hot(label, self.classes).to(like.dtype)


def reverse_kl(
    density: FlowDensity, log_target: Callable[[Tensor], Tensor], count: int, generator: Generator
) -> Tensor:
    """KL(q || p) up to the log of p's unknown constant, by ``count`` draws of q; differentiable, a scalar.

    Fits the flow q to a target that one can only evaluate, ``log_target`` (N, D) -> (N,): no samples of p are needed
    (Rezende and Mohamed 2015, 15). Mode-seeking: what q never visits costs nothing.
    """
    x = density.sample(count, generator)
    return (density.log_prob(x) - log_target(x)).mean()
