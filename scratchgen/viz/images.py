"""Pictures made of images: grids, reconstructions, interpolations, latent planes, film strips.

An image is (H, W), (1, H, W) or (3, H, W): floats in [0, 1] (values outside are clipped), uint8 or bool. It
is enlarged by a whole factor without smoothing, so that every pixel of an 8x8 digit stays a square.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .sheet import Sheet


def image_grid(
    path: str | os.PathLike[str],
    images: ArrayLike,
    *,
    columns: int | None = None,
    scale: int | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Path:
    """Draw images (N, ...) row by row, ``columns`` in a row (default: as near to a square as can be)."""
    pixels = to_pixels(images, 1)
    width = min(len(pixels), columns or math.ceil(math.sqrt(len(pixels))))
    rows = [pixels[i : i + width] for i in range(0, len(pixels), width)]
    return Sheet(rows, row_labels, column_labels, title, scale).save(path)


def reconstructions(
    path: str | os.PathLike[str],
    inputs: ArrayLike,
    outputs: ArrayLike,
    *,
    columns: int = 12,
    labels: tuple[str, str] = ("input", "output"),
    title: str | None = None,
) -> Path:
    """Draw ``inputs`` (N, ...) above ``outputs`` (N, ...), pair by pair, ``columns`` pairs in a row."""
    above, below = to_pixels(inputs, 1), to_pixels(outputs, 1)
    if above.shape != below.shape:
        raise ValueError(f"reconstructions: inputs and outputs differ: {np.shape(inputs)} and {np.shape(outputs)}")
    rows = [side[i : i + columns] for i in range(0, len(above), columns) for side in (above, below)]
    return Sheet(rows, labels * (len(rows) // 2), None, title, block=2).save(path)


def interpolation_grid(
    path: str | os.PathLike[str],
    images: ArrayLike,
    *,
    row_labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Path:
    """Draw ways between images (rows, steps, ...): the ends of each row framed, the fraction of the way on top."""
    rows = to_pixels(images, 2)
    last = rows.shape[1] - 1
    fractions = [f"{i / max(last, 1):.2g}" for i in range(last + 1)]
    return Sheet(rows, row_labels, fractions, title, gap=8, framed=(0, last)).save(path)


def film_strip(
    path: str | os.PathLike[str],
    frames: ArrayLike,
    labels: Sequence[str] | None = None,
    *,
    row_labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Path:
    """Draw stages of a process from left to right, one sample a row: (rows, stages, ...).

    ``labels`` names the stages, for example the time steps of a diffusion.
    """
    return Sheet(to_pixels(frames, 2), row_labels, labels, title).save(path)


def latent_manifold(
    path: str | os.PathLike[str],
    images: ArrayLike,
    x: Sequence[float] | None = None,
    y: Sequence[float] | None = None,
    *,
    title: str | None = None,
) -> Path:
    """Draw a plane of decoded latents without gaps (rows, columns, ...): row i at ``y[i]``, column j at ``x[j]``."""
    down, across = (None if at is None else [f"{value:.1f}" for value in at] for at in (y, x))
    return Sheet(to_pixels(images, 2), down, across, title, gap=0).save(path)


def to_pixels(images: ArrayLike, leading: int) -> NDArray[np.uint8]:
    """RGB bytes (..., H, W, 3) of images with ``leading`` axes before those of one image (see the module)."""
    array = np.asarray(images)
    if array.ndim == leading + 2:
        array = np.expand_dims(array, leading)
    if array.ndim != leading + 3 or array.shape[leading] not in (1, 3) or array.size == 0:
        axes = ", ".join(("rows", "columns") if leading == 2 else ("N",))
        raise ValueError(f"images must be ({axes}, H, W) or ({axes}, 1 or 3, H, W), got shape {np.shape(images)}")
    if array.dtype.kind == "f":
        if np.isnan(array).any():
            raise ValueError(f"images hold NaN: {int(np.isnan(array).sum())} of {array.size} values")
        array = np.rint(255.0 * np.clip(array, 0.0, 1.0)).astype(np.uint8)
    elif array.dtype == bool:
        array = array * np.uint8(255)
    elif array.dtype != np.uint8:
        raise ValueError(f"images must be floats in [0, 1], uint8 or bool, not {array.dtype}")
    last = np.moveaxis(array, leading, -1)
    return np.broadcast_to(last, (*last.shape[:-1], 3))
