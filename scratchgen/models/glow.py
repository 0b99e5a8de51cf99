"""Glow: flows of invertible 1x1 convolutions.

Kingma and Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions" (arXiv:1807.03039); the sections are
theirs. A step of the flow (figure 2a) is

    actnorm -> invertible 1x1 convolution -> coupling of channel halves,

and where RealNVP alternates fixed masks, the convolution learns which channels meet. A level squeezes pixels into
channels, takes K steps and lets half of the channels leave (figure 2b), whose prior is a Gaussian with mean and
variance from those that stay. Dividing that mean and variance out is one more invertible layer, so the latents of the
whole model are N(0, I) at every level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import scipy.linalg

import scratchgen as sg
from scratchgen import Tensor, nn
from scratchgen.nn import functional as F

from .flow import ActNorm, Chain, Flow, MultiScale, Squeeze, joined, no_change, per_feature, sum_samples

Permutation = Literal["conv", "plain-conv", "shuffle", "reverse"]

# --- permutations of the channels, and what generalises them


class Permute(Flow):
    """The channels in another order: ``reverse``, or a random one that stays, ``shuffle`` (section 3.2)."""

    order: Tensor
    back: Tensor

    def __init__(self, channels: int, kind: Literal["shuffle", "reverse"]) -> None:
        super().__init__()
        if kind == "reverse":
            order = np.arange(channels)[::-1].copy()
        else:
            order = np.argsort(sg.rand(channels).numpy(), kind="stable")
        self.register_buffer("order", sg.tensor(order))
        self.register_buffer("back", sg.tensor(np.argsort(order)))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.index_select(1, self.order), no_change(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return z.index_select(1, self.back)


class InvertibleConv(Flow):
    """A 1x1 convolution with as many outputs as inputs, W, which starts as a random rotation (section 3.2).

    The same matrix acts on every pixel: log |det| = H W log |det W| (9).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(sg.tensor(_rotation(channels)))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = math.prod(x.shape[2:]) * sg.linalg.slogdet(self.weight).logabsdet
        return _mix(x, self.weight), no_change(x, log_det)

    def after(self, norm: ActNorm) -> tuple[Tensor, Tensor, Tensor]:
        """Weight and bias that do what ``norm`` and this layer do, and the log-determinant of a pixel."""
        weight = self.weight * sg.exp(norm.log_scale)
        return weight, weight @ norm.bias, sg.linalg.slogdet(self.weight).logabsdet + norm.log_scale.sum()

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return _mix(z, sg.linalg.inv(self.weight))


class FactoredConv(Flow):
    """The same, held as W = P L (U + diag(s)) (10): log |det W| is the sum of log |s| (11).

    P, a permutation, and the signs of s stay as they start; L is lower triangular with ones on its diagonal, U upper
    triangular with zeros there.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        p, low, up = scipy.linalg.lu(_rotation(channels))
        s = np.diag(up)
        self.register_buffer("permutation", sg.tensor(p.astype(np.float32)))
        self.register_buffer("sign", sg.tensor(np.sign(s)))
        self.lower = nn.Parameter(sg.tensor(np.tril(low, -1)))
        self.upper = nn.Parameter(sg.tensor(np.triu(up, 1)))
        self.log_s = nn.Parameter(sg.tensor(np.log(np.abs(s))))

    def _triangles(self) -> tuple[Tensor, Tensor]:
        one = sg.eye(len(self.sign), dtype=self.sign.dtype, device=self.sign.device)
        return self.lower.tril(-1) + one, self.upper.triu(1) + one * (self.sign * sg.exp(self.log_s))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        low, up = self._triangles()
        pixels = math.prod(x.shape[2:])
        return _mix(x, self.permutation @ (low @ up)), no_change(x, pixels * self.log_s.sum())

    def after(self, norm: ActNorm) -> tuple[Tensor, Tensor, Tensor]:
        """Weight and bias that do what ``norm`` and this layer do, and the log-determinant of a pixel."""
        parameters = (self.permutation, self.lower, self.upper, self.sign, self.log_s, norm.log_scale, norm.bias)
        return F.mixing_filters(*parameters)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        low, up = self._triangles()
        back = sg.linalg.solve_triangular(low, self.permutation.mT, upper=False, unitriangular=True)
        return _mix(z, sg.linalg.solve_triangular(up, back, upper=True))


def _rotation(channels: int) -> np.ndarray:
    """A random orthogonal matrix (channels, channels), float32."""
    q, _ = np.linalg.qr(sg.randn(channels, channels).numpy().astype(np.float64))
    return q.astype(np.float32)


def _mix(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``weight`` times the channels of each pixel, or times each row of numbers, plus ``bias``."""
    return F.linear(x, weight, bias) if x.ndim == 2 else F.conv2d(x, weight[:, :, None, None], bias)


