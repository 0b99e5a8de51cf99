"""Plots of points, densities, distributions and attention."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from . import style

Extent = tuple[float, float, float, float]  # x from, x to, y from, y to


def scatter(
    path: str | os.PathLike[str],
    points: ArrayLike,
    labels: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> Path:
    """Draw points (N, 2), coloured by integer ``labels`` (N,); ``names[label]`` goes into the legend.

    Up to ten classes get a colour each, more (or float labels) a colour bar.
    """
    xy = _points(points, "points")
    page, (ax,) = style.figure(6.4, 5.4)
    size = float(np.clip(6000 / len(xy), 3, 30))
    if labels is None:
        ax.scatter(xy[:, 0], xy[:, 1], size, color=style.PALETTE[0], alpha=0.7, linewidths=0)
    else:
        label = np.asarray(labels)
        if label.shape != (len(xy),):
            raise ValueError(f"scatter: {len(xy)} points need {len(xy)} labels, got shape {label.shape}")
        kinds = np.unique(label)
        if label.dtype.kind in "iub" and len(kinds) <= len(style.PALETTE):
            for i, kind in enumerate(kinds):
                name = str(kind) if names is None else names[int(kind)]
                own = xy[label == kind]
                ax.scatter(own[:, 0], own[:, 1], size, color=style.PALETTE[i], alpha=0.7, linewidths=0, label=name)
            ax.legend(
                frameon=False,
                fontsize=style.TEXT,
                labelcolor=style.INK,
                loc="center left",
                bbox_to_anchor=(1.0, 0.5),
                handletextpad=0.2,
                markerscale=6.0 / math.sqrt(size),
            )
        else:
            drawn = ax.scatter(xy[:, 0], xy[:, 1], size, label, cmap="viridis", alpha=0.8, linewidths=0)
            style.colour_bar(page, drawn, ax)
    ax.set_aspect("equal", "datalim")
    style.label(ax, title)
    return style.save_figure(page, path)


def samples_2d(
    path: str | os.PathLike[str],
    samples: Mapping[str, ArrayLike],
    *,
    extent: Extent | None = None,
    centres: ArrayLike | None = None,
    title: str | None = None,
) -> Path:
    """Draw named 2-D samples, ``{"data": (N, 2), "model": (M, 2)}``, side by side on the same axes.

    ``extent`` defaults to that of the first sample; ``centres`` (K, 2) of a mixture are marked in each panel.
    """
    points = {name: _points(x, name) for name, x in samples.items()}
    if not points:
        raise ValueError("samples_2d: no samples given")
    area = extent or _extent(next(iter(points.values())))
    page, axes = style.figure(3.6 * len(points) + 0.2, 3.9 + 0.3 * (title is not None), 1, len(points))
    for i, (ax, (name, xy)) in enumerate(zip(axes, points.items(), strict=True)):
        _cloud(ax, xy, style.PALETTE[i % len(style.PALETTE)])
        if centres is not None:
            middle = _points(centres, "centres")
            ax.scatter(middle[:, 0], middle[:, 1], 26, marker="+", color=style.INK, linewidths=0.8)
        _limit(ax, area)
        style.label(ax, name)
    style.heading(page, title)
    return style.save_figure(page, path)


def density_2d(
    path: str | os.PathLike[str],
    densities: Mapping[str, Callable[[NDArray[np.float64]], ArrayLike]],
    extent: Extent,
    *,
    samples: ArrayLike | None = None,
    resolution: int = 240,
    title: str | None = None,
) -> Path:
    """Draw named densities, ``{"model": f}`` with f: points (M, 2) -> density (M,), each on its own colour scale.

    ``samples`` (N, 2) get a panel before them, on the same axes.
    """
    panels = len(densities) + (samples is not None)
    if not densities:
        raise ValueError("density_2d: no density given")
    page, axes = style.figure(3.6 * panels + 0.2, 3.9 + 0.3 * (title is not None), 1, panels)
    left, right, bottom, top = extent
    if samples is not None:
        ax = axes.pop(0)
        _cloud(ax, _points(samples, "samples"), style.PALETTE[0])
        _limit(ax, extent)
        style.label(ax, "samples")
    grid = np.meshgrid(np.linspace(left, right, resolution), np.linspace(bottom, top, resolution))
    places = np.stack(grid, axis=-1).reshape(-1, 2)
    for ax, (name, density) in zip(axes, densities.items(), strict=True):
        value = np.asarray(density(places), np.float64)
        if value.size != len(places):
            raise ValueError(f"density_2d: {name} gave shape {value.shape} for {len(places)} points")
        image = value.reshape(resolution, resolution)
        ax.imshow(image, origin="lower", extent=extent, cmap=style.SEQUENTIAL, vmin=0.0, interpolation="bilinear")
        _limit(ax, extent)
        style.frame(ax)
        style.label(ax, name)
    style.heading(page, title)
    return style.save_figure(page, path)


def histogram(
    path: str | os.PathLike[str],
    values: Mapping[str, ArrayLike],
    *,
    bins: int = 60,
    x: str | None = None,
    title: str | None = None,
) -> Path:
    """Draw named sets of numbers, ``{"real": (N,), "generated": (M,)}``, as overlaid densities on common bins."""
    sets = {name: np.asarray(v, np.float64).ravel() for name, v in values.items()}
    if not sets or not all(v.size and np.isfinite(v).all() for v in sets.values()):
        raise ValueError("histogram: every set needs at least one number, and only finite ones")
    edges = np.histogram_bin_edges(np.concatenate(list(sets.values())), bins).tolist()
    page, (ax,) = style.figure(7.0, 4.0)
    for i, (name, v) in enumerate(sets.items()):
        colour = style.PALETTE[i % len(style.PALETTE)]
        ax.hist(v, edges, density=True, histtype="stepfilled", color=colour, alpha=0.18)
        ax.hist(v, edges, density=True, histtype="step", color=colour, linewidth=1.6, label=name)
    ax.legend(frameon=False, fontsize=style.TEXT, labelcolor=style.INK, handlelength=1.2)
    style.label(ax, title, x, "density")
    return style.save_figure(page, path)


def attention_map(
    path: str | os.PathLike[str],
    weights: ArrayLike,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> Path:
    """Draw attention weights (queries, keys), or a panel for each head of (heads, queries, keys).

    Row i shows where query i looks. ``queries`` and ``keys`` are the tokens beside and below the map; the
    colours run from 0 to the largest weight.
    """
    heads = np.asarray(weights, np.float64)
    heads = heads[None] if heads.ndim == 2 else heads
    if heads.ndim != 3 or not np.isfinite(heads).all():
        raise ValueError(f"attention_map: need finite weights (T, S) or (heads, T, S), got shape {np.shape(weights)}")
    count, rows, columns = heads.shape
    for name, tokens, size in (("queries", queries, rows), ("keys", keys, columns)):
        if tokens is not None and len(tokens) != size:
            raise ValueError(f"attention_map: {size} {name} need {size} tokens, got {len(tokens)}")

    across = min(count, 4)
    down = math.ceil(count / across)
    cell = 0.26 if count == 1 else 0.17  # inches: a line of text fits a cell of a single map
    width, height = (float(np.clip(cell * n + 1.0, 2.4, 9.0)) for n in (columns, rows))
    page, axes = style.figure(width * across + 0.4, height * down + 0.5, down, across)
    for i, ax in enumerate(axes):
        if i >= count:
            ax.remove()
            continue
        drawn = ax.imshow(heads[i], cmap=style.SEQUENTIAL, vmin=0.0, vmax=heads.max(), aspect="auto")
        style.frame(ax)
        _tokens(ax, queries if i % across == 0 else [], keys if i >= count - across else [])
        style.label(ax, f"head {i}" if count > 1 else title)
    style.colour_bar(page, drawn, axes[:count])
    style.heading(page, title if count > 1 else None)
    return style.save_figure(page, path)


def _tokens(ax: Axes, queries: Sequence[str] | None, keys: Sequence[str] | None) -> None:
    if queries is not None:
        ax.set_yticks(range(len(queries)), queries, fontsize=style.TEXT - 1, color=style.INK)
    if keys is not None:
        ax.set_xticks(range(len(keys)), keys, fontsize=style.TEXT - 1, color=style.INK)
        if all(len(key) <= 1 for key in keys):  # characters: on one line of writing
            ax.tick_params(axis="x", pad=12)
            for name in ax.get_xticklabels():
                name.set_verticalalignment("baseline")
        else:
            ax.tick_params(axis="x", rotation=90)
    ax.tick_params(length=0)


def _points(points: ArrayLike, name: str) -> NDArray[np.float64]:
    xy = np.asarray(points, np.float64)
    if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) == 0 or not np.isfinite(xy).all():
        raise ValueError(f"{name}: need finite points (N, 2), got shape {xy.shape}")
    return xy


def _cloud(ax: Axes, xy: NDArray[np.float64], colour: str) -> None:
    """Many points of one sample: smaller the more there are."""
    size = float(np.clip(8000 / len(xy), 1.5, 12))
    ax.scatter(xy[:, 0], xy[:, 1], size, color=colour, alpha=0.5, linewidths=0)


def _extent(xy: NDArray[np.float64]) -> Extent:
    """A square around the points, a little larger than they are."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    centre, half = (low + high) / 2, 0.58 * float((high - low).max() or 1.0)
    return centre[0] - half, centre[0] + half, centre[1] - half, centre[1] + half


def _limit(ax: Axes, extent: Extent) -> None:
    ax.set_xlim(extent[0], extent[1])
    ax.set_ylim(extent[2], extent[3])
    ax.set_aspect("equal")
