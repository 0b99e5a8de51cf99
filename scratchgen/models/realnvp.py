"""RealNVP: flows of masked affine couplings.

Dinh et al. 2017, "Density estimation using Real NVP" (arXiv:1605.08803); the equation numbers are theirs.

A coupling keeps the part of x that its binary mask b marks, and scales and shifts the rest by what networks make of
that part,

    y = b * x + (1 - b) * (x * exp(s(b * x)) + t(b * x)),                                                     (9)

so the Jacobian is triangular, its log-determinant the sum of s (6), and the inverse needs neither the inverse of s nor
of t (8). Layers alternate their masks, so that every number gets its turn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

import scratchgen as sg
from scratchgen import Tensor, nn
from scratchgen.nn import functional as F

from .flow import ActNorm, Chain, Flatten, Flow, MultiScale, Squeeze, joined, per_feature, sum_samples
from .unet import ResidualBlock, groups_of, norm_silu

# --- the coupling


class MaskedCoupling(Flow):
    """The affine coupling (9). ``network(b * x with the condition)`` puts out s and t, in twice the channels of x.

    s is bounded: tanh times a learned factor for each channel (section 4.1), so that no scale can explode; the factor
    starts at ``bound``.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, network: nn.Module, bound: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)
        self.network = network
        self.log_bound = nn.Parameter(sg.full((mask.shape[0],), math.log(bound)))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._scale_and_shift(self.mask * x, condition)
        return x * sg.exp(log_scale) + shift, sum_samples(log_scale)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        log_scale, shift = self._scale_and_shift(self.mask * z, condition)
        return (z - shift) * sg.exp(-log_scale)

    def _scale_and_shift(self, kept: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """s and t, both 0 where the mask keeps x."""
        raw, shift = self.network(joined(kept, condition)).chunk(2, 1)
        free = 1 - self.mask
        return free * per_feature(sg.exp(self.log_bound), raw) * sg.tanh(raw), free * shift


# --- masks: 1 where x is kept


def checkerboard(shape: Sequence[int], odd: bool = False) -> Tensor:
    """Every other pixel of (C, H, W), or every other number of (D,)."""
    places = np.indices(tuple(shape)[-2:]).sum(0) % 2
    return sg.tensor(np.broadcast_to(places == int(odd), shape).astype(np.float32))


def halves(shape: Sequence[int], second: bool = False, axis: int = 0) -> Tensor:
    """The first half along an axis (or the second); along channels it is the paper's channel-wise mask."""
    first = np.arange(shape[axis]) < shape[axis] // 2
    along = (first != second).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return sg.tensor(np.broadcast_to(along, shape).astype(np.float32))


# --- networks of s and t


class DenseNetwork(nn.Module):
    """Fully connected layers with SiLU; the last one starts at zero, so that a new coupling changes nothing."""

    def __init__(self, inputs: int, outputs: int, widths: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        sizes = (inputs, *widths)
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in zip(sizes, widths, strict=False)])
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(sizes[-1], outputs)
        _zero(self.last)

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = F.linear_activation(x, layer.weight, layer.bias, activation="silu")
            if i == 0:
                x = self.dropout(x)  # where weights could memorise images
        return self.last(x)


class ResidualNetwork(nn.Module):
    """Residual blocks of 3x3 convolutions between a first and a last convolution, which starts at zero.

    Group norm stands where the paper has batch norm with running averages: a coupling must do the same to a sample
    whichever batch it is in, forwards and backwards.
    """

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int, dropout: float = 0.0) -> None:
        super().__init__()
        groups = groups_of(width, 8)
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            [ResidualBlock(width, width, groups=groups, dropout=dropout) for _ in range(blocks)]
        )
        self.norm = nn.GroupNorm(groups, width)
        self.last = nn.Conv2d(width, outputs, 3, padding=1)
        _zero(self.last)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = block(h)
        return self.last(norm_silu(self.norm, h))


def _zero(layer: nn.Linear | nn.Conv2d) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


# --- whole flows


def dense(
    shape: Sequence[int], couplings: int, widths: Sequence[int], condition: int = 0, dropout: float = 0.0
) -> Chain:
    """Dense couplings for points (D,) or small images (C, H, W), an ``ActNorm`` before each.

    Images alternate between checkerboards and halves of the columns, points between every other coordinate.
    """
    dims = math.prod(shape)
    masks = [checkerboard(shape), checkerboard(shape, True)]
    if len(shape) == 3:
        masks += [halves(shape, False, 2), halves(shape, True, 2)]
    layers: list[Flow] = [] if len(shape) == 1 else [Flatten(shape)]
    for i in range(couplings):
        network = DenseNetwork(dims + condition, 2 * dims, widths, dropout)
        layers += [ActNorm(dims), MaskedCoupling(masks[i % len(masks)].flatten(), network)]
    return Chain(*layers)


def multi_scale(
    shape: Sequence[int], scales: int, width: int, blocks: int, condition: int = 0, dropout: float = 0.0
) -> MultiScale:
    """The paper's architecture for images (section 3.6, figure 4).

    Each scale: three couplings with checkerboard masks, squeeze, three with channel masks, half of the channels leave.
    The last: four with checkerboard masks.
    """
    c, h, w = shape
    levels: list[Flow] = []
    shapes = []
    for _ in range(scales - 1):
        if h % 2 or w % 2:
            raise ValueError(f"multi_scale: {scales} scales need images divisible by {2 ** (scales - 1)}, got {shape}")
        squares = [checkerboard((c, h, w), odd) for odd in (False, True, False)]
        layers = _couplings(squares, width, blocks, condition, dropout)
        c, h, w = 4 * c, h // 2, w // 2
        stripes = [halves((c, h, w), second) for second in (False, True, False)]
        levels.append(Chain(*layers, Squeeze(), *_couplings(stripes, width, blocks, condition, dropout)))
        shapes.append((c, h, w))
        c //= 2
    levels.append(scale((c, h, w), width, blocks, condition, dropout))
    return MultiScale(levels, [*shapes, (c, h, w)])


def scale(shape: Sequence[int], width: int, blocks: int, condition: int = 0, dropout: float = 0.0) -> Chain:
    """Four couplings with checkerboard masks on (C, H, W): the last scale, or the flow of variational noise."""
    squares = [checkerboard(shape, odd) for odd in (False, True, False, True)]
    return Chain(*_couplings(squares, width, blocks, condition, dropout))


def _couplings(masks: Sequence[Tensor], width: int, blocks: int, condition: int, dropout: float) -> list[Flow]:
    layers: list[Flow] = []
    for mask in masks:
        channels = mask.shape[0]
        network = ResidualNetwork(channels + condition, 2 * channels, width, blocks, dropout)
        layers += [ActNorm(channels), MaskedCoupling(mask, network)]
    return layers
