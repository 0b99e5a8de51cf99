"""What a training step is to the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..library import Library


@dataclass(frozen=True)
class Training:
    """A network of one library with its optimizer.

    ``modules``: what has weights, by name. ``draw``: a batch of NumPy arrays, its random numbers included, so that all
    libraries train on the same. ``step``: one update from such a batch as tensors; returns the loss, a scalar tensor.
    """

    modules: dict[str, Any]
    draw: Callable[[np.random.Generator], tuple[np.ndarray, ...]]
    step: Callable[..., Any]


@dataclass(frozen=True)
class Step:
    """A row of the table. ``bar``: peer's time / ours, at least.

    samples   of a batch
    images    memory layout matters
    agree     steps after which the libraries' losses are compared
    tolerance relative, of their difference; larger where each draws random numbers of its own
    """

    name: str
    build: Callable[[Library], Training]
    samples: int
    images: bool
    bar: float
    agree: int = 3
    tolerance: float = 1e-4


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Standard normal numbers in float32."""
    return rng.standard_normal(shape, np.float32)
