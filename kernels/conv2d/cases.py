"""What convolutions are compared on: sizes of real layers, and every parameter away from its default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..compare import Case, cases
from .reference import Pair, reach


class Layer(NamedTuple):
    """Shapes of x and w, and the geometry."""

    name: str
    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


LAYERS = (
    Layer("3x3", (4, 32, 14, 14), (32, 32, 3, 3), padding=(1, 1)),
    Layer("3x3, ragged", (3, 17, 7, 9), (20, 17, 3, 3), padding=(1, 0)),
    Layer("3x3 of 2x2 images", (5, 24, 2, 2), (9, 24, 3, 3), padding=(1, 1)),
    Layer("3x3, padded beyond the kernel", (2, 8, 5, 4), (8, 8, 3, 3), padding=(3, 2)),
    Layer("3x3, wide", (2, 96, 16, 12), (80, 96, 3, 3), padding=(1, 1)),
    Layer("3x3 to many channels", (2, 4, 9, 11), (48, 4, 3, 3), padding=(1, 1)),
    Layer("3x3 from many channels to few", (24, 40, 14, 13), (3, 40, 3, 3), padding=(1, 0)),
    Layer("3x3 from few channels to many", (24, 3, 14, 13), (40, 3, 3, 3), padding=(0, 1)),
    Layer("5x4 to two channels, far beyond the edges", (70, 33, 9, 8), (2, 33, 5, 4), padding=(6, 5)),
    Layer("1x1", (4, 32, 7, 7), (64, 32, 1, 1)),
    Layer("1x1 of many pixels", (6, 17, 14, 14), (48, 17, 1, 1)),
    Layer("1x1 with a stride", (2, 8, 9, 7), (5, 8, 1, 1), stride=(2, 3)),
    Layer("first layer", (4, 1, 28, 28), (16, 1, 5, 5), padding=(2, 2)),
    Layer("4x4 with stride 2", (4, 16, 16, 16), (32, 16, 4, 4), stride=(2, 2), padding=(1, 1)),
    Layer("3x3 with stride 2", (4, 16, 16, 15), (32, 16, 3, 3), stride=(2, 2), padding=(1, 1)),
    Layer("5x5 with stride 2", (4, 16, 15, 16), (32, 16, 5, 5), stride=(2, 2), padding=(2, 2)),
    Layer("5x5", (4, 16, 14, 14), (32, 16, 5, 5), padding=(2, 2)),
    Layer("whole images", (20, 24, 7, 5), (40, 24, 7, 5)),
    Layer("whole images, strided", (20, 24, 3, 4), (40, 24, 3, 4), stride=(2, 3)),
    Layer("patches", (2, 3, 32, 32), (24, 3, 8, 8), stride=(8, 8)),
    Layer("rows that no window reaches", (2, 3, 10, 12), (4, 3, 3, 2), stride=(4, 3)),
    Layer("dilated", (2, 6, 15, 13), (8, 6, 3, 2), padding=(2, 3), dilation=(2, 3)),
    Layer("signal", (3, 8, 1, 50), (8, 8, 1, 5), stride=(1, 2), padding=(0, 2)),
    Layer("grouped", (2, 12, 9, 9), (6, 4, 3, 3), padding=(1, 1), groups=3),
    Layer("depthwise", (4, 24, 14, 14), (24, 1, 3, 3), padding=(1, 1), groups=24),
    Layer("depthwise, strided and dilated", (2, 5, 17, 12), (5, 1, 3, 5), (2, 1), (1, 3), (3, 2), 5),
    Layer("more padding than kernel", (2, 3, 4, 5), (4, 3, 2, 2), padding=(3, 2)),
    Layer("several blocks", (3, 16, 64, 64), (8, 16, 3, 3), padding=(1, 1)),
    Layer("no images", (0, 4, 8, 8), (6, 4, 3, 3)),
)


def _problems(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]]:
    """Each layer's name, an x, a w and a y of its shapes, and what its three kernels share; in two memory layouts."""
    for name, x, w, stride, padding, dilation, groups in LAYERS:
        lengths = zip(x[2:], w[2:], stride, padding, dilation)
        size = [(m + 2 * p - reach(d, t)) // step + 1 for m, t, step, p, d in lengths]
        how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        first, weight, last = (rng.standard_normal(shape) for shape in (x, w, (x[0], w[0], *size)))
        yield name, first, weight, last, how
        yield f"{name}, channels last", _channels_last(first), weight, _channels_last(last), how


def _channels_last(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)


@cases("conv2d")
def values(rng: np.random.Generator) -> Iterator[Case]:
    """With a bias in every other case."""
    for i, (name, x, w, y, how) in enumerate(_problems(rng)):
        yield Case(name, (x, w, rng.standard_normal(len(w)) if i % 2 else None), {"size": y.shape[2:], **how})


@cases("conv2d_residual")
def values_and_residuals(rng: np.random.Generator) -> Iterator[Case]:
    """The residual in the layout of the other images, and once as a part of a larger array."""
    for i, (name, x, w, y, how) in enumerate(_problems(rng)):
        more = _channels_last(np.concatenate([y, y], 1))[:, : y.shape[1]] if i % 4 == 1 else y
        bias = rng.standard_normal(len(w)) if i % 2 else None
        yield Case(name, (x, w, bias, more), {"size": y.shape[2:], **how})


@cases("conv2d_input")
def input_gradients(rng: np.random.Generator) -> Iterator[Case]:
    """With a bias in every other case: that makes it a transposed convolution."""
    for i, (name, x, w, y, how) in enumerate(_problems(rng)):
        yield Case(name, (y, w, rng.standard_normal(x.shape[1]) if i % 2 else None), {"size": x.shape[2:], **how})


@cases("conv2d_weight")
def weight_gradients(rng: np.random.Generator) -> Iterator[Case]:
    """From inputs and outputs alone."""
    for name, x, w, y, how in _problems(rng):
        yield Case(name, (x, y), {"size": w.shape[2:], **how})


@cases("conv2d_weight_bias")
def weight_and_bias_gradients(rng: np.random.Generator) -> Iterator[Case]:
    """As ``conv2d_weight``."""
    yield from weight_gradients(rng)
