"""Layers that rearrange, pad or resample and learn nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..tensor import Tensor
from .module import Module

Pair = int | tuple[int, int]


class Flatten(Module):
    """Dimensions ``start_dim`` to ``end_dim`` become one; by default all but the batch's."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return ops.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Dimension ``dim`` becomes several, of sizes ``unflattened_size``."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return ops.unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class PixelShuffle(Module):
    """``(*, C r^2, H, W)`` to ``(*, C, H r, W r)`` (Shi et al. 2016)."""

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return ops.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """``(*, C, H r, W r)`` to ``(*, C r^2, H, W)``."""

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return ops.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class Unfold(Module):
    """Sliding windows as columns: ``(N, C, H, W)`` to ``(N, C * window size, windows)``."""

    def __init__(self, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return ops.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """The transpose of ``Unfold``: columns are added up where their windows overlap."""

    def __init__(
        self, output_size: Pair, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return ops.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )


class Upsample(Module):
    """Resample the spatial dimensions to ``size`` or by ``scale_factor``.

    ``mode``: nearest, linear, bilinear or bicubic. ``align_corners``: the corners' centres stay in place.
    """

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        super().__init__()
        if isinstance(scale_factor, Sequence):
            scale_factor = tuple(map(float, scale_factor))
        elif scale_factor is not None:
            scale_factor = float(scale_factor)
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners

    def forward(self, input: Tensor) -> Tensor:
        return ops.interpolate(input, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        target = f"scale_factor={self.scale_factor}" if self.size is None else f"size={self.size}"
        return f"{target}, mode={self.mode!r}"


class _Pad(Module):
    """``padding``: (before, after) of the last dimension, then of the one before it, or one number for all sides."""

    spatial: int
    mode: str
    value = 0.0

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        self.padding = (padding,) * (2 * self.spatial) if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != 2 * self.spatial:
            raise ValueError(
                f"{self._get_name()}: padding must be an int or {2 * self.spatial} ints, got {list(self.padding)}"
            )

    def forward(self, input: Tensor) -> Tensor:
        if self.mode == "constant":
            return ops.pad(input, self.padding, self.mode, self.value)
        return ops.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad1d(_Pad):
    """Zeros around ``(*, L)``: (left, right)."""

    spatial, mode = 1, "constant"


class ZeroPad2d(_Pad):
    """Zeros around ``(*, H, W)``: (left, right, top, bottom)."""

    spatial, mode = 2, "constant"


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """A value around ``(*, L)``: (left, right)."""

    spatial = 1


class ConstantPad2d(_ConstantPad):
    """A value around ``(*, H, W)``: (left, right, top, bottom)."""

    spatial = 2


class ReflectionPad1d(_Pad):
    """The input mirrored at its edge elements around ``(*, L)``: (left, right)."""

    spatial, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """The input mirrored at its edge elements around ``(*, H, W)``: (left, right, top, bottom)."""

    spatial, mode = 2, "reflect"


class ReplicationPad1d(_Pad):
    """The edge elements repeated around ``(*, L)``: (left, right)."""

    spatial, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The edge elements repeated around ``(*, H, W)``: (left, right, top, bottom)."""

    spatial, mode = 2, "replicate"


class CircularPad1d(_Pad):
    """The input's other end around ``(*, L)``: (left, right)."""

    spatial, mode = 1, "circular"


class CircularPad2d(_Pad):
    """The input's other end around ``(*, H, W)``: (left, right, top, bottom)."""

    spatial, mode = 2, "circular"
