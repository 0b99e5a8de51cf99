"""Ops without a bar: pooling, upsampling, activations, dropout, embedding. None may fall below the floor."""

from __future__ import annotations

from typing import Any

import numpy as np

from .table import Group, case, fan_in, integers, normal

OTHERS = Group("others")
IMAGE = (64, 64, 28, 28)
DROP = 0.1


def image(name: str, function: Any, shape: tuple[int, ...] = IMAGE) -> None:
    """An op on images, without parameters."""
    n, channels, size, _ = shape
    case(f"{name} N{n} {channels}ch {size}x{size}", OTHERS, function, normal(*shape), images=True)


def kept(inputs: list[np.ndarray], cotangents: list[np.ndarray], results: list[np.ndarray]) -> list[np.ndarray]:
    """Dropout's masks differ from one library to the next. What is kept must be scaled alike, what is dropped must have
    no gradient, and as much must be dropped: ten standard deviations of the share are 0.12 % here."""
    (x,), (c,), (y, g) = inputs, cotangents, results
    if abs(np.mean(y != 0) - (1 - DROP)) > 0.0012:
        return [np.full_like(r, np.nan) for r in results]
    dropped = (y == 0) & (g == 0)
    return [np.where(dropped, x / (1 - DROP), y), np.where(dropped, c / (1 - DROP), g)]


image("max_pool2d 2x2", lambda L, x: L.F.max_pool2d(x, 2))
image("avg_pool2d 2x2", lambda L, x: L.F.avg_pool2d(x, 2))
image("upsample nearest x2", lambda L, x: L.F.interpolate(x, scale_factor=2, mode="nearest"), (64, 64, 16, 16))
image("upsample bilinear x2", lambda L, x: L.F.interpolate(x, scale_factor=2, mode="bilinear"), (64, 64, 16, 16))
image("silu", lambda L, x: L.F.silu(x), (64, 64, 32, 32))
image("relu", lambda L, x: L.F.relu(x), (64, 64, 32, 32))
case("gelu (8192, 768)", OTHERS, lambda L, x: L.F.gelu(x), normal(8192, 768))
case(
    "linear + gelu (8192, 192)->768",
    OTHERS,
    lambda L, x, w, b: L.linear_gelu(x, w, b),
    normal(8192, 192),
    normal(768, 192, scale=fan_in(768, 192)),
    normal(768),
    flops=2.0 * 8192 * 192 * 768,
)
case("dropout (8192, 768)", OTHERS, lambda L, x: L.F.dropout(x, DROP), normal(8192, 768), same=kept)
case(
    "embedding (32, 256) of (65, 192)",
    OTHERS,
    lambda L, i, w: L.F.embedding(i, w),
    integers(65, 32, 256),
    normal(65, 192),
)
case(
    "embedding (32, 256) of (32768, 192)",
    OTHERS,
    lambda L, i, w: L.F.embedding(i, w),
    integers(32768, 32, 256),
    normal(32768, 192),
)
