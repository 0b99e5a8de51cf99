"""Random draws from explicit generators; the default one is used if none is given.

Numbers fill a tensor in row-major order whatever its strides, so a seed gives the same numbers in every layout and on
every device. Draws have no derivative: write ``mean + std * randn_like(mean)`` to differentiate through one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import no_grad
from ..declare import method
from ..device import Device
from ..rng import Generator, default_generator
from ..tensor import Tensor, wrap
from .create import Place, finished, place, size_of
from .elementwise import common, floating

__all__ = [
    "bernoulli", "exponential", "gumbel", "multinomial", "normal", "rand", "rand_like", "randint", "randint_like",
    "randn", "randn_like", "randperm",
]  # fmt: skip


def _float_dtype(op: str, dtype: Any) -> np.dtype:
    chosen = dtypes.get_default_dtype() if dtype is None else np.dtype(dtype)
    if chosen.kind != "f":
        raise TypeError(f"{op}: expected a floating-point dtype, got {chosen}")
    return chosen


# --- uniform, normal, integers


def rand(
    *shape: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Place = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers uniform on [0, 1)."""
    where, kind = place(device), _float_dtype("rand", dtype)
    array = (generator or default_generator).uniform(size_of(shape, size), kind, where)
    return finished(array, where, requires_grad)


def randn(
    *shape: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Place = None,
    requires_grad: bool = False,
) -> Tensor:
    """Standard normal numbers."""
    where, kind = place(device), _float_dtype("randn", dtype)
    array = (generator or default_generator).normal(size_of(shape, size), kind, where)
    return finished(array, where, requires_grad)


def rand_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Place = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers uniform on [0, 1), with the shape, dtype and device of ``input``."""
    dtype, device = dtype or input.dtype, device or input.device
    return rand(input.shape, generator=generator, dtype=dtype, device=device, requires_grad=requires_grad)


def randn_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Place = None,
    requires_grad: bool = False,
) -> Tensor:
    """Standard normal numbers, with the shape, dtype and device of ``input``."""
    dtype, device = dtype or input.dtype, device or input.device
    return randn(input.shape, generator=generator, dtype=dtype, device=device, requires_grad=requires_grad)


def randint(
    low: Any,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Place = None,
) -> Tensor:
    """``randint(low, high, size)``: integers uniform on low .. high - 1. ``randint(high, size)``: from 0."""
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if size is None:
        raise TypeError("randint: the size is missing; write randint(low, high, size) or randint(high, size)")
    where = place(device)
    array = (generator or default_generator).integers(int(low), int(high), size_of((), size), where)
    return wrap(array.astype(dtype or dtypes.int64, copy=False), where)


def randperm(n: int, *, generator: Generator | None = None, dtype: Any = None, device: Place = None) -> Tensor:
    """The numbers 0 .. n - 1 in random order, int64."""
    where = place(device)
    array = (generator or default_generator).permutation(n, where)
    return wrap(array.astype(dtype or dtypes.int64, copy=False), where)


def randint_like(
    input: Tensor, low: Any, high: Any = None, *, generator: Generator | None = None, dtype: Any = None
) -> Tensor:
    """``randint`` with the shape, dtype and device of ``input``."""
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, input.shape, generator=generator, dtype=dtype or input.dtype, device=input.device)


def normal(
    mean: Any,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Place = None,
) -> Tensor:
    """Normal numbers: of shape ``size``, or one for each element of tensors ``mean`` and ``std``, which broadcast."""
    if size is None:
        mean, std = (floating(x) for x in common(mean, std))
        tensors = [x for x in (mean, std) if isinstance(x, Tensor)]
        size = np.broadcast_shapes(*[x.shape for x in tensors])
        dtype, device = dtype or tensors[0].dtype, tensors[0].device
    _require(std, lambda x: x >= 0, "normal: the standard deviation must not be negative")
    with no_grad():
        return randn(size, generator=generator, dtype=dtype, device=device) * std + mean


# --- other distributions


def _require(x: Any, holds: Any, message: str) -> None:
    """Check a condition on values where they are at hand; to look at a GPU's would mean to wait for it."""
    values = x.array if isinstance(x, Tensor) else x
    if type(values).__module__.partition(".")[0] != "cupy" and not np.all(holds(np.asarray(values))):
        raise ValueError(message)


