"""Initial values of parameters, in place, under torch.nn.init's names.

Values are drawn on the CPU from ``generator`` (the default one if None), so they are the same for every device.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..changes import mark_changed
from ..device import cpu, move
from ..rng import Generator, default_generator
from ..tensor import Tensor

__all__ = [
    "calculate_gain", "constant_", "dirac_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_",
    "orthogonal_", "sparse_", "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_",
]  # fmt: skip


def _set(tensor: Tensor, values: Any) -> Tensor:
    tensor.array[...] = move(values, cpu, tensor.device) if isinstance(values, np.ndarray) else values
    mark_changed(tensor.array)
    return tensor


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform on [a, b)."""
    return _set(tensor, a + (b - a) * (generator or default_generator).uniform(tensor.shape, tensor.dtype))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    return _set(tensor, mean + std * (generator or default_generator).normal(tensor.shape, tensor.dtype))


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal, but only values within [a, b]; ``std`` is that of the untruncated distribution."""
    from scipy.special import ndtr, ndtri  # SciPy takes a while to import, and few models need it

    low, high = ndtr((a - mean) / std), ndtr((b - mean) / std)
    u = (generator or default_generator).uniform(tensor.shape, np.float64)
    return _set(tensor, np.clip(mean + std * ndtri(low + (high - low) * u), a, b))  # inverse of the distribution


def constant_(tensor: Tensor, val: float) -> Tensor:
    """The same value everywhere."""
    return _set(tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """All ones."""
    return _set(tensor, 1)


def zeros_(tensor: Tensor) -> Tensor:
    """All zeros."""
    return _set(tensor, 0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix: a linear layer with it copies its input."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: expected a matrix, got shape {list(tensor.shape)}")
    return _set(tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """The identity as a convolution weight ``(out, in / groups, *kernel)``: channels are copied as far as they go."""
    if not 3 <= tensor.ndim <= 5:
        raise ValueError(f"dirac_: expected a convolution weight of 3 to 5 dimensions, got {list(tensor.shape)}")
    if tensor.shape[0] % groups:
        raise ValueError(f"dirac_: {tensor.shape[0]} output channels do not divide into {groups} groups")
    values = np.zeros(tensor.shape)
    per_group = tensor.shape[0] // groups
    centre = tuple(n // 2 for n in tensor.shape[2:])
    for group in range(groups):
        for channel in range(min(per_group, tensor.shape[1])):
            values[(group * per_group + channel, channel, *centre)] = 1
    return _set(tensor, values)


# -------------------------------------------------------------------------------------- scaled to the layer's size


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that makes up for what a nonlinearity does to the variance. ``param``: leaky_relu's slope."""
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1 + slope**2))
    gains = {"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}
    gains |= dict.fromkeys(("linear", "sigmoid", "conv1d", "conv2d", "conv3d"), 1.0)
    gains |= dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), 1.0)
    if nonlinearity not in gains:
        raise ValueError(
            f"calculate_gain: unknown nonlinearity {nonlinearity!r}; known: leaky_relu, {', '.join(gains)}"
        )
    return gains[nonlinearity]


def fans(tensor: Tensor) -> tuple[int, int]:
    """How many inputs one output sums, and how many outputs one input goes to, of a weight ``(out, in, *kernel)``."""
    if tensor.ndim < 2:
        raise ValueError(f"fan in and fan out need a weight of at least 2 dimensions, got shape {list(tensor.shape)}")
    receptive_field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive_field, tensor.shape[0] * receptive_field


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return fans(tensor)[mode == "fan_out"]


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Glorot & Bengio 2010: uniform, of variance ``2 gain^2 / (fan_in + fan_out)``."""
    bound = gain * math.sqrt(6.0 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Glorot & Bengio 2010: normal, of variance ``2 gain^2 / (fan_in + fan_out)``."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(fans(tensor))), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """He et al. 2015: uniform, of variance ``gain^2 / fan``. ``a``: the slope if the nonlinearity is leaky_relu."""
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / max(_fan(tensor, mode), 1))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """He et al. 2015: normal, of variance ``gain^2 / fan``. ``a``: the slope if the nonlinearity is leaky_relu."""
    std = calculate_gain(nonlinearity, a) / math.sqrt(max(_fan(tensor, mode), 1))
    return normal_(tensor, 0.0, std, generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Orthogonal rows or columns, whichever are fewer, uniformly distributed (Saxe et al. 2014).

    Dimensions after the first are taken together as columns.
    """
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: expected at least 2 dimensions, got shape {list(tensor.shape)}")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    flat = (generator or default_generator).normal((max(rows, columns), min(rows, columns)), np.float64)
    q, r = np.linalg.qr(flat)
    q *= np.sign(np.diag(r))  # without it QR's choice of signs makes the distribution uneven (Mezzadri 2007)
    return _set(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Normal, with the share ``sparsity`` of each column set to zero (Martens 2010)."""
    if tensor.ndim != 2:
        raise ValueError(f"sparse_: expected a matrix, got shape {list(tensor.shape)}")
    generator = generator or default_generator
    rows, columns = tensor.shape
    values = std * generator.normal(tensor.shape, tensor.dtype)
    for column in range(columns):
        values[generator.permutation(rows)[: math.ceil(sparsity * rows)], column] = 0
    return _set(tensor, values)
