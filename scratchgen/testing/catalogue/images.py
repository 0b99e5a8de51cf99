"""Convolutions, pooling, interpolation."""

from __future__ import annotations

from typing import Any

from .table import NOT_IN_TORCH, apart, case, normal

# --------------------------------------------------------------------------------------------------- convolutions


def convolution(name: str, x: tuple[int, ...], w: tuple[int, ...], bias: int = 0, **options: Any) -> None:
    """``name`` up to a colon is the function; with ``bias`` channels of bias, or without."""
    function = name.partition(":")[0]
    shapes = [x, w] + ([(bias,)] if bias else [])
    case(name, lambda L, *xs: getattr(L.F, function)(*xs, **options), *[normal(*shape) for shape in shapes])


convolution("conv1d", (2, 3, 5), (4, 3, 2), 4)
convolution("conv1d: all options", (2, 4, 7), (6, 2, 2), 6, stride=2, padding=1, dilation=2, groups=2)
convolution("conv1d: same padding, one signal", (3, 5), (2, 3, 4), padding="same", dilation=2)
convolution("conv2d", (2, 3, 4, 5), (4, 3, 2, 3), 4)
convolution("conv2d: 1x1", (2, 3, 2, 3), (4, 3, 1, 1))
convolution("conv2d: 3x3 padded", (1, 2, 6, 6), (3, 2, 3, 3), 3, padding=1)
convolution("conv2d: stride and padding", (1, 2, 5, 6), (3, 2, 3, 2), stride=(2, 1), padding=(1, 2))
convolution("conv2d: dilation", (1, 2, 5, 6), (2, 2, 2, 2), dilation=(3, 2))
convolution("conv2d: groups", (2, 4, 3, 3), (6, 2, 2, 2), 6, groups=2)
convolution("conv2d: depthwise", (2, 3, 4, 4), (3, 1, 3, 3), padding=1, groups=3)
convolution("conv2d: same padding", (1, 2, 3, 4), (2, 2, 2, 3), padding="same")
convolution("conv2d: valid padding, one image", (2, 3, 4), (2, 2, 2, 3), 2, padding="valid")
convolution("conv2d: no images", (0, 2, 3, 4), (2, 2, 2, 3), 2)
case("conv2d_residual", lambda L, *xs: L.F.conv2d_residual(*xs, padding=1), normal(1, 2, 4, 3), normal(3, 2, 3, 3),
     normal(3), normal(1, 3, 4, 3), unlike_torch=NOT_IN_TORCH)  # fmt: skip
case("conv2d_residual: groups and dilation", lambda L, *xs: L.F.conv2d_residual(*xs, dilation=2, groups=2),
     normal(1, 2, 4, 3), normal(4, 1, 2, 2), normal(4), normal(1, 4, 2, 1), unlike_torch=NOT_IN_TORCH)  # fmt: skip
case("conv2d_residual: one image", lambda L, x, w, r: L.F.conv2d_residual(x, w, None, r, stride=2), normal(2, 5, 4),
     normal(2, 2, 2, 2), normal(2, 2, 2), unlike_torch=NOT_IN_TORCH)  # fmt: skip
convolution("conv_transpose1d", (2, 3, 4), (3, 2, 3), 2)
convolution("conv_transpose1d: all options", (2, 4, 3), (4, 3, 2), 6, stride=3, padding=1, output_padding=2, groups=2,
            dilation=2)  # fmt: skip
convolution("conv_transpose2d", (2, 3, 3, 2), (3, 2, 2, 3), 2)
convolution("conv_transpose2d: stride and output_padding", (1, 2, 3, 2), (2, 3, 3, 2), 3, stride=2, padding=1,
            output_padding=(1, 0))  # fmt: skip
convolution("conv_transpose2d: groups and dilation", (1, 4, 2, 3), (4, 1, 2, 2), 2, groups=2, dilation=(1, 2))
convolution("conv_transpose2d: depthwise", (1, 3, 3, 3), (3, 1, 3, 3), stride=2, padding=1, groups=3)
convolution("conv_transpose2d: one image", (2, 3, 2), (2, 1, 2, 2))

# --------------------------------------------------------------------------------- pooling and interpolation

