"""The U-Net of denoising diffusion (Ho et al. 2020): predicts the noise in 32x32 images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..library import Library
from .step import Training, normal

COLOURS, SIZE, STEPS = 3, 32, 1000
MULTIPLIERS, BLOCKS, GROUPS = (1, 2, 4), 2, 8


def unet(L: Library, base: int, batch: int) -> Training:
    """Two residual blocks a level on the way down, three on the way up; attention at 8x8; AdamW and an average."""
    network = L.prepared(_network(L, base))
    optimizer = L.adamw(network.parameters(), lr=2e-4)
    average = L.average(network, 0.999)

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        noisy, noise, t = noised(rng, batch, COLOURS, SIZE)
        return noisy, noise, sinusoids(t, base)

    def step(noisy: Any, noise: Any, time: Any) -> Any:
        loss = L.F.mse_loss(network(noisy, time), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average()
        return loss

    return Training({"network": network}, draw, step)


def noised(rng: np.random.Generator, batch: int, channels: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random images on their way to noise, that noise, and how many of the steps are done."""
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, STEPS)).astype(np.float32)
    t = rng.integers(STEPS, size=batch)
    share = kept[t].reshape(batch, 1, 1, 1)
    noise = normal(rng, batch, channels, size, size)
    return np.sqrt(share) * np.tanh(normal(rng, *noise.shape)) + np.sqrt(1 - share) * noise, noise, t


def sinusoids(t: np.ndarray, width: int) -> np.ndarray:
    """sin and cos of the step at frequencies from 1 to 1 / 10,000."""
    frequencies = np.exp(-math.log(10000) * np.arange(width // 2) / (width // 2 - 1))
    angles = t[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32)


def _network(L: Library, base: int) -> Any:
    nn, F = L.nn, L.F
    embedded = 4 * base

    def norm_silu(norm: Any, x: Any, shift: Any = None) -> Any:
        return L.group_norm_silu(x, GROUPS, norm.weight, norm.bias, shift)

    class Residual(nn.Module):  # type: ignore[name-defined,misc]  # mypy: the library is known at run time
        def __init__(self, before: int, after: int) -> None:
            super().__init__()
            self.norm1 = nn.GroupNorm(GROUPS, before)
            self.conv1 = nn.Conv2d(before, after, 3, padding=1)
            self.time = nn.Linear(embedded, after)
            self.norm2 = nn.GroupNorm(GROUPS, after)
            self.conv2 = nn.Conv2d(after, after, 3, padding=1)
            self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

        def forward(self, x: Any, time: Any) -> Any:
            h = self.conv1(norm_silu(self.norm1, x))
            h = norm_silu(self.norm2, h, self.time(time))
            return L.conv2d_residual(h, self.conv2, self.shortcut(x))

    class Attention(nn.Module):  # type: ignore[name-defined,misc]
        """One head over all pixels."""

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.norm = nn.GroupNorm(GROUPS, channels)
            self.qkv = nn.Linear(channels, 3 * channels)
            self.project = nn.Linear(channels, channels)

        def forward(self, x: Any, time: Any) -> Any:
            n, c, h, w = x.shape
            pixels, normal = (u.permute(0, 2, 3, 1).reshape(n, 1, h * w, c) for u in (x, self.norm(x)))
            q, k, v = self.qkv(normal).chunk(3, -1)
            mixed = F.scaled_dot_product_attention(q, k, v)
            mixed = L.linear_residual(mixed, self.project.weight, self.project.bias, pixels)
            return mixed.reshape(n, h, w, c).permute(0, 3, 1, 2)

    class UNet(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.time = nn.Sequential(nn.Linear(base, embedded), nn.SiLU(), nn.Linear(embedded, embedded), nn.SiLU())
            self.first = nn.Conv2d(COLOURS, base, 3, padding=1)
            widths, lowest = [base * m for m in MULTIPLIERS], len(MULTIPLIERS) - 1
            skips, width = [base], base

            self.down = nn.ModuleList()
            for level, wide in enumerate(widths):
                for _ in range(BLOCKS):
                    self.down.append(Residual(width, wide))
                    self.down.append(Attention(wide) if level == lowest else nn.Identity())
                    width = wide
                    skips.append(width)
                if level != lowest:
                    self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                    skips.append(width)

            self.middle = nn.ModuleList([Residual(width, width), Attention(width), Residual(width, width)])

            self.up = nn.ModuleList()
            for level, wide in reversed(list(enumerate(widths))):
                for _ in range(BLOCKS + 1):
                    self.up.append(Residual(width + skips.pop(), wide))
                    self.up.append(Attention(wide) if level == lowest else nn.Identity())
                    width = wide
                if level:
                    self.up.append(nn.Conv2d(width, width, 3, padding=1))

            self.norm = nn.GroupNorm(GROUPS, base)
            self.last = nn.Conv2d(base, COLOURS, 3, padding=1)

        def forward(self, x: Any, time: Any) -> Any:
            time = self.time(time)
            h = self.first(x)
            skips = [h]
            for layer in self.down:
                if isinstance(layer, Attention):
                    h = skips[-1] = layer(h, time)
                elif isinstance(layer, Residual):
                    h = layer(h, time)
                    skips.append(h)
                elif isinstance(layer, nn.Conv2d):
                    h = layer(h)
                    skips.append(h)
            for layer in self.middle:
                h = layer(h, time)
            for layer in self.up:
                if isinstance(layer, Residual):
                    h = layer(L.cat([h, skips.pop()], 1), time)
                elif isinstance(layer, Attention):
                    h = layer(h, time)
                elif isinstance(layer, nn.Conv2d):
                    h = layer(F.interpolate(h, scale_factor=2, mode="nearest"))
            return self.last(norm_silu(self.norm, h))

    return UNet()