class NormalisedConv(Flow):
    """Actnorm and the 1x1 convolution that follows it, as one: W (s (x + b)) = (W s) x + (W s) b."""

    def __init__(self, norm: ActNorm, conv: InvertibleConv | FactoredConv) -> None:
        super().__init__()
        self.norm = norm
        self.conv = conv

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.norm.needs_batch:
            self.norm.initialise(x)
        weight, bias, log_det = self.conv.after(self.norm)
        return _mix(x, weight, bias), no_change(x, math.prod(x.shape[2:]) * log_det)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.norm.inverse(self.conv.inverse(z))


def normalised(channels: int, kind: Permutation) -> list[Flow]:
    """Actnorm, and the layer that decides which channels a coupling changes: one of the four."""
    norm = ActNorm(channels)
    if kind == "conv":
        return [NormalisedConv(norm, FactoredConv(channels))]
    if kind == "plain-conv":
        return [NormalisedConv(norm, InvertibleConv(channels))]
    return [norm, Permute(channels, kind)]


# --- the coupling


class ZeroConv(nn.Module):
    """A convolution that starts at zero, with a gain exp(3 g) for each output (section 3.3, and Glow's code)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        for parameter in self.conv.parameters():
            nn.init.zeros_(parameter)
        self.gain = nn.Parameter(sg.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        # The filters are scaled in place of the images, which are far larger.
        assert self.conv.bias is not None
        weight, bias = F.scaled_filters(self.conv.weight, self.conv.bias, self.gain, 3.0)
        return F.conv2d(x, weight, bias, padding=self.conv.padding)


class CouplingNetwork(nn.Module):
    """3x3, 1x1 and 3x3 convolutions, ``width`` wide, the first two with actnorm and ReLU (section 5.1).

    On images of one pixel all three are 1x1.
    """

    def __init__(self, inputs: int, outputs: int, width: int, kernel: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, kernel, padding=kernel // 2, bias=False)
        self.norm1 = ActNorm(width)
        self.dropout = nn.Dropout2d(dropout)  # of whole channels
        self.second = nn.Conv2d(width, width, 1, bias=False)
        self.norm2 = ActNorm(width)
        self.last = ZeroConv(width, outputs, kernel)
        for conv in (self.first, self.second):
            nn.init.normal_(conv.weight, std=0.05)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm1.needs_batch:
            self.norm1.initialise(self.first(x))
        weight, bias = self.norm1.within(self.first.weight)
        h = self.dropout(F.relu(F.conv2d(x, weight, bias, padding=self.first.padding)))
        if self.norm2.needs_batch:
            self.norm2.initialise(self.second(h))
        weight, bias = self.norm2.within(self.second.weight.flatten(1))
        pixels = h.permute(0, 2, 3, 1)
        h = F.linear_activation(pixels, weight, bias, activation="relu").permute(0, 3, 1, 2)
        return self.last(h)


class ChannelCoupling(Flow):
    """One half of the channels scaled and shifted by what a network makes of the other (section 3.3, table 1).

    ``kind``: "affine", with the scale sigmoid(h + 2) of Glow's code, which is below 1 and starts near it; or
    "additive", a shift alone, whose volume never changes (NICE, Dinh et al. 2014).
    """

    def __init__(self, network: nn.Module, kind: Literal["affine", "additive"] = "affine") -> None:
        super().__init__()
        self.network = network
        self.kind = kind

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, 1)
        if self.kind == "additive":
            return sg.cat([a + self.network(joined(b, condition)), b], 1), no_change(x)
        return F.affine_coupling(a, b, self.network(joined(b, condition)))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        a, b = z.chunk(2, 1)
        if self.kind == "additive":
            return sg.cat([a - self.network(joined(b, condition)), b], 1)
        shift, raw = self.network(joined(b, condition)).chunk(2, 1)
        return sg.cat([a * (1 + sg.exp(-raw - 2)) - shift, b], 1)


# --- priors


class GaussianPrior(Flow):
    """Divides out a mean and a variance: the prior N(mean, exp(log_sd)^2) of what goes through, as a layer.

    Both come from the condition, through a ``ZeroConv``; with ``inputs`` 0 from nothing, one learned pair a channel.
    """

    def __init__(self, channels: int, inputs: int, kernel: int = 3) -> None:
        super().__init__()
        if inputs:
            self.conv = ZeroConv(inputs, 2 * channels, kernel)
        else:
            self.statistics = nn.Parameter(sg.zeros(2 * channels))
        self.inputs = inputs

    def _prior(self, like: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self.inputs:
            raw = per_feature(self.statistics, like).expand(len(like), -1, *like.shape[2:])
        elif condition is None:
            raise ValueError(f"GaussianPrior: needs a condition of {self.inputs} channels")
        else:
            if condition.ndim == 2:
                condition = condition[:, :, None, None].expand(*condition.shape, *like.shape[2:])
            raw = self.conv(condition)
        mean, log_sd = raw.chunk(2, 1)
        return mean, log_sd

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, log_sd = self._prior(x, condition)
        return (x - mean) * sg.exp(-log_sd), -sum_samples(log_sd)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        mean, log_sd = self._prior(z, condition)
        return mean + z * sg.exp(log_sd)


# --- the whole flow


def glow(
    shape: Sequence[int],
    levels: int,
    steps: int,
    width: int,
    *,
    factor: int = 2,
    coupling: Literal["affine", "additive"] = "affine",
    permute: Permutation = "conv",
    condition: int = 0,
    dropout: float = 0.0,
    recompute: bool = False,
) -> MultiScale:
    """The multi-scale flow of figure 2 for images (C, H, W): ``levels`` times ``steps`` steps.

    ``factor``: how much the first level squeezes; the others halve the image. ``condition``: how many numbers (such as
    a one-hot class) all couplings and priors are told.
    """
    c, h, w = shape
    made: list[Flow] = []
    priors: list[Flow] = []
    shapes = []
    for level in range(levels):
        by = factor if level == 0 else 2
        if h % by or w % by:
            raise ValueError(f"glow: {levels} levels, the first by {factor}, do not divide images of {tuple(shape)}")
        c, h, w = c * by**2, h // by, w // by
        kernel = 3 if h * w > 1 else 1
        layers: list[Flow] = [Squeeze(by)]
        for _ in range(steps):
            outputs = c if coupling == "affine" else c // 2
            network = CouplingNetwork(c // 2 + condition, outputs, width, kernel, dropout)
            layers += [*normalised(c, permute), ChannelCoupling(network, coupling)]
        made.append(Chain(*layers, recompute=recompute))
        shapes.append((c, h, w))
        last = level == levels - 1
        if not last:
            c //= 2
        priors.append(GaussianPrior(c, condition if last else c + condition, kernel))
    return MultiScale(made, shapes, priors)
