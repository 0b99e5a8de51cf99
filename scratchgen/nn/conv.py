"""Convolutions and transposed convolutions in one and two dimensions, with torch's arguments and defaults."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .. import ops
from ..device import Device
from ..ops.spatial import Sizes, each
from ..tensor import Tensor
from . import init
from .linear import uniform_bias_
from .module import Module
from .parameter import Parameter

PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


class _Conv(Module):
    """What all convolutions share. ``spatial``: the number of spatial dimensions; images are ``(N, C, *spatial)``."""

    spatial: int
    transposed = False
    padding: Any  # numbers, "same" or "valid"
    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes,
        padding: Sizes | str,
        dilation: Sizes,
        output_padding: Sizes,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Device | str | None,
        dtype: Any,
    ) -> None:
        super().__init__()
        name = self._get_name()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"{name}: {groups} groups do not divide {in_channels} in and {out_channels} out channels")
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"{name}: padding_mode must be one of {', '.join(PADDING_MODES)}, got {padding_mode!r}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = each(name, "kernel_size", kernel_size, self.spatial, 1)
        self.stride = each(name, "stride", stride, self.spatial, 1)
        self.padding = padding if isinstance(padding, str) else each(name, "padding", padding, self.spatial, 0)
        self.dilation = each(name, "dilation", dilation, self.spatial, 1)
        self.output_padding = each(name, "output_padding", output_padding, self.spatial, 0)
        self.padding_mode = padding_mode
        channels = (in_channels, out_channels // groups) if self.transposed else (out_channels, in_channels // groups)
        self.weight = Parameter(ops.empty((*channels, *self.kernel_size), dtype=dtype, device=device))
        self.bias = Parameter(ops.empty((out_channels,), dtype=dtype, device=device)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight and bias uniform within ``+-1 / sqrt(fan_in)``, with the fan of the weight's shape as torch's."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            uniform_bias_(self.bias, init.fans(self.weight)[0])

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        zeros = (0,) * self.spatial
        for name, default in (
            ("padding", zeros),
            ("dilation", (1,) * self.spatial),
            ("output_padding", zeros),
            ("groups", 1),
        ):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        text += ", bias=False" if self.bias is None else ""
        return text + (f", padding_mode={self.padding_mode}" if self.padding_mode != "zeros" else "")


class _ForwardConv(_Conv):
    operation: Callable[..., Tensor]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            0,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        if isinstance(self.padding, str):
            if self.padding not in ("same", "valid"):
                raise ValueError(f"{self._get_name()}: padding must be 'same', 'valid' or numbers, got {padding!r}")
            if self.padding == "same" and any(step != 1 for step in self.stride):
                raise ValueError(f"{self._get_name()}: padding='same' needs stride 1, got stride {self.stride}")

    def _edges(self) -> list[int]:
        """Padding as ``ops.pad`` takes it, (before, after) from the last dimension on."""
        if self.padding == "valid":
            sides = [(0, 0)] * self.spatial
        elif self.padding == "same":
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size)]
            sides = [(total // 2, total - total // 2) for total in totals]
        else:
            sides = [(p, p) for p in self.padding]
        return [n for side in reversed(sides) for n in side]

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input = ops.pad(input, self._edges(), mode=PADDING_MODES[self.padding_mode])
            padding = 0
        return self.operation(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv1d(_ForwardConv):
    """Convolution of ``(N, C, L)`` or ``(C, L)``: ``torch.nn.Conv1d``."""

    spatial = 1
    operation = staticmethod(ops.conv1d)


class Conv2d(_ForwardConv):
    """Convolution of ``(N, C, H, W)`` or ``(C, H, W)``: ``torch.nn.Conv2d``."""

    spatial = 2
    operation = staticmethod(ops.conv2d)


class _ConvTranspose(_Conv):
    transposed = True
    operation: Callable[..., Tensor]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ValueError(f"{self._get_name()}: only padding_mode='zeros' exists, got {padding_mode!r}")
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            output_padding,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """``output_size``: the spatial size wanted, of those that the stride makes ambiguous."""
        extra = self.output_padding if output_size is None else self._extra(input, output_size)
        return self.operation(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )

    def _extra(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The output padding that gives ``output_size`` (leading dimensions, if given, are left out)."""
        wanted = tuple(output_size)[-self.spatial :]
        smallest = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(
                input.shape[-self.spatial :], self.stride, self.padding, self.dilation, self.kernel_size
            )
        ]
        extra = tuple(w - n for w, n in zip(wanted, smallest))
        if len(wanted) != self.spatial or any(not 0 <= e < s for e, s in zip(extra, self.stride)):
            largest = [n + s - 1 for n, s in zip(smallest, self.stride)]
            raise ValueError(
                f"{self._get_name()}: output_size must be between {smallest} and {largest} for an input of shape "
                f"{list(input.shape)}, got {list(output_size)}"
            )
        return extra


class ConvTranspose1d(_ConvTranspose):
    """The transpose of ``Conv1d``: ``torch.nn.ConvTranspose1d``."""

    spatial = 1
    operation = staticmethod(ops.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
    """The transpose of ``Conv2d``: ``torch.nn.ConvTranspose2d``."""

    spatial = 2
    operation = staticmethod(ops.conv_transpose2d)
