"""Normalisations: of layers, groups, instances and batches as fused ops; of vectors as compositions.

Composites take mean and variance as functions of the input to every order: the derivative of the mean vanishes in the
variance's first derivative, but not in its second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd import no_grad
from ..declare import fused
from ..dtypes import float16, float32
from ..recompute import is_recomputing
from ..tensor import Tensor
from .activation import leaky_relu, silu
from .elementwise import cast, operands, square
from .math import rsqrt
from .precision import widened
from .reduce import mean, sum, sum_to_size, var_mean, vector_norm

__all__ = [
    "batch_norm", "batch_norm_relu", "cosine_similarity", "group_norm", "group_norm_silu", "instance_norm",
    "layer_norm", "layer_norm_residual", "normalize", "pairwise_distance", "rms_norm",
]  # fmt: skip


def _affine(z: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is not None:
        z = z * weight
    return z if bias is None else z + bias


def _standardize(x: Tensor, dims: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """``(x - mean) / sqrt(var + eps)``, mean and biased variance over ``dims``, which are kept."""
    average = mean(x, dims, True)
    centred = x - average
    variance = mean(square(centred), dims, True)
    return centred * rsqrt(variance + eps), average, variance


# --- over the last dimensions


@fused(auxiliary=2)
@widened
def _layer_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *, normalized_shape: tuple[int, ...], eps: float
) -> Tensor:
    z, _, _ = _standardize(x, tuple(range(x.ndim - len(normalized_shape), x.ndim)), eps)
    return _affine(z, weight, bias)


@fused("y weight bias", auxiliary=2, several=2)
@widened
def _layer_norm_residual(
    x: Tensor,
    residual: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> tuple[Tensor, Tensor]:
    total = x + residual
    z, _, _ = _standardize(total, tuple(range(x.ndim - len(normalized_shape), x.ndim)), eps)
    return _affine(z, weight, bias), total


@_layer_norm_residual.vjp_rule
def _layer_norm_residual_rule(
    g: tuple[Tensor, Tensor],
    y: tuple[Tensor, Tensor],
    x: Any,
    residual: Any,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> tuple[Tensor | None, ...]:
    """Of the inputs only the sum matters, which is an output: so neither is kept for the backward pass."""
    wide = float32 if x.dtype is float16 else x.dtype
    g_norm, g_total, total = (cast(a, wide) for a in (*g, y[1]))
    dims = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    centred = total - mean(total, dims, True)
    rstd = rsqrt(mean(square(centred), dims, True) + eps)
    z = centred * rstd
    scaled = g_norm if weight is None else g_norm * cast(weight, wide)
    dtotal = cast((scaled - mean(scaled, dims, True) - z * mean(scaled * z, dims, True)) * rstd + g_total, x.dtype)
    dweight = None if weight is None else cast(sum_to_size(g_norm * z, normalized_shape), weight.dtype)
    dbias = None if bias is None else cast(sum_to_size(g_norm, normalized_shape), bias.dtype)
    return dtotal, dtotal, dweight, dbias


@fused(auxiliary=1)
@widened
def _rms_norm(x: Tensor, weight: Tensor | None, *, normalized_shape: tuple[int, ...], eps: float) -> Tensor:
    dims = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    return _affine(x * rsqrt(mean(square(x), dims, True) + eps), weight, None)


def _trailing(
    op: str, input: Tensor, normalized_shape: int | Sequence[int], **parameters: Tensor | None
) -> tuple[int, ...]:
    """``normalized_shape`` as a tuple, checked against the input and the parameters."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or input.shape[-len(shape) :] != shape:
        raise ValueError(
            f"{op}: normalized_shape {list(shape)} is not the end of the input's shape {list(input.shape)}"
        )
    _expect(op, shape, **parameters)
    return shape


