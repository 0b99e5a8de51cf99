"""A sheet of equally large images in rows, with labels around them, drawn pixel by pixel with Pillow."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from . import style

CELL = 48  # images are enlarged to at least so many pixels
MARGIN = 10
TEXT = 13
TITLE = 15


@dataclass
class Sheet:
    """Rows of RGB images (columns, H, W, 3) uint8; a row may be shorter than the first.

    ``scale`` enlarges by a whole factor; by default by the smallest that makes images legible and lets every
    column label fit. ``gap`` lies between images, four times as much between blocks of ``block`` rows.
    ``framed`` columns get a frame.
    """

    rows: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
    row_labels: Sequence[str] | None = None
    column_labels: Sequence[str] | None = None
    title: str | None = None
    scale: int | None = None
    gap: int = 2
    block: int = 1
    framed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, labels, count in (
            ("row", self.row_labels, len(self.rows)),
            ("column", self.column_labels, len(self.rows[0])),
        ):
            if labels is not None and len(labels) != count:
                raise ValueError(f"{count} {name}s need {count} {name} labels, got {len(labels)}")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Draw the sheet and write it as a PNG."""
        page = Image.new("RGB", self._size(), style.PAPER)
        draw = ImageDraw.Draw(page)
        for row, images in enumerate(self.rows):
            for column, image in enumerate(images):
                x, y = self._corner(row, column)
                page.paste(Image.fromarray(image.repeat(self._factor, axis=0).repeat(self._factor, axis=1)), (x, y))
                if column in self.framed:
                    box = (x - 2, y - 2, x + self._cell_width + 1, y + self._cell_height + 1)
                    draw.rectangle(box, outline=style.ACCENT, width=2)
        self._write_labels(draw)
        return style.save_image(np.asarray(page), path)

    def _write_labels(self, draw: ImageDraw.ImageDraw) -> None:
        if self.title:
            draw.text((MARGIN, MARGIN), self.title, style.INK, self._font(TITLE))
        for row, name in enumerate(self.row_labels or ()):
            x, y = self._corner(row, 0)
            draw.text((x - 8, y + self._cell_height / 2), name, style.MUTED, self._font(TEXT), anchor="rm")
        step = self._cell_width + self.gap
        every = math.ceil((self._widest_label + 6) / step)  # a scale that was asked for may leave room for some only
        for column, name in list(enumerate(self.column_labels or ()))[::every]:
            x, y = self._corner(0, column)
            draw.text((x + self._cell_width / 2, y - 6), name, style.MUTED, self._font(TEXT), anchor="ms")

    def _corner(self, row: int, column: int) -> tuple[int, int]:
        x = self._left + column * (self._cell_width + self.gap)
        y = self._top + row * (self._cell_height + self.gap) + row // self.block * self._between
        return x, y

    def _size(self) -> tuple[int, int]:
        last_x, last_y = self._corner(len(self.rows) - 1, len(self.rows[0]) - 1)
        heading = MARGIN + math.ceil(self._font(TITLE).getlength(self.title or ""))
        return max(last_x + self._cell_width, heading) + MARGIN, last_y + self._cell_height + MARGIN

    @cached_property
    def _factor(self) -> int:
        height, width = self.rows[0][0].shape[:2]
        fits_label = (self._widest_label + 6 - self.gap) / width
        return self.scale or math.ceil(max(CELL / min(height, width), fits_label))

    @property
    def _cell_height(self) -> int:
        return self._factor * self.rows[0][0].shape[0]

    @property
    def _cell_width(self) -> int:
        return self._factor * self.rows[0][0].shape[1]

    @property
    def _between(self) -> int:
        return 4 * self.gap if self.block > 1 else 0

    @cached_property
    def _left(self) -> int:
        return MARGIN + math.ceil(
            max((self._font(TEXT).getlength(name) + 8 for name in self.row_labels or ()), default=0)
        )

    @cached_property
    def _top(self) -> int:
        return MARGIN + (TITLE + 12 if self.title else 0) + (TEXT + 8 if self.column_labels else 0)

    @cached_property
    def _widest_label(self) -> float:
        return max((self._font(TEXT).getlength(name) for name in self.column_labels or ()), default=0.0)

    @staticmethod
    def _font(size: int) -> ImageFont.FreeTypeFont:
        return ImageFont.truetype(str(style.FONT), size)
