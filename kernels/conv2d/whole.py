"""Convolution whose one window is the whole image: to the first image of a generator, to the numbers of an encoder.

It is a product of matrices, an image being one row. The filter's rows lie in the order channel, row, column, so
channels-last images are turned into that order and back, which costs less than the product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import empty_channels_last
from ..matmul.cpu import multiply
from ..registry import kernel
from .direct import LEAST_WORK
from .reference import Pair, conv2d_cost, conv2d_input_cost, conv2d_weight_cost

F4 = np.dtype(np.float32)
LEAST_FILTERS = 8  # with fewer the turning of the images would cost more than the product


def _fits(
    image: tuple[int, ...],
    taps: Pair,
    size: Pair,
    filters: int,
    work: int,
    *,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> bool:
    one_window = image == taps and size == (1, 1) and padding == (0, 0) and dilation == (1, 1)
    return one_window and groups == 1 and filters >= LEAST_FILTERS and work >= LEAST_WORK


def _rows(x: np.ndarray) -> np.ndarray:
    """Each image, or filter, as a row: by channel, row and column."""
    return np.ascontiguousarray(x).reshape(len(x), -1)


def _conv2d_when(x: Any, w: Any, b: Any, *, size: Pair, stride: Pair, **how: Any) -> bool:
    return _fits(x.shape[2:], w.shape[2:], size, len(w), x.size * len(w), **how)


_on_cpu: dict[str, Any] = {"impl": "whole", "device": "cpu", "dtypes": "f4", "priority": 9}


@kernel("conv2d", when=_conv2d_when, cost=conv2d_cost, **_on_cpu)
def conv2d(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, *, size: Pair, **how: Any) -> np.ndarray:
    """As the reference."""
    y = np.empty((len(x), len(w), 1, 1), F4)
    seed = () if b is None else (np.ascontiguousarray(b)[None],)
    multiply(_rows(x), _rows(w).T, y[:, :, 0, 0], *seed)
    return y


def _conv2d_input_when(y: Any, w: Any, b: Any, *, size: Pair, stride: Pair, **how: Any) -> bool:
    return _fits(size, w.shape[2:], y.shape[2:], len(w), len(y) * w.size, **how)


@kernel("conv2d_input", when=_conv2d_input_when, cost=conv2d_input_cost, **_on_cpu)
def conv2d_input(y: np.ndarray, w: np.ndarray, b: np.ndarray | None, *, size: Pair, **how: Any) -> np.ndarray:
    """As the reference."""
    x = np.empty((len(y), *w.shape[1:]), F4)
    multiply(y[:, :, 0, 0], _rows(w), x.reshape(len(y), -1))
    last = empty_channels_last(x.shape, F4)
    if b is None:
        last[...] = x
    else:
        np.add(x, b[:, None, None], out=last)
    return last


def _conv2d_weight_when(x: Any, y: Any, *, size: Pair, stride: Pair, **how: Any) -> bool:
    return _fits(x.shape[2:], size, y.shape[2:], y.shape[1], x.size * y.shape[1], **how)


@kernel("conv2d_weight", when=_conv2d_weight_when, cost=conv2d_weight_cost, **_on_cpu)
def conv2d_weight(x: np.ndarray, y: np.ndarray, *, size: Pair, **how: Any) -> np.ndarray:
    """As the reference."""
    w = np.empty((y.shape[1], *x.shape[1:]), F4)
    multiply(y[:, :, 0, 0].T, _rows(x), w.reshape(len(w), -1))
    return w
