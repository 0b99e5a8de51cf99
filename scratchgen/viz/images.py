"""Sheets of images: grids, reconstructions, interpolations, latent planes, film strips.

Images are (..., H, W), (..., 1, H, W) or (..., 3, H, W): floats in [0, 1] (values outside are clipped), uint8
or bool. They are enlarged by whole factors without smoothing, so that every pixel of an 8x8 digit stays a
square.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from . import style

Pixels = NDArray[np.uint8]

CELL = 48  # an image is enlarged to at least so many pixels
GAP = 2
MARGIN = 10
TEXT = 13
TITLE = 15


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
    columns = columns or math.ceil(math.sqrt(len(pixels)))
    rows = [list(pixels[i : i + columns]) for i in range(0, len(pixels), columns)]
    return _Sheet(rows, scale, GAP, row_labels, column_labels, title).save(path)


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
    rows = []
    for i in range(0, len(above), columns):
        rows += [list(above[i : i + columns]), list(below[i : i + columns])]
    names = list(labels) * (len(rows) // 2)
    return _Sheet(rows, None, GAP, names, None, title, block=2).save(path)


def interpolation_grid(
    path: str | os.PathLike[str],
    images: ArrayLike,
    *,
    row_labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Path:
    """Draw ways between images: (rows, steps, ...), the ends of each row framed, the fraction of the way on top."""
    pixels = to_pixels(images, 2)
    steps = pixels.shape[1]
    fractions = [f"{i / max(steps - 1, 1):.2g}" for i in range(steps)]
    rows = [list(row) for row in pixels]
    return _Sheet(rows, None, 2 * GAP, row_labels, fractions, title, framed=(0, steps - 1)).save(path)


def film_strip(
    path: str | os.PathLike[str],
    frames: ArrayLike,
    labels: Sequence[str] | None = None,
    *,
    row_labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Path:
    """Draw stages of a process from left to right: (stages, H, W), or (rows, stages, ...) for several at once.

    ``labels`` names the stages, for example the time steps of a diffusion.
    """
    array = np.asarray(frames)
    pixels = to_pixels(array[None] if array.ndim == 3 else array, 2)
    return _Sheet([list(row) for row in pixels], None, GAP, row_labels, labels, title).save(path)


def latent_manifold(
    path: str | os.PathLike[str],
    images: ArrayLike,
    x: Sequence[float] | None = None,
    y: Sequence[float] | None = None,
    *,
    title: str | None = None,
) -> Path:
    """Draw a plane of decoded latents without gaps: (rows, columns, ...), row i at ``y[i]`` and column j at ``x[j]``."""
    rows = [list(row) for row in to_pixels(images, 2)]
    names = [None if values is None else [f"{value:.1f}" for value in values] for values in (y, x)]
    return _Sheet(rows, None, 0, names[0], names[1], title).save(path)


def to_pixels(images: ArrayLike, leading: int) -> Pixels:
    """RGB bytes (..., H, W, 3) of images with ``leading`` axes before those of one image (see the module's docstring)."""
    array = np.asarray(images)
    if array.ndim == leading + 2:
        array = np.expand_dims(array, leading)
    if array.ndim != leading + 3 or array.shape[leading] not in (1, 3) or array.size == 0:
        axes = ", ".join(["N", "M"][:leading])
        raise ValueError(f"images must be ({axes}, H, W) or ({axes}, 1 or 3, H, W), got shape {np.shape(images)}")
    if array.dtype.kind == "f":
        if np.isnan(array).any():
            raise ValueError(f"images hold NaN: {int(np.isnan(array).sum())} of {array.size} values")
        array = np.rint(255.0 * np.clip(array, 0.0, 1.0)).astype(np.uint8)
    elif array.dtype == bool:
        array = array * np.uint8(255)
    elif array.dtype != np.uint8:
        raise ValueError(f"images must be floats in [0, 1], uint8 or bool, not {array.dtype}")
    channels_last = np.moveaxis(array, leading, -1)
    return np.broadcast_to(channels_last, (*channels_last.shape[:-1], 3))


@dataclass
class _Sheet:
    """Rows of equally large images (H, W, 3) with labels around them; rows come in blocks a little apart."""

    rows: list[list[Pixels]]
    scale: int | None
    gap: int
    row_labels: Sequence[str] | None
    column_labels: Sequence[str] | None
    title: str | None
    block: int = 1
    framed: tuple[int, ...] = ()  # columns

    def save(self, path: str | os.PathLike[str]) -> Path:
        height, width = self.rows[0][0].shape[:2]
        columns = len(self.rows[0])
        for name, labels, count in (("row", self.row_labels, len(self.rows)), ("column", self.column_labels, columns)):
            if labels is not None and len(labels) != count:
                raise ValueError(f"{count} {name}s need {count} {name} labels, got {len(labels)}")

        text, heading = ImageFont.truetype(str(style.FONT), TEXT), ImageFont.truetype(str(style.FONT), TITLE)
        widest = max((text.getlength(name) for name in self.column_labels or ()), default=0.0)
        smallest = max(CELL / min(height, width), (widest + 6 - self.gap) / width)
        scale = self.scale or math.ceil(smallest)
        step_y, step_x = scale * height + self.gap, scale * width + self.gap
        left = MARGIN + math.ceil(max((text.getlength(name) + 8 for name in self.row_labels or ()), default=0))
        top = MARGIN + (TITLE + 12 if self.title else 0) + (TEXT + 8 if self.column_labels else 0)
        between = 4 * self.gap * (self.block > 1)

        def corner(row: int, column: int) -> tuple[int, int]:
            return left + column * step_x, top + row * step_y + row // self.block * between

        right, bottom = corner(len(self.rows), columns)
        needed = math.ceil(MARGIN + heading.getlength(self.title or ""))
        size = (max(right - self.gap, needed) + MARGIN, bottom - self.gap - (between if between else 0) + MARGIN)
        page = Image.new("RGB", size, style.PAPER)
        draw = ImageDraw.Draw(page)
        for row, images in enumerate(self.rows):
            for column, image in enumerate(images):
                x, y = corner(row, column)
                enlarged = image.repeat(scale, axis=0).repeat(scale, axis=1)
                page.paste(Image.fromarray(enlarged), (x, y))
                if column in self.framed:
                    box = (x - 2, y - 2, x + scale * width + 1, y + scale * height + 1)
                    draw.rectangle(box, outline=style.ACCENT, width=2)
        if self.title:
            draw.text((MARGIN, MARGIN), self.title, style.INK, heading)
        for row, name in enumerate(self.row_labels or ()):
            x, y = corner(row, 0)
            draw.text((x - 8, y + scale * height / 2), name, style.MUTED, text, anchor="rm")
        every = math.ceil((widest + 6) / step_x) if self.column_labels else 1  # where they are too wide: not all
        for column, name in enumerate(self.column_labels or ()):
            if column % every == 0:
                x, y = corner(0, column)
                draw.text((x + scale * width / 2, y - 6), name, style.MUTED, text, anchor="ms")
        return style.save_image(np.asarray(page), path)