def _expect(op: str, shape: tuple[int, ...], **parameters: Tensor | None) -> None:
    for name, p in parameters.items():
        if p is not None and p.shape != shape:
            raise ValueError(f"{op}: {name} of shape {list(p.shape)}, expected {list(shape)}")


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 over the last dimensions, whose shape is ``normalized_shape``; then scaled and shifted.

    ``weight`` and ``bias`` have that shape (Ba et al. 2016).
    """
    shape = _trailing("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    return _layer_norm(input, weight, bias, normalized_shape=shape, eps=eps)


def layer_norm_residual(
    input: Tensor,
    residual: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """``layer_norm(input + residual)`` and ``input + residual``, which have one shape.

    A pre-norm Transformer needs both at every sublayer. Here the sum is read back from the cache, not from memory.
    """
    shape = _trailing("layer_norm_residual", input, normalized_shape, weight=weight, bias=bias)
    _expect("layer_norm_residual", input.shape, residual=residual)
    x, residual = operands(input, residual)
    return _layer_norm_residual(x, residual, weight, bias, normalized_shape=shape, eps=eps)


def rms_norm(
    input: Tensor, normalized_shape: int | Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """``x / sqrt(mean(x^2) + eps)`` over the last dimensions, times ``weight`` (Zhang and Sennrich 2019).

    ``eps`` is the dtype's machine epsilon by default.
    """
    shape = _trailing("rms_norm", input, normalized_shape, weight=weight)
    eps = float(np.finfo(input.dtype).eps) if eps is None else eps
    return _rms_norm(input, weight, normalized_shape=shape, eps=eps)


# --- over groups of channels


@fused(auxiliary=2)
@widened
def _group_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, *, num_groups: int, eps: float) -> Tensor:
    split = x.reshape((x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:]))
    z, _, _ = _standardize(split, tuple(range(2, split.ndim)), eps)
    return _affine(z.reshape(x.shape), *_per_channel(x.ndim, weight, bias))


def _per_channel(ndim: int, *values: Tensor | None) -> list[Tensor | None]:
    """Values (C,) in the shape in which they multiply (N, C, ...)."""
    return [None if p is None else p.reshape((-1,) + (1,) * (ndim - 2)) for p in values]


def _channels(op: str, input: Tensor, **parameters: Tensor | None) -> int:
    """The number of channels of (N, C, ...), to which the parameters must fit."""
    if input.ndim < 2:
        raise ValueError(f"{op}: expected an input (N, C, ...), got shape {list(input.shape)}")
    _expect(op, input.shape[1:2], **parameters)
    return input.shape[1]


@fused(auxiliary=2)
@widened
def _group_norm_silu(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, shift: Tensor | None, *, num_groups: int, eps: float
) -> Tensor:
    x = x if shift is None else x + shift.reshape(shift.shape + (1,) * (x.ndim - 2))
    return silu(_group_norm.composite(x, weight, bias, num_groups=num_groups, eps=eps))


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 over each sample's groups of channels and all positions (Wu and He 2018).

    ``input`` is (N, C, ...) with C divisible by ``num_groups``; ``weight`` and ``bias`` are (C).
    """
    _check_groups("group_norm", input, num_groups, weight, bias)
    return _group_norm(input, weight, bias, num_groups=num_groups, eps=eps)


def group_norm_silu(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    shift: Tensor | None = None,
) -> Tensor:
    """``silu(group_norm(...))`` in one pass over memory: what every block of a diffusion U-Net begins with.

    ``shift`` (N, C) is added to all positions of the input first: the time's, in such a block.
    """
    _check_groups("group_norm_silu", input, num_groups, weight, bias)
    _expect("group_norm_silu", input.shape[:2], shift=shift)
    if shift is not None and shift.dtype is not input.dtype:
        raise TypeError(f"group_norm_silu: shift of {shift.dtype}, the input is of {input.dtype}")
    return _group_norm_silu(input, weight, bias, shift, num_groups=num_groups, eps=eps)


