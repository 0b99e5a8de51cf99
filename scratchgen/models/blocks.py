"""Stacks of layers that several models are built of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from scratchgen import nn

Activation = Callable[[], nn.Module]


def dense_layers(widths: Sequence[int], activation: Activation) -> list[nn.Module]:
    """Fully connected layers from ``widths[0]`` numbers to ``widths[-1]``, an activation after each."""
    return [layer for fan_in, width in pairwise(widths) for layer in (nn.Linear(fan_in, width), activation())]


def halving_convolutions(channels: Sequence[int], activation: Activation) -> list[nn.Module]:
    """4x4 convolutions of stride 2 from ``channels[0]`` to ``channels[-1]``, an activation after each."""
    layers: list[nn.Module] = []
    for fan_in, width in pairwise(channels):
        layers += [nn.Conv2d(fan_in, width, 4, stride=2, padding=1), activation()]
    return layers


def doubling_convolutions(channels: Sequence[int], activation: Activation, kind: str = "transposed") -> list[nn.Module]:
    """The way back: each doubles the image; no activation after the last.

    ``transposed``: 4x4 transposed convolutions of stride 2. A kernel that is a multiple of the stride covers every
    output equally often, which leaves no checkerboard (Odena et al. 2016). ``upsample``: nearest neighbour, then a 3x3
    convolution.
    """
    layers: list[nn.Module] = []
    for fan_in, width in pairwise(channels):
        if kind == "transposed":
            layers.append(nn.ConvTranspose2d(fan_in, width, 4, stride=2, padding=1))
        else:
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(fan_in, width, 3, padding=1)]
        layers.append(activation())
    return layers[:-1]


def halved(shape: Sequence[int], times: int, who: str) -> tuple[int, int]:
    """Height and width of images (C, H, W) after ``times`` halvings. Raises ValueError if they do not come out even."""
    factor = 2**times
    if shape[1] % factor or shape[2] % factor:
        raise ValueError(
            f"{who}: {times} layers of stride 2 need height and width divisible by {factor}, "
            f"the images are {tuple(shape)}"
        )
    return shape[1] // factor, shape[2] // factor
