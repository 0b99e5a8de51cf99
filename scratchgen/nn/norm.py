"""Normalisation layers: statistics over the batch, over each sample's features, or over groups of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import dtypes, ops
from ..changes import mark_changed
from ..device import Device
from ..recompute import is_recomputing
from ..tensor import Tensor
from . import init
from .module import Module
from .parameter import Parameter


class _Affine(Module):
    """A normalisation with a learnt scale that starts at one and a learnt shift that starts at zero."""

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self, shape: tuple[int, ...], scale: bool, shift: bool, device: Device | str | None, dtype: Any
    ) -> None:
        super().__init__()
        self.weight = Parameter(ops.ones(shape, dtype=dtype, device=device)) if scale else None
        self.bias = Parameter(ops.zeros(shape, dtype=dtype, device=device)) if shift else None

    def reset_parameters(self) -> None:
        """Scale one, shift zero."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class _RunningStats(_Affine):
    """A normalisation of channels that may track the mean and variance of what it has seen, to evaluate with them.

    ``momentum``: the weight of the newest batch in the running statistics, or None for their plain average.
    """

    dims: tuple[int, ...]  # how many dimensions the input may have
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: Device | str | None,
        dtype: Any,
        bias: bool,
    ) -> None:
        super().__init__((num_features,), affine, affine and bias, device, dtype)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        for name, start in (
            ("running_mean", ops.zeros(num_features, dtype=dtype, device=device)),
            ("running_var", ops.ones(num_features, dtype=dtype, device=device)),
            ("num_batches_tracked", ops.zeros((), dtype=dtypes.int64, device=device)),
        ):
            self.register_buffer(name, start if track_running_stats else None)

    def reset_running_stats(self) -> None:
        """Forget the running statistics."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Scale one, shift zero, no running statistics."""
        super().reset_parameters()
        self.reset_running_stats()

    def _check_input(self, input: Tensor) -> None:
        if input.ndim not in self.dims:
            raise ValueError(
                f"{self._get_name()}: expected an input of {' or '.join(map(str, self.dims))} dimensions, "
                f"got shape {list(input.shape)}"
            )

    def _running(self) -> tuple[Tensor | None, Tensor | None]:
        """The statistics to evaluate with or to update: none in training if they are not tracked."""
        if self.training and not self.track_running_stats:
            return None, None
        return self.running_mean, self.running_var

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_RunningStats):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Device | str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check_input(input)
        of_batch = self.training or self.running_mean is None
        weight = self._count_batch() if self.training and self.track_running_stats else self.momentum or 0.0
        return ops.batch_norm(input, *self._running(), self.weight, self.bias, of_batch, weight, self.eps)

    def _count_batch(self) -> float:
        """Count a batch; returns its weight in the running statistics."""
        count = self.num_batches_tracked
        if count is not None and not is_recomputing():
            count.array += 1
            mark_changed(count.array)
        if self.momentum is None and count is not None:
            return 1.0 / count.item()
        return self.momentum or 0.0


class BatchNorm1d(_BatchNorm):
    """Batch normalisation (Ioffe & Szegedy 2015) of ``(N, C)`` or ``(N, C, L)``, over all but C."""

    dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation (Ioffe & Szegedy 2015) of ``(N, C, H, W)``, over all but C."""

    dims = (4,)


class _InstanceNorm(_RunningStats):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Device | str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check_input(input)
        single = input.ndim == self.dims[0]
        of_sample = self.training or self.running_mean is None
        y = ops.instance_norm(
            input.unsqueeze(0) if single else input,
            *self._running(),
            self.weight,
            self.bias,
            of_sample,
            self.momentum or 0.0,
            self.eps,
        )
        return y.squeeze(0) if single else y


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation (Ulyanov et al. 2016) of ``(N, C, L)`` or ``(C, L)``, over L."""

    dims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Instance normalisation (Ulyanov et al. 2016) of ``(N, C, H, W)`` or ``(C, H, W)``, over the image."""

    dims = (3, 4)


class LayerNorm(_Affine):
    """Layer normalisation (Ba et al. 2016) over the last dimensions, whose shape is ``normalized_shape``."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        shape = _as_shape(normalized_shape)
        super().__init__(shape, elementwise_affine, elementwise_affine and bias, device, dtype)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine

    def forward(self, input: Tensor) -> Tensor:
        return ops.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(_Affine):
    """Division by the root mean square over the last dimensions (Zhang & Sennrich 2019).

    ``eps`` None: the smallest difference from one of the input's dtype.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        shape = _as_shape(normalized_shape)
        super().__init__(shape, elementwise_affine, False, device, dtype)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine

    def forward(self, input: Tensor) -> Tensor:
        return ops.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(_Affine):
    """Group normalisation (Wu & He 2018) of ``(N, C, *)``, over each of ``num_groups`` groups of channels."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Device | str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm: {num_channels} channels do not divide into {num_groups} groups")
        super().__init__((num_channels,), affine, affine and bias, device, dtype)
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine

    def forward(self, input: Tensor) -> Tensor:
        return ops.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


def _as_shape(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