def _check_groups(op: str, input: Tensor, num_groups: int, weight: Tensor | None, bias: Tensor | None) -> None:
    channels = _channels(op, input, weight=weight, bias=bias)
    if num_groups < 1 or channels % num_groups:
        raise ValueError(
            f"{op}: {channels} channels (input {list(input.shape)}) do not divide into {num_groups} groups"
        )


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 over each sample's channels by themselves (Ulyanov et al. 2016).

    ``input`` is (N, C, ...), all else (C). The running statistics, if given, go towards the mean over the batch of
    the samples' own; without ``use_input_stats`` they are what the input is normalised with.
    """
    channels = _channels(
        "instance_norm", input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    if not use_input_stats:
        return _by_running(input, running_mean, running_var, weight, bias, eps, "instance_norm")
    if math.prod(input.shape[2:]) == 1:
        raise ValueError(f"instance_norm: more than one position is needed, got an input of shape {list(input.shape)}")
    if running_mean is not None or running_var is not None:
        with no_grad():
            variance, average = var_mean(input, tuple(range(2, input.ndim)))
            _track(running_mean, mean(average, 0), momentum)
            _track(running_var, mean(variance, 0), momentum)
    return _group_norm(input, weight, bias, num_groups=channels, eps=eps)


# --- over the batch


@fused(auxiliary=2, several=3)
@widened
def _batch_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, *, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    z, average, variance = _standardize(x, (0, *range(2, x.ndim)), eps)
    y = _affine(z, *_per_channel(x.ndim, weight, bias))
    return y, average.reshape((-1,)), variance.reshape((-1,))


@fused(auxiliary=2, several=3)
@widened
def _batch_norm_relu(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *, eps: float, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    y, average, variance = _batch_norm.composite(x, weight, bias, eps=eps)
    return leaky_relu(y, slope), average, variance


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 over all but the channels (Ioffe and Szegedy 2015).

    ``input`` is (N, C, ...), all else (C). In training with the batch's statistics, towards which the running ones,
    if given, go by ``momentum`` (the variance without bias, by n - 1); otherwise with the running statistics.
    """
    count = _count("batch_norm", input, training, running_mean, running_var, weight, bias)
    if not training:
        return _by_running(input, running_mean, running_var, weight, bias, eps, "batch_norm")
    y, average, variance = _batch_norm(input, weight, bias, eps=eps)
    _track_batch(running_mean, running_var, average, variance, count, momentum)
    return y


def batch_norm_relu(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    negative_slope: float = 0.0,
) -> Tensor:
    """``leaky_relu(batch_norm(...), negative_slope)``, by default ``relu``, with fewer passes over memory."""
    count = _count("batch_norm_relu", input, training, running_mean, running_var, weight, bias)
    if not training:
        y = _by_running(input, running_mean, running_var, weight, bias, eps, "batch_norm_relu")
        return leaky_relu(y, negative_slope)
    y, average, variance = _batch_norm_relu(input, weight, bias, eps=eps, slope=negative_slope)
    _track_batch(running_mean, running_var, average, variance, count, momentum)
    return y


def _count(
    op: str,
    input: Tensor,
    training: bool,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
) -> int:
    """The number of values of each channel, after a check of all shapes."""
    _channels(op, input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    count = input.shape[0] * math.prod(input.shape[2:])
    if training and count < 2:
        raise ValueError(
            f"{op}: training needs more than one value a channel, got an input of shape {list(input.shape)}"
        )
    return count


def _track_batch(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    average: Tensor,
    variance: Tensor,
    count: int,
    momentum: float,
) -> None:
    with no_grad():
        _track(running_mean, average, momentum)
        _track(running_var, variance * (count / (count - 1)), momentum)


def _track(running: Tensor | None, newest: Tensor, momentum: float) -> None:
    """Move a running statistic towards the newest value; once a batch, also if ``checkpoint`` runs it twice."""
    if running is not None and not is_recomputing():
        running.lerp_(cast(newest, running.dtype), momentum)


@fused()
@widened
def _batch_norm_eval(
    x: Tensor, average: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, *, eps: float
) -> Tensor:
    scale = _affine(rsqrt(variance + eps), weight, None)
    centre, *rest = _per_channel(x.ndim, average, scale, bias)
    return _affine(x - centre, *rest)


def _by_running(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    op: str,
) -> Tensor:
    """One scale and one shift for each channel."""
    if running_mean is None or running_var is None:
        raise ValueError(f"{op}: to normalise without the input's statistics, pass running_mean and running_var")
    numbers = [None if p is None else cast(p, x.dtype) for p in (running_mean, running_var, weight, bias)]
    return _batch_norm_eval(x, *numbers, eps=eps)


# --- vectors


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Vectors along ``dim`` divided by their norm of order ``p``, or by ``eps`` if that is larger."""
    return input / vector_norm(input, p, dim, True).clamp(min=eps)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along ``dim``; norms below ``eps`` count as ``eps``. Inputs broadcast."""
    x1, x2 = operands(x1, x2)
    if x1.shape != x2.shape:
        shape = np.broadcast_shapes(x1.shape, x2.shape)
        x1, x2 = x1.broadcast_to(shape), x2.broadcast_to(shape)
    lengths = [vector_norm(x, 2, dim).clamp(min=eps) for x in (x1, x2)]
    return sum(x1 * x2, dim) / (lengths[0] * lengths[1])


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The norm of order ``p`` of ``x1 - x2 + eps`` over the last dimension."""
    return vector_norm(x1 - x2 + eps, p, -1, keepdim)
