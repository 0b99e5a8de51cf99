"""Dropout. The mask is drawn from a generator, so ``checkpoint`` draws the same one again.

That of whole channels enters as a constant. That of elements is not kept: its op notes the counter it is drawn from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..declare import Primitive, primitive
from ..rng import Generator, default_generator
from ..tensor import Tensor, wrap

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d"]


def _check(op: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{op}: p must be a probability, from 0 to 1, got {p}")


def _kept(input: Tensor, shape: tuple[int, ...], p: float, generator: Generator | None) -> Any:
    """An array of bools, True with probability ``1 - p``."""
    return (generator or default_generator).uniform(shape, np.float32, input.device) >= p


def _scaled(input: Tensor, shape: tuple[int, ...], p: float, generator: Generator | None) -> Tensor:
    """``input`` times a mask of ``shape`` that keeps its expectation."""
    mask = _kept(input, shape, p, generator).astype(input.dtype)
    if p < 1:
        mask *= 1 / (1 - p)
    return input * wrap(mask, input.device)


_dropout: Primitive = primitive("dropout", None, (lambda g, y, x, **attrs: _dropout(g, **attrs),))  # linear, symmetric


def dropout(input: Tensor, p: float = 0.5, training: bool = True, *, generator: Generator | None = None) -> Tensor:
    """In training 0 with probability ``p``, else ``input / (1 - p)``, for each element (Srivastava et al. 2014)."""
    _check("dropout", p)
    if not training or p == 0:
        return input
    key, counter = (generator or default_generator).reserve(input.numel(), input.device)
    return _dropout(input, key=key, counter=counter, p=p)


def _feature_dropout(
    op: str, spatial: int, input: Tensor, p: float, training: bool, generator: Generator | None
) -> Tensor:
    _check(op, p)
    lead = input.ndim - spatial
    if lead not in (1, 2):
        raise ValueError(
            f"{op}: expected an input (N, C, ...) or (C, ...) with {spatial} further dimensions, "
            f"got shape {list(input.shape)}"
        )
    shape = input.shape[:lead] + (1,) * spatial
    return _scaled(input, shape, p, generator) if training and p else input


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, *, generator: Generator | None = None) -> Tensor:
    """``dropout`` of whole channels of (N, C, L) or (C, L)."""
    return _feature_dropout("dropout1d", 1, input, p, training, generator)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, *, generator: Generator | None = None) -> Tensor:
    """``dropout`` of whole channels of (N, C, H, W) or (C, H, W) (Tompson et al. 2015)."""
    return _feature_dropout("dropout2d", 2, input, p, training, generator)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, *, generator: Generator | None = None) -> Tensor:
    """``dropout`` of whole channels of (N, C, D, H, W) or (C, D, H, W)."""
    return _feature_dropout("dropout3d", 3, input, p, training, generator)


DROPPED = -1.7580993408473766  # what selu tends to for x -> -inf


def alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Dropout for ``selu``: dropped elements take its lowest value, and a scale and a shift keep mean 0, variance 1.

    Klambauer et al. 2017, section 3.
    """
    _check("alpha_dropout", p)
    if not training or p == 0:
        return input
    if p == 1:
        return input * 0
    keep = 1 - p
    scale = (keep + DROPPED**2 * keep * p) ** -0.5
    mask = _kept(input, input.shape, p, generator)
    multiplier = (mask * scale).astype(input.dtype)
    shift = (~mask * (DROPPED * scale) - DROPPED * scale * p).astype(input.dtype)
    return input * wrap(multiplier, input.device) + wrap(shift, input.device)
