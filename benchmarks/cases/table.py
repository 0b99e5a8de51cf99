"""What a row of the table of ops is: an op written once against torch's names, its inputs, its bars."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

FORWARD, BOTH = "forward", "forward+backward"
FLOOR = 0.95  # no row may be slower than the best peer by more than this, whether it has a bar or not


class Bar(NamedTuple):
    """Peer's time / ours, at least: in every row of a group, and in their geometric mean."""

    each: float
    mean: float | None = None


class Group(NamedTuple):
    """Rows that are judged together. ``tolerance``: of the error relative to float64."""

    name: str
    bars: Mapping[str, Bar] = {}
    tolerance: float = 2e-6


class Draw(NamedTuple):
    """How an input is drawn; ``differentiate``: whether the backward pass computes its gradient."""

    make: Callable[[np.random.Generator], np.ndarray]
    says: str
    differentiate: bool = False


def normal(*shape: int, scale: float = 1.0, differentiate: bool = True) -> Draw:
    """Normal numbers of mean 0 and standard deviation ``scale``, in float32."""

    def make(rng: np.random.Generator) -> np.ndarray:
        return scale * rng.standard_normal(shape, np.float32)

    return Draw(make, f"{list(shape)} N(0, {scale:.3g}^2)", differentiate)


def integers(high: int, *shape: int) -> Draw:
    """Whole numbers from 0 to ``high`` - 1, all as likely."""
    return Draw(lambda rng: rng.integers(high, size=shape), f"{list(shape)} integers below {high}")


def constant(value: float, *shape: int) -> Draw:
    """One number everywhere, without a gradient."""
    return Draw(lambda rng: np.full(shape, value, np.float32), f"{list(shape)} all {value:g}")


@dataclass(frozen=True)
class Case:
    """``function(L, *inputs)`` of any ``Library``; returns a tensor or several.

    flops            of the forward pass by the plain formula: fast algorithms may pass the roof
    backward_flops   of forward and backward, as a multiple of that
    images           channels-last and NCHW are different cases for the peers
    stateful         ``function`` does not compute but returns two functions: the call to time, and its results
    same             what must agree with float64, made of inputs, cotangents and results; for ops that draw at random
    """

    name: str
    group: Group
    function: Callable[..., Any]
    inputs: tuple[Draw, ...]
    flops: float = 0.0
    backward_flops: float = 3.0
    images: bool = False
    stateful: bool = False
    directions: tuple[str, ...] = (BOTH,)
    bytes: float | None = None
    same: Callable[[list[np.ndarray], list[np.ndarray], list[np.ndarray]], list[np.ndarray]] | None = None

    def draw(self, number: int = 0) -> list[np.ndarray]:
        """Inputs, float32 or int64; each ``number`` gives others."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), number])
        return [draw.make(rng) for draw in self.inputs]

    def bar(self, direction: str) -> float | None:
        """The least ratio in this direction, apart from the floor that holds for all."""
        bar = self.group.bars.get(direction)
        return bar.each if bar else None

    def cost(self, direction: str, inputs: list[int], outputs: list[int], gradients: list[int]) -> tuple[float, float]:
        """Flops and bytes of a call, from the bytes of its arrays; each is moved once in each pass that needs it."""
        if self.bytes is not None:
            return self.flops, self.bytes
        forward = sum(inputs) + sum(outputs)
        if direction == FORWARD:
            return self.flops, forward
        return self.flops * self.backward_flops, 2 * forward + sum(gradients)


CASES: dict[str, Case] = {}


def case(name: str, group: Group, function: Callable[..., Any], *inputs: Draw, **options: Any) -> None:
    """Add a row."""
    if name in CASES:
        raise ValueError(f"two cases are called {name!r}")
    CASES[name] = Case(name, group, function, inputs, **options)


def fan_in(*shape: int) -> float:
    """The scale of weights (out, ...) that keeps the size of what they multiply."""
    return 1 / math.sqrt(math.prod(shape[1:]))
