"""Glow (Kingma and Dhariwal 2018): two levels of actnorm, invertible 1x1 convolution and affine coupling, Adam.

As in ``scratchgen.models.glow``, with the 1x1 convolution held as P L (U + diag s), and the objective in nats a number.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..library import Library
from .step import Training, normal


def glow(L: Library, *, side: int, steps: int, width: int, batch: int) -> Training:
    """Grey images ``side`` wide; ``steps`` steps of the flow in each level, coupling networks ``width`` wide."""
    flow = L.prepared(_flow(L, steps, width))
    optimizer = L.adam(flow.parameters(), lr=1e-3)

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        return (normal(rng, batch, 1, side, side),)

    def step(x: Any) -> Any:
        loss = -flow(x).mean() / side**2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return Training({"flow": flow}, draw, step)


def _flow(L: Library, steps: int, width: int) -> Any:
    nn, F = L.nn, L.F

    def scaled_conv(x: Any, conv: Any, bias: Any, log_scale: Any, gain: float = 1.0) -> Any:
        """A scale for each channel after the convolution, which is put into the filters."""
        weight, bias = L.scaled_filters(conv.weight, bias, log_scale, gain)
        return F.conv2d(x, weight, bias, padding=conv.padding)

    class ActNorm(nn.Module):  # type: ignore[name-defined,misc]  # mypy: the library is known at run time
        """After its first batch, which is not part of a step. What follows or precedes takes it into its filters."""

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.bias, self.log_scale = (nn.Parameter(L.zeros(channels)) for _ in range(2))

    class Mix(nn.Module):  # type: ignore[name-defined,misc]
        """Actnorm and the invertible 1x1 convolution."""

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.register_buffer("permutation", L.flip(L.eye(channels), (0,)))
            self.register_buffer("sign", L.ones(channels))
            self.lower, self.upper = (nn.Parameter(0.1 * L.randn(channels, channels)) for _ in range(2))
            self.log_s = nn.Parameter(L.zeros(channels))

        def forward(self, x: Any, norm: Any) -> tuple[Any, Any]:
            weight, bias, log_det = L.mixing_filters(
                self.permutation, self.lower, self.upper, self.sign, self.log_s, norm.log_scale, norm.bias
            )
            return F.conv2d(x, weight[:, :, None, None], bias), x.shape[2] * x.shape[3] * log_det

    class ZeroConv(nn.Module):  # type: ignore[name-defined,misc]
        """The paper's last convolution. Not zero here: at zero it would hide what comes before it from the check."""

        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            self.gain = nn.Parameter(L.zeros(outputs))

        def forward(self, x: Any) -> Any:
            return scaled_conv(x, self.conv, self.conv.bias, self.gain, 3.0)

    class Coupling(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(channels // 2, width, 3, padding=1, bias=False)
            self.norm1 = ActNorm(width)
            self.second = nn.Conv2d(width, width, 1, bias=False)
            self.norm2 = ActNorm(width)
            self.last = ZeroConv(width, channels)

        def forward(self, x: Any) -> tuple[Any, Any]:
            a, b = x.chunk(2, 1)
            h = F.relu(scaled_conv(b, self.first, self.norm1.bias, self.norm1.log_scale))
            weight, bias = L.scaled_filters(self.second.weight.flatten(1), self.norm2.bias, self.norm2.log_scale)
            return L.affine_coupling(a, b, self.last(L.pixelwise_relu(h, weight, bias)))

    class Flow(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.levels = nn.ModuleList(
                [
                    nn.ModuleList([nn.ModuleList([ActNorm(c), Mix(c), Coupling(c)]) for _ in range(steps)])
                    for c in (4, 8)
                ]
            )
            self.prior = ZeroConv(2, 4)

        def forward(self, x: Any) -> Any:
            """log p(x), (N,)."""
            log_p: Any = 0.0
            for level in self.levels:
                x = F.pixel_unshuffle(x, 2)
                for norm, mix, coupling in level:
                    x, of_mixing = mix(x, norm)
                    x, log_det = coupling(x)
                    log_p = log_p + log_det + of_mixing
                if level is self.levels[0]:  # half of the channels leave
                    x, z = x.chunk(2, 1)
                    mean, log_sd = self.prior(x).chunk(2, 1)
                    log_p = log_p + normal_log_p((z - mean) * L.exp(-log_sd)) - log_sd.flatten(1).sum(1)
            return log_p + normal_log_p(x)

    def normal_log_p(z: Any) -> Any:
        return -0.5 * (z**2 + math.log(2 * math.pi)).flatten(1).sum(1)

    return Flow()
