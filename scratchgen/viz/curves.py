"""Curves: of training, one panel a metric, training and validation in it; and of anything else."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from . import style

VALIDATION = ("validation_", "val_")
SMOOTH_FROM = 40  # points; shorter curves are drawn as they are


@dataclass(frozen=True)
class _Curve:
    is_validation: bool
    at: NDArray[np.float64]
    value: NDArray[np.float64]

    @property
    def is_long(self) -> bool:
        return len(self.value) >= SMOOTH_FROM

    def smoothed(self) -> NDArray[np.float64]:
        """A Gaussian mean: an exponential one would lag behind a falling curve. The ends use the points there are."""
        if not self.is_long:
            return self.value
        width = max(1.0, 0.01 * len(self.value))
        weight = gaussian_filter1d(np.ones_like(self.value), width, mode="constant")
        return gaussian_filter1d(self.value, width, mode="constant") / weight


def loss_curves(
    path: str | os.PathLike[str],
    records: Sequence[Mapping[str, Any]],
    *,
    keys: Sequence[str] | None = None,
    x: str = "step",
    log: bool = False,
    title: str | None = None,
) -> Path:
    """Draw the metrics of a run from its ``records``, dicts such as ``{"step": 10, "loss": 0.5}``.

    Each metric gets a panel; ``validation_<metric>`` (or ``val_<metric>``) goes into the panel of its metric.
    Records may lack keys; what is not a finite number is left out. ``keys`` chooses metrics, by default all.
    Long curves are shown raw and smoothed (over 1 % of their length), and the legend gives the end of the
    smoothed one. ``log`` makes the vertical axes logarithmic, except of panels with values <= 0.
    """
    chosen = _metrics(records, x) if keys is None else list(keys)
    panels = {key: curves for key in chosen if (curves := _curves(records, x, key))}
    if not panels:
        raise ValueError(f"loss_curves: the {len(records)} records hold no number for {chosen or 'any metric'}")

    columns = 1 if len(panels) == 1 else 2 if len(panels) <= 4 else 3
    rows = math.ceil(len(panels) / columns)
    size = (7.0, 4.2) if len(panels) == 1 else (4.4 * columns, 2.9 * rows + 0.2)
    page, axes = style.figure(*size, rows, columns)
    for ax, (key, curves) in zip(axes, panels.items(), strict=False):
        _panel(ax, curves, log)
        style.label(ax, key, x)
    for ax in axes[len(panels) :]:
        ax.remove()
    style.heading(page, title)
    return style.save_figure(page, path)


def lines(
    path: str | os.PathLike[str],
    x: ArrayLike,
    panels: Mapping[str, Mapping[str, ArrayLike]],
    *,
    label: str,
    log: bool = False,
    title: str | None = None,
) -> Path:
    """Draw named curves over common ``x`` (N,), each panel with a vertical axis of its own.

    ``panels``: ``{"accuracy": {"real": (N,), "generated": (N,)}}``, values that are not finite left out; ``label``:
    what x is; ``log``: a logarithmic vertical axis where all values are positive.
    """
    at = np.asarray(x, np.float64)
    page, axes = style.figure(4.4 * len(panels), 3.4, 1, len(panels))
    for ax, (name, curves) in zip(axes, panels.items(), strict=True):
        for i, (key, values) in enumerate(curves.items()):
            y = np.asarray(values, np.float64)
            if y.shape != at.shape:
                raise ValueError(f"lines: {key!r} has shape {y.shape}, x has {at.shape}")
            marker = "o" if len(y) < 20 else None
            ax.plot(at, y, color=style.PALETTE[i % len(style.PALETTE)], linewidth=1.6, marker=marker, markersize=3.5,
                    label=key)  # fmt: skip
        if log and all((np.asarray(values) > 0).all() for values in curves.values()):
            ax.set_yscale("log")
        if len(curves) > 1:
            ax.legend(frameon=False, fontsize=style.TEXT, labelcolor=style.INK, handlelength=1.2)
        style.label(ax, name, label)
    style.heading(page, title)
    return style.save_figure(page, path)


def trade_off(
    path: str | os.PathLike[str],
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x: str,
    y: str,
    title: str | None = None,
) -> Path:
    """Draw named curves, each through points of its own: ``{"method": (x (N,), y (N,))}``, in the order given.

    ``x`` and ``y``: what the axes are.
    """
    page, (ax,) = style.figure(6.4, 4.4)
    for i, (name, points) in enumerate(curves.items()):
        across, up = (np.asarray(values, np.float64) for values in points)
        if across.shape != up.shape or across.ndim != 1:
            raise ValueError(f"trade_off: {name!r} has x of shape {across.shape} and y of shape {up.shape}")
        ax.plot(across, up, color=style.PALETTE[i % len(style.PALETTE)], linewidth=1.4, marker="o", markersize=3.5,
                label=name)  # fmt: skip
    ax.legend(frameon=False, fontsize=style.TEXT, labelcolor=style.INK, handlelength=1.2)
    style.label(ax, title, x, y)
    return style.save_figure(page, path)


def _metrics(records: Sequence[Mapping[str, Any]], x: str) -> list[str]:
    """The metrics in order of appearance, those of validation under the names of training."""
    names: dict[str, None] = {}
    for key in (key for record in records for key in record if key != x):
        prefix = next((prefix for prefix in VALIDATION if key.startswith(prefix)), "")
        names.setdefault(key.removeprefix(prefix))
    return list(names)


def _curves(records: Sequence[Mapping[str, Any]], x: str, key: str) -> list[_Curve]:
    found = []
    for name in (key, *(prefix + key for prefix in VALIDATION)):
        points = [(r[x], r[name]) for r in records if _is_number(r.get(x)) and _is_number(r.get(name))]
        if points:
            at, value = np.array(points, np.float64).T
            found.append(_Curve(name != key, at, value))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and math.isfinite(value)


def _panel(ax: Axes, curves: Sequence[_Curve], log: bool) -> None:
    for order, curve in enumerate(curves):
        colour = style.PALETTE[int(curve.is_validation)]
        line = curve.smoothed()
        name = f"{'validation' if curve.is_validation else 'training'}  {line[-1]:.4g}"
        marker = "o" if len(line) < 20 else None
        ax.plot(
            curve.at, line, color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=name, zorder=4 + order
        )
        if curve.is_long:
            ax.plot(curve.at, curve.value, color=colour, linewidth=0.8, alpha=0.3, zorder=3)
    if log and min(curve.value.min() for curve in curves) > 0:
        ax.set_yscale("log")
        # Plain numbers, and also between the powers of ten where the axis spans less than two of them.
        ax.yaxis.set_major_formatter(LogFormatter())
        ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2.0, 0.5)))
        ax.grid(True, which="minor", axis="y", color=style.RULE, linewidth=0.6, alpha=0.7)
    else:
        ax.set_ylim(*_limits(curves))
    ax.legend(frameon=False, fontsize=style.TEXT, labelcolor=style.INK, handlelength=1.2)


def _limits(curves: Sequence[_Curve]) -> tuple[float, float]:
    """The range of all curves; of long ones without the outermost half percents, lest one spike flatten the rest."""
    ends = np.concatenate([np.percentile(c.value, [0.5, 99.5] if c.is_long else [0, 100]) for c in curves])
    low, high = float(ends.min()), float(ends.max())
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
