"""The survey's U-Net (as in the Keras example of DDIM, Beres 2022): predicts the noise in 28x28 digits."""

from __future__ import annotations

from typing import Any

from ..library import Library
from .step import Training
from .unet import noised, sinusoids

SIZE, WIDTHS, BLOCKS, GROUPS, EMBEDDED = 28, (32, 32, 64), 2, 8, 32


def survey_unet(L: Library, batch: int) -> Training:
    """Residual blocks, average pooling down, bilinear upsampling up, the time as images beside the input; AdamW and
    an average."""
    network = L.prepared(_network(L))
    optimizer = L.adamw(network.parameters(), lr=2e-4)
    average = L.average(network, 0.999)

    def draw(rng: Any) -> tuple[Any, ...]:
        noisy, noise, t = noised(rng, batch, 1, SIZE)
        return noisy, noise, sinusoids(t, EMBEDDED)

    def step(noisy: Any, noise: Any, time: Any) -> Any:
        loss = L.F.mse_loss(network(noisy, time), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average()
        return loss

    return Training({"network": network}, draw, step)


def _network(L: Library) -> Any:
    nn, F = L.nn, L.F

    def norm_silu(norm: Any, x: Any) -> Any:
        return L.group_norm_silu(x, GROUPS, norm.weight, norm.bias)

    class Residual(nn.Module):  # type: ignore[name-defined,misc]  # mypy: the library is known at run time
        def __init__(self, before: int, after: int) -> None:
            super().__init__()
            self.norm1 = nn.GroupNorm(GROUPS, before)
            self.conv1 = nn.Conv2d(before, after, 3, padding=1)
            self.norm2 = nn.GroupNorm(GROUPS, after)
            self.conv2 = nn.Conv2d(after, after, 3, padding=1)
            self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

        def forward(self, x: Any) -> Any:
            h = self.conv1(norm_silu(self.norm1, x))
            return L.conv2d_residual(norm_silu(self.norm2, h), self.conv2, self.shortcut(x))

    class UNet(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1 + EMBEDDED, WIDTHS[0], 1)
            width, skips = WIDTHS[0], []
            self.down, self.middle, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
            for wide in WIDTHS[:-1]:
                for _ in range(BLOCKS):
                    self.down.append(Residual(width, wide))
                    width = wide
                    skips.append(width)
            for _ in range(BLOCKS):
                self.middle.append(Residual(width, WIDTHS[-1]))
                width = WIDTHS[-1]
            for wide in reversed(WIDTHS[:-1]):
                for _ in range(BLOCKS):
                    self.up.append(Residual(width + skips.pop(), wide))
                    width = wide
            self.last = nn.Conv2d(width, 1, 1)

        def forward(self, x: Any, time: Any) -> Any:
            planes = time[:, :, None, None].expand(*time.shape, SIZE, SIZE)
            h, skips = self.first(L.cat([x, planes], 1)), []
            for i, layer in enumerate(self.down):
                h = layer(h)
                skips.append(h)
                if i % BLOCKS == BLOCKS - 1:
                    h = F.avg_pool2d(h, 2)
            for layer in self.middle:
                h = layer(h)
            for i, layer in enumerate(self.up):
                if i % BLOCKS == 0:
                    h = F.interpolate(h, scale_factor=2, mode="bilinear")
                h = layer(L.cat([h, skips.pop()], 1))
            return self.last(h)

    return UNet()
