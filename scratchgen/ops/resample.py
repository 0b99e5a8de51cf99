"""Interpolation: separable sparse linear maps of images, one op closed under differentiation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ..declare import Primitive, primitive
from ..kernels.resample import AxisMap, windows
from ..tensor import Tensor
from .spatial import as_images, each, like_input

__all__ = ["interpolate", "upsample", "upsample_bilinear", "upsample_nearest"]

_resample2d: Primitive = primitive(
    "resample2d",
    None,
    (
        lambda g, y, x, *, rows, columns: _resample2d(
            g, rows=rows and rows.transpose, columns=columns and columns.transpose
        ),
    ),
)


def resample(input: Tensor, maps: Sequence[AxisMap]) -> Tensor:
    """``input`` (N, C, *lengths) or (C, *lengths) with a map applied along each of its last dimensions."""
    rows = maps[0] if len(maps) == 2 else None
    return like_input(_resample2d(as_images(input, len(maps)), rows=rows, columns=maps[-1]), input, len(maps))


# --- maps along one axis. Pixels are unit intervals, and an output stands for ``scale`` inputs


def _triangle(distance: np.ndarray) -> np.ndarray:
    """Linear interpolation between neighbours."""
    return np.maximum(1 - np.abs(distance), 0)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution (Keys, 1981, equation 15); ``a`` is its slope at distance 1."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = a * (((d - 5) * d + 8) * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


_REACH = {"linear": 1, "cubic": 2}  # of the weight functions; their parameters are torch's
_WEIGHT: dict[str, Callable] = {"linear": _triangle, "cubic": partial(_cubic, a=-3 / 4)}
_ANTIALIASED_WEIGHT: dict[str, Callable] = {"linear": _triangle, "cubic": partial(_cubic, a=-1 / 2)}


def _centres(outputs: int, scale: float) -> np.ndarray:
    """Where the middle of each output lies, input 0 being at 0."""
    return (np.arange(outputs) + 0.5) * scale - 0.5


def _corner_scale(inputs: int, outputs: int) -> float:
    """The scale that puts the centres of the first and of the last pixels together."""
    return (inputs - 1) / (outputs - 1) if outputs > 1 else 0.0


@lru_cache(maxsize=64)
def interpolation(kind: str, inputs: int, outputs: int, scale: float, align_corners: bool) -> AxisMap:
    """Linear or cubic interpolation; positions beyond the edges repeat the outermost input."""
    if align_corners:
        position = np.arange(outputs) * _corner_scale(inputs, outputs)
    elif kind == "linear" and inputs == outputs:
        position = np.arange(outputs) * 1.0  # whatever the scale: a rule of torch's, which its cubic does not follow
    else:
        position = _centres(outputs, scale)
    reach = _REACH[kind]
    taps = np.floor(position).astype(np.int64)[:, None] + np.arange(1 - reach, 1 + reach)
    weight = _WEIGHT[kind](taps - position[:, None])
    into = np.repeat(np.arange(outputs), 2 * reach)
    return AxisMap(inputs, outputs, into, taps.clip(0, inputs - 1).ravel(), weight.ravel())


@lru_cache(maxsize=64)
def antialiased(kind: str, inputs: int, outputs: int, scale: float, align_corners: bool) -> AxisMap:
    """As ``interpolation``, but what shrinks is averaged: the weight function is as wide as an output.

    It covers inputs only and adds up to 1. ``align_corners`` changes the scale but not the positions, as in torch.
    """
    if align_corners:
        scale = _corner_scale(inputs, outputs)
    width = max(scale, 1.0)
    reach = math.ceil(_REACH[kind] * width)
    position = _centres(outputs, scale)
    taps = np.floor(position).astype(np.int64)[:, None] + np.arange(1 - reach, 1 + reach)
    weight = _ANTIALIASED_WEIGHT[kind]((taps - position[:, None]) / width)
    weight[(taps < 0) | (taps >= inputs)] = 0
    weight /= weight.sum(1, keepdims=True)
    into, tap = np.nonzero(weight)
    return AxisMap(inputs, outputs, into, taps[into, tap], weight[into, tap])


@lru_cache(maxsize=64)
def nearest(inputs: int, outputs: int, scale: float, exact: bool) -> AxisMap:
    """One input for each output: where the output begins, or ``exact``: where its middle is.

    In float32, as torch computes it, since rounding decides which input that is.
    """
    places = np.arange(outputs)
    if not exact and outputs in (inputs, 2 * inputs):
        index = places * inputs // outputs  # whatever the scale: a rule of torch's
    else:
        index = np.floor((places + np.float32(0.5 * exact)).astype(np.float32) * np.float32(scale)).astype(np.int64)
    index = np.minimum(index, inputs - 1)
    return windows(inputs, index, index + 1, 1)


@lru_cache(maxsize=64)
def area(inputs: int, outputs: int) -> AxisMap:
    """The mean of all inputs that an output overlaps: adaptive average pooling."""
    first, last = adaptive_windows(inputs, outputs)
    return windows(inputs, first, last, 1, 1 / (last - first))


def adaptive_windows(inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """The first input that each of ``outputs`` equal parts of an axis overlaps, and the one after the last."""
    places = np.arange(outputs)
    return places * inputs // max(outputs, 1), -(-(places + 1) * inputs // max(outputs, 1))


# --- the public functions

_MODES = ("nearest", "nearest-exact", "area", "linear", "bilinear", "bicubic")
_DIMS = {"linear": 1, "bilinear": 2, "bicubic": 2}  # the modes that are for one number of dimensions only


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """``input`` (N, C, L) or (N, C, H, W) resampled to ``size``, or to its size times ``scale_factor`` rounded down.

    ``mode``: nearest, nearest-exact, area, linear (signals), bilinear or bicubic (images). ``align_corners``: the
    centres of the outermost pixels, not their outer edges, stay where they are. ``recompute_scale_factor``: positions
    follow the ratio of the sizes instead of ``scale_factor`` itself. ``antialias``: low-pass before shrinking.
    """
    dims = input.ndim - 2
    _check(input, dims, mode, align_corners, antialias)
    lengths = input.shape[2:]
    sizes, factors = _target(input, lengths, size, scale_factor)
    if size is not None and recompute_scale_factor:
        raise ValueError("interpolate: recompute_scale_factor has no meaning with size; leave it out")
    if factors is None or recompute_scale_factor or mode == "area":
        scales = [n / m for n, m in zip(lengths, sizes)]
    else:
        scales = [1 / f for f in factors]
    axes = zip(lengths, sizes, scales)
    if mode == "area":
        maps = [area(n, m) for n, m, _ in axes]
    elif mode in _DIMS:
        kind = "cubic" if mode == "bicubic" else "linear"
        make = antialiased if antialias else interpolation
        maps = [make(kind, n, m, s, bool(align_corners)) for n, m, s in axes]
    else:
        maps = [nearest(n, m, s, mode == "nearest-exact") for n, m, s in axes]
    return resample(input, maps)


def _check(input: Tensor, dims: int, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if mode not in _MODES:
        raise ValueError(f"interpolate: mode must be one of {', '.join(_MODES)}, got {mode!r}")
    if dims not in (1, 2):
        raise ValueError(f"interpolate: input must have shape (N, C, L) or (N, C, H, W), got {list(input.shape)}")
    if _DIMS.get(mode, dims) != dims:
        raise ValueError(
            f"interpolate: mode {mode!r} needs {_DIMS[mode] + 2} dimensions, input has shape {list(input.shape)}"
        )
    if 0 in input.shape[2:]:
        raise ValueError(f"interpolate: nothing to interpolate in an input of shape {list(input.shape)}")
    if align_corners is not None and mode not in _DIMS:
        raise ValueError(f"interpolate: align_corners has no meaning with mode {mode!r}; leave it out")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"interpolate: antialias is for the modes bilinear and bicubic, mode is {mode!r}")
    if input.dtype.kind != "f" and not mode.startswith("nearest"):
        raise TypeError(f"interpolate: mode {mode!r} needs a floating-point input, got {input.dtype}")


def _target(input: Tensor, lengths: Sequence[int], size: Any, scale_factor: Any) -> tuple[tuple, tuple | None]:
    """The size to make and the factors it was given as, if it was."""
    dims = len(lengths)
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give either size or scale_factor")
    if size is not None:
        return each("interpolate", "size", size, dims, 1), None
    factors = tuple(scale_factor) if isinstance(scale_factor, Sequence) else (scale_factor,) * dims
    sizes = tuple([int(n * f) for n, f in zip(lengths, factors)])
    if len(factors) != dims or min(sizes) < 1:
        raise ValueError(
            f"interpolate: scale_factor must be a number or {dims} of them that leave at least one pixel, "
            f"got {scale_factor!r} for an input of shape {list(input.shape)}"
        )
    return sizes, factors


def upsample(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """``interpolate`` under its former name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(
    input: Tensor, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None
) -> Tensor:
    """``interpolate`` with mode nearest."""
    return interpolate(input, size, scale_factor)


def upsample_bilinear(
    input: Tensor, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None
) -> Tensor:
    """``interpolate`` of images with mode bilinear and corners aligned."""
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)