case("max_pool1d", lambda L, x: L.F.max_pool1d(x, 3, stride=2, padding=1, dilation=2, ceil_mode=True), apart(2, 2, 8))
case("max_pool2d", lambda L, x: L.F.max_pool2d(x, 2), apart(1, 2, 4, 5))
case("max_pool2d overlapping", lambda L, x: L.F.max_pool2d(x, (3, 2), stride=(1, 2), padding=1), apart(1, 1, 4, 5))
case("max_pool2d: all options", lambda L, x: L.F.max_pool2d(x, 2, stride=2, padding=1, dilation=2, ceil_mode=True),
     apart(1, 1, 5, 6))  # fmt: skip
case("max_pool2d of one image", lambda L, x: L.F.max_pool2d(x, 2, return_indices=True)[0], apart(2, 4, 4))
case("adaptive_max_pool1d", lambda L, x: L.F.adaptive_max_pool1d(x, 3), apart(2, 2, 5))
case("adaptive_max_pool2d", lambda L, x: L.F.adaptive_max_pool2d(x, (2, None)), apart(1, 2, 5, 3))
case("avg_pool1d", lambda L, x: L.F.avg_pool1d(x, 3, stride=2, padding=1, ceil_mode=True), normal(2, 2, 6))
case("avg_pool1d, padding not counted", lambda L, x: L.F.avg_pool1d(x, 3, 2, 1, count_include_pad=False),
     normal(2, 2, 6))  # fmt: skip
case("avg_pool2d", lambda L, x: L.F.avg_pool2d(x, 2), normal(1, 2, 4, 5))
case("avg_pool2d: all options", lambda L, x: L.F.avg_pool2d(x, (3, 2), stride=(2, 1), padding=1, ceil_mode=True,
     count_include_pad=False), normal(1, 2, 4, 5))  # fmt: skip
case("avg_pool2d with a divisor", lambda L, x: L.F.avg_pool2d(x, 2, 1, divisor_override=3), normal(2, 3, 4))
case("adaptive_avg_pool1d", lambda L, x: L.F.adaptive_avg_pool1d(x, 3), normal(2, 2, 5))
case("adaptive_avg_pool2d", lambda L, x: L.F.adaptive_avg_pool2d(x, (2, None)), normal(1, 2, 5, 3))

for mode in ("nearest", "nearest-exact", "area", "linear"):
    for length in (7, 2):
        case(f"interpolate {mode} 1-D to {length}", lambda L, x, m=mode, n=length: L.F.interpolate(x, size=n, mode=m),
             normal(1, 2, 4))  # fmt: skip
for mode in ("nearest", "nearest-exact", "area", "bilinear", "bicubic"):
    case(f"interpolate {mode} grown", lambda L, x, m=mode: L.F.interpolate(x, (5, 4), mode=m), normal(1, 2, 3, 2))
    case(f"interpolate {mode} by factors", lambda L, x, m=mode: L.F.interpolate(x, scale_factor=(0.6, 1.7), mode=m),
         normal(1, 2, 4, 3))  # fmt: skip
for mode in ("bilinear", "bicubic"):
    for options in ({"align_corners": True}, {"antialias": True}, {"align_corners": True, "antialias": True}):
        case(f"interpolate {mode} {' '.join(options)}",
             lambda L, x, m=mode, o=options: L.F.interpolate(x, (2, 5), mode=m, **o), normal(1, 1, 4, 3))  # fmt: skip
case("interpolate linear align_corners", lambda L, x: L.F.interpolate(x, 5, mode="linear", align_corners=True),
     normal(1, 2, 3))  # fmt: skip
case("interpolate with the scale recomputed",
     lambda L, x: L.F.interpolate(x, scale_factor=1.6, mode="bilinear", recompute_scale_factor=True),
     normal(1, 1, 4, 3))  # fmt: skip
DEPRECATED = "it warns of its age there; interpolate is compared"
case("upsample", lambda L, x: L.F.upsample(x, scale_factor=2, mode="bilinear", align_corners=False), normal(1, 1, 2, 3),
     unlike_torch=DEPRECATED)  # fmt: skip
case("upsample to a size", lambda L, x: L.F.upsample(x, size=(3, 3)), normal(1, 1, 2, 3), unlike_torch=DEPRECATED)
case("upsample_nearest", lambda L, x: L.F.upsample_nearest(x, scale_factor=2) + L.F.upsample_nearest(x, size=(4, 6)),
     normal(1, 1, 2, 3), unlike_torch=DEPRECATED)  # fmt: skip
case("upsample_bilinear", lambda L, x: L.F.upsample_bilinear(x, scale_factor=2) + L.F.upsample_bilinear(x, size=(4, 6)),
     normal(1, 1, 2, 3), unlike_torch=DEPRECATED)  # fmt: skip
