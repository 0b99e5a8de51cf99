"""The look that all pictures share, and how a picture becomes a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

INK = "#20262e"
MUTED = "#69727d"
RULE = "#d8dce1"
PAPER = "#ffffff"
ACCENT = "#d1603d"
# Ten hues of similar weight, in an order that keeps the first few apart for colour-blind readers too.
PALETTE = (
    "#3566a8",
    "#e0873a",
    "#3f9a6c",
    "#c2474f",
    "#7d5fb0",
    "#8a6a50",
    "#d578ab",
    "#7b828b",
    "#b3a32e",
    "#35a3b5",
)
SEQUENTIAL = LinearSegmentedColormap.from_list("sheet", [PAPER, "#a9c6e6", PALETTE[0], "#14233d"])
DPI = 110
TEXT = 9.0  # points
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of ``width`` x ``height`` inches and its axes, row by row."""
    page = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER, layout="constrained")
    axes = page.subplots(rows, columns, squeeze=False).ravel().tolist()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(RULE)
        ax.tick_params(which="both", colors=MUTED, labelsize=TEXT, length=3, width=0.8)
        ax.grid(True, color=RULE, linewidth=0.6, alpha=0.7)
        ax.set_axisbelow(True)
    return page, axes


def label(ax: Axes, title: str | None = None, x: str | None = None, y: str | None = None) -> None:
    """Title and axis labels of one axes."""
    if title:
        ax.set_title(title, fontsize=TEXT + 1.5, color=INK, loc="left")
    ax.set_xlabel(x or "", fontsize=TEXT, color=MUTED)
    ax.set_ylabel(y or "", fontsize=TEXT, color=MUTED)


def frame(ax: Axes) -> None:
    """A thin frame and no grid: for axes that hold a picture, whose white would run into the paper."""
    ax.grid(False)
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color(RULE)


def colour_bar(page: Figure, drawn: ScalarMappable, axes: Axes | Sequence[Axes]) -> None:
    """A thin colour bar for ``drawn`` beside ``axes``."""
    bar = page.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, labelsize=TEXT - 1, length=0)


def heading(page: Figure, title: str | None) -> None:
    """A title above all panels."""
    if title:
        page.suptitle(title, fontsize=TEXT + 3, color=INK, x=0.01, ha="left")


def save_figure(page: Figure, path: str | os.PathLike[str]) -> Path:
    """Write ``page`` as a PNG; the same figure gives the same bytes."""
    with _replacing(path) as temporary:
        page.savefig(temporary, format="png", metadata={"Software": None})
    return Path(path)


def save_image(pixels: np.ndarray, path: str | os.PathLike[str]) -> Path:
    """Write (H, W, 3) uint8 as a PNG."""
    with _replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="png")
    return Path(path)


@contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place when all went well: no reader ever sees half a picture."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"pictures are written as PNG: give a path that ends in .png, not {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