def check_probabilities(op: str, p: Any) -> None:
    """Refuse numbers outside [0, 1]."""
    _require(p, lambda p: (p >= 0) & (p <= 1), f"{op}: probabilities must lie in [0, 1]")


def bernoulli_draw(p: Any, shape: tuple[int, ...], dtype: Any, device: Device, generator: Generator | None) -> Any:
    """An array of ones with probability ``p`` (a number or an array) and zeros."""
    fine = np.float64 if getattr(p, "dtype", None) == np.float64 else np.float32
    return ((generator or default_generator).uniform(shape, fine, device) < p).astype(dtype)


@method()
def bernoulli(input: Tensor, *, generator: Generator | None = None) -> Tensor:
    """1 with the probabilities ``input``, else 0."""
    check_probabilities("bernoulli", input)
    array = bernoulli_draw(input.array, input.shape, input.dtype, input.device, generator)
    return wrap(array, input.device)


def exponential_draw(size: tuple[int, ...], device: Device, generator: Generator | None) -> Any:
    """Standard exponential numbers in float64; never 0, whose logarithm and inverse they are used for."""
    u = (generator or default_generator).uniform(size, np.float64, device)
    return np.maximum(-np.log1p(-u), 2.0**-54)


def exponential(*size: Any, generator: Generator | None = None, dtype: Any = None, device: Place = None) -> Tensor:
    """Standard exponential numbers: positive, of mean 1."""
    where = place(device)
    array = exponential_draw(size_of(size), where, generator)
    return wrap(array.astype(_float_dtype("exponential", dtype)), where)


def gumbel(*size: Any, generator: Generator | None = None, dtype: Any = None, device: Place = None) -> Tensor:
    """Standard Gumbel numbers g: ``argmax(logits + g)`` is a draw from the categorical distribution of ``logits``."""
    where = place(device)
    array = -np.log(exponential_draw(size_of(size), where, generator))
    return wrap(array.astype(_float_dtype("gumbel", dtype)), where)


@method()
def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Indices, int64, drawn with the weights ``input`` (n) or in each row of it (m, n); shape (num_samples) or
    (m, num_samples). The weights need not sum to 1. Without replacement they come in the order drawn.
    """
    if input.ndim not in (1, 2) or input.dtype.kind != "f":
        raise ValueError(
            f"multinomial: expected floating-point weights (n) or (m, n), got {input.dtype}{list(input.shape)}"
        )
    if num_samples < 1:
        raise ValueError(f"multinomial: num_samples must be positive, got {num_samples}")
    _require(input, lambda w: (w >= 0) & (w < np.inf), "multinomial: weights must be finite and not negative")
    enough = (lambda w: w.any(axis=-1)) if replacement else (lambda w: np.count_nonzero(w, axis=-1) >= num_samples)
    _require(input, enough, f"multinomial: too few positive weights to draw {num_samples} from")
    weights = input.array.astype(np.float64).reshape(-1, input.shape[-1])
    draw = _with_replacement if replacement else _without_replacement
    indices = draw(weights, num_samples, input.device, generator)
    return wrap(indices.astype(np.int64).reshape(*input.shape[:-1], num_samples), input.device)


def _without_replacement(weights: Any, count: int, device: Device, generator: Generator | None) -> Any:
    """A race: each item arrives after an exponential time of rate ``weight``, and the first ``count`` are taken."""
    with np.errstate(divide="ignore"):
        log_times = np.log(exponential_draw(weights.shape, device, generator)) - np.log(weights)
    return np.argsort(log_times, axis=-1)[:, :count]


def _with_replacement(weights: Any, count: int, device: Device, generator: Generator | None) -> Any:
    """Where uniform numbers fall in the cumulative weights, those of row i shifted to [i, i + 1] to search just once.

    Searching from the right passes over items of weight 0, whose interval is empty.
    """
    rows, n = weights.shape
    row = device.xp.arange(rows, dtype=np.float64)[:, None]
    edges = np.cumsum(weights / weights.max(axis=-1, keepdims=True), axis=-1)
    edges = row + edges / edges[:, -1:]
    u = row + (generator or default_generator).uniform((rows, count), np.float64, device)
    u = np.minimum(u, np.nextafter(row + 1, 0))  # the sum may have rounded up to the next row
    found = np.searchsorted(edges.reshape(-1), u.reshape(-1), side="right").reshape(rows, count)
    return found - n * row.astype(np.int64)
