"""Convolutions of the models: U-Nets' 3x3, GANs' 4x4 of stride 2 and their transposes, first layers, 1x1."""

from __future__ import annotations

from .table import BOTH, FORWARD, Bar, Group, case, fan_in, normal

WINOGRAD = Group("conv 3x3", {FORWARD: Bar(1.8, 2.2), BOTH: Bar(1.7, 2.0)}, tolerance=1e-5)
STRIDED = Group("conv 4x4 stride 2", {BOTH: Bar(1.2, 1.4)}, tolerance=1e-5)
DIRECT = Group("conv 1x1, first layers, 5x5", {BOTH: Bar(1.0, 1.15)}, tolerance=4e-6)  # 5x5 is Winograd's too
STRIDED_3 = Group("conv 3x3 stride 2", {BOTH: Bar(1.0)}, tolerance=1e-5)


def convolution(
    group: Group, n: int, before: int, after: int, size: int, kernel: int, stride: int = 1, padding: int = 0,
    *, first: bool = False, directions: tuple[str, ...] = (BOTH,),
) -> None:  # fmt: skip
    """A row; ``first``: the input is data, so nobody needs its gradient."""
    out = (size + 2 * padding - kernel) // stride + 1
    weight = (after, before, kernel, kernel)
    what = f"conv {kernel}x{kernel}" + (f" s{stride}" if stride > 1 else "")
    case(
        f"{what} N{n} {before}->{after} {size}x{size}",
        group,
        lambda L, x, w, b: L.F.conv2d(x, w, b, stride=stride, padding=padding),
        normal(n, before, size, size, differentiate=not first),
        normal(*weight, scale=fan_in(*weight)),
        normal(after),
        flops=2.0 * n * out * out * after * before * kernel * kernel,
        backward_flops=2.0 if first else 3.0,
        images=True,
        directions=directions,
    )


def transposed(group: Group, n: int, before: int, after: int, size: int) -> None:
    """4x4, stride 2, padding 1: doubles the size."""
    case(
        f"conv_transpose 4x4 s2 N{n} {before}->{after} {size}x{size}",
        group,
        lambda L, x, w, b: L.F.conv_transpose2d(x, w, b, stride=2, padding=1),
        normal(n, before, size, size),
        normal(before, after, 4, 4, scale=fan_in(after, before, 2, 2)),
        normal(after),
        flops=2.0 * n * size * size * before * after * 16,
        images=True,
    )


convolution(WINOGRAD, 32, 64, 64, 32, 3, padding=1, directions=(FORWARD, BOTH))
convolution(WINOGRAD, 32, 128, 128, 16, 3, padding=1, directions=(FORWARD, BOTH))
convolution(WINOGRAD, 32, 256, 256, 8, 3, padding=1, directions=(FORWARD, BOTH))
convolution(WINOGRAD, 32, 64, 64, 64, 3, padding=1, directions=(FORWARD, BOTH))
convolution(WINOGRAD, 64, 32, 64, 14, 3, padding=1, directions=(FORWARD, BOTH))

convolution(STRIDED, 64, 48, 96, 28, 4, 2, 1)
convolution(STRIDED, 32, 64, 128, 32, 4, 2, 1)
convolution(STRIDED, 64, 64, 128, 14, 4, 2, 1)
transposed(STRIDED, 64, 128, 64, 7)
transposed(STRIDED, 32, 128, 64, 16)
transposed(STRIDED, 64, 96, 48, 14)

convolution(DIRECT, 32, 64, 128, 32, 1)
convolution(DIRECT, 32, 256, 256, 8, 1)
convolution(DIRECT, 64, 1, 64, 28, 3, padding=1, first=True)
convolution(DIRECT, 64, 1, 64, 28, 4, 2, 1, first=True)
convolution(DIRECT, 32, 3, 64, 32, 3, padding=1, first=True)
convolution(DIRECT, 32, 32, 64, 14, 5, padding=2)
convolution(STRIDED_3, 32, 64, 64, 32, 3, 2, 1)
