"""What a row of the table is, and what its inputs are drawn from.

A case is a function of a library and of tensors, so the same lines run on scratchgen and on torch. Inputs are drawn so
that no kink, tie or pole lies within 0.04 of them, which is further than differences look. Each case draws from a
generator of its own, so adding one changes no other.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Library:
    """scratchgen or torch: ``L.exp`` is its ``exp``, ``L.F.gelu`` that of its ``nn.functional``."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.F = module.nn.functional

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def like(self, x: Any, values: Any) -> Any:
        """A constant with the dtype and device of ``x``: no variable, so without a derivative."""
        return self.module.as_tensor(np.asarray(values), dtype=x.dtype, device=x.device)


# --- inputs


class Draw(NamedTuple):
    """How to draw an array; its last ``core`` dimensions belong together, like those of an invertible matrix."""

    make: Callable[[np.random.Generator], np.ndarray]
    core: int = 0


def normal(*shape: int) -> Draw:
    """Standard normal."""
    return Draw(lambda rng: np.asarray(rng.standard_normal(shape)))


def uniform(low: float, high: float, *shape: int) -> Draw:
    """Between two numbers."""
    return Draw(lambda rng: np.asarray(rng.uniform(low, high, shape)))


def positive(*shape: int) -> Draw:
    """Between 0.5 and 2."""
    return uniform(0.5, 2.0, *shape)


def small(*shape: int) -> Draw:
    """Between 0.05 and 0.2."""
    return uniform(0.05, 0.2, *shape)


def tiny(*shape: int) -> Draw:
    """Closer to 0 than 0.005."""
    return uniform(-0.005, 0.005, *shape)


def inside(*shape: int) -> Draw:
    """Between -1 and 1."""
    return uniform(-0.8, 0.8, *shape)


def probability(*shape: int) -> Draw:
    """Between 0.15 and 0.85."""
    return uniform(0.15, 0.85, *shape)


def apart(*shape: int) -> Draw:
    """Distinct numbers of distinct magnitudes, half-way between the multiples of 0.1, where kinks are."""

    def make(rng: np.random.Generator) -> np.ndarray:
        size = math.prod(shape)
        magnitude = 0.35 + 0.1 * rng.permutation(size)
        return np.asarray((magnitude * rng.choice([-1.0, 1.0], size)).reshape(shape))

    return Draw(make)


def distribution(*shape: int) -> Draw:
    """Probabilities that sum to 1 along the last dimension."""

    def make(rng: np.random.Generator) -> np.ndarray:
        p = rng.uniform(0.2, 1.0, shape)
        return p / p.sum(-1, keepdims=True)

    return Draw(make)


def regular(*shape: int) -> Draw:
    """Well-conditioned matrices with singular values 1, 1.5, 2 ..."""

    def make(rng: np.random.Generator) -> np.ndarray:
        u, s, vh = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
        return (u * (1 + 0.5 * np.arange(s.shape[-1]))) @ vh

    return Draw(make, core=2)


def definite(*shape: int) -> Draw:
    """Symmetric matrices with eigenvalues 1, 1.5, 2 ..."""

    def make(rng: np.random.Generator) -> np.ndarray:
        q = np.linalg.qr(rng.standard_normal(shape))[0]
        return (q * (1 + 0.5 * np.arange(shape[-1]))) @ np.swapaxes(q, -1, -2)

    return Draw(make, core=2)


def integers(high: int, *shape: int) -> Draw:
    """From 0 to ``high`` - 1, with duplicates."""
    return Draw(lambda rng: np.asarray(rng.integers(high, size=shape)))


def mask(*shape: int) -> Draw:
    """Bools, of which the first is True and the last is False."""

    def make(rng: np.random.Generator) -> np.ndarray:
        chosen = rng.random(shape) < 0.5
        chosen.reshape(-1)[0], chosen.reshape(-1)[-1] = True, False
        return chosen

    return Draw(make)


# --- the table


class Case(NamedTuple):
    """``function(L, *tensors)`` at inputs; derivatives are checked to ``order``.

    Order 0: the gradient is by design not the derivative. ``unlike_torch``: why torch is no oracle; empty if it is one.
    """

    name: str
    function: Callable[..., Any]
    inputs: tuple[Draw | np.ndarray, ...]
    order: int
    unlike_torch: str

    def arrays(self) -> list[np.ndarray]:
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        return [x.make(rng) if isinstance(x, Draw) else x.copy() for x in self.inputs]

    @property
    def torch_error(self) -> float:
        """How far torch itself is off, relative, where that is more than rounding."""
        return next((error for start, error in ROUGH_IN_TORCH.items() if self.name.startswith(start)), 0.0)

    def core(self, i: int) -> int:
        """How many trailing dimensions of input ``i`` belong together."""
        given = self.inputs[i]
        return given.core if isinstance(given, Draw) else given.ndim


CASES: dict[str, Case] = {}
# By the beginning of a row's name. Derivatives with a constant in float32, and short series.
ROUGH_IN_TORCH = {"hardsigmoid": 1e-7, "celu with alpha": 1e-7, "digamma": 1e-9, "polygamma": 1e-9}
NOT_IN_TORCH = "torch has no such function"
OWN_NUMBERS = "it draws random numbers of its own"


def case(name: str, function: Callable[..., Any], *inputs: Any, order: int = 2, unlike_torch: str = "") -> None:
    """Add a row."""
    if name in CASES:
        raise ValueError(f"two cases are called {name!r}")
    given = tuple(x if isinstance(x, Draw) else np.asarray(x) for x in inputs)
    CASES[name] = Case(name, function, given, order, unlike_torch)
