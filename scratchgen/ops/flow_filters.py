"""The filters that a flow's convolutions are given, each set made of its parameters in one op."""

from __future__ import annotations

from ..declare import fused
from ..tensor import Tensor
from .create import eye
from .diagonal import tril, triu
from .math import exp
from .matmul import matmul
from .reduce import sum

__all__ = ["mixing_filters", "scaled_filters"]


@fused(several=2)
def _scaled_filters(weight: Tensor, bias: Tensor, log_scale: Tensor, *, gain: float) -> tuple[Tensor, Tensor]:
    s = exp(gain * log_scale)
    return weight * s.reshape(-1, *[1] * (weight.ndim - 1)), bias * s


def scaled_filters(weight: Tensor, bias: Tensor, log_scale: Tensor, gain: float = 1.0) -> tuple[Tensor, Tensor]:
    """``weight`` [out, ...] and ``bias`` [out] times ``exp(gain * log_scale)``, ``log_scale`` [out].

    A convolution or a linear layer with these gives that of ``weight`` and ``bias``, times a scale for each output,
    without a pass over the result. Raises ValueError for shapes that do not go together.
    """
    if weight.ndim < 1 or not weight.shape[:1] == bias.shape == log_scale.shape:
        shapes = [list(x.shape) for x in (weight, bias, log_scale)]
        raise ValueError(f"scaled_filters: expected weight [out, ...], bias and log_scale [out], got {shapes}")
    return _scaled_filters(weight, bias, log_scale, gain=gain)


@fused("permutation lower upper sign log_s log_scale bias y", several=3)
def _mixing_filters(
    permutation: Tensor, lower: Tensor, upper: Tensor, sign: Tensor, log_s: Tensor, log_scale: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    one = eye(len(log_s), dtype=log_s.dtype, device=log_s.device)
    low, up = tril(lower, -1) + one, triu(upper, 1) + one * (sign * exp(log_s))
    weight = matmul(permutation, matmul(low, up)) * exp(log_scale)
    return weight, matmul(weight, bias), sum(log_s) + sum(log_scale)


def mixing_filters(
    permutation: Tensor, lower: Tensor, upper: Tensor, sign: Tensor, log_s: Tensor, log_scale: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Weight [n, n] and bias [n] of a 1x1 convolution after actnorm, and the logarithm of its determinant.

    The matrix is held as P L (U + diag(sign exp(log_s))), L lower triangular with ones on its diagonal, U upper
    triangular with zeros there (Kingma and Dhariwal 2018, 10); whatever else ``lower`` and ``upper`` [n, n] hold is
    not looked at. Actnorm is exp(log_scale) (x + bias). Raises ValueError for shapes that do not go together.
    """
    n = len(log_s)
    square, rows = (permutation, lower, upper), (sign, log_s, log_scale, bias)
    if any(x.shape != (n, n) for x in square) or any(x.shape != (n,) for x in rows):
        shapes = [list(x.shape) for x in (*square, *rows)]
        raise ValueError(f"mixing_filters: expected three matrices [n, n] and four rows [n], got {shapes}")
    return _mixing_filters(permutation, lower, upper, sign, log_s, log_scale, bias)
