"""Curves of training: one panel a metric, training and validation in it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from . import style

VALIDATION = ("validation_", "val_", "valid_")
SMOOTH_FROM = 40  # points; shorter curves are drawn as they are


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

    Each metric gets a panel; ``validation_<metric>`` (or ``val_``) goes into the panel of its metric. Records
    may lack keys; what is not a finite number is left out. ``keys`` chooses metrics, by default all. Long
    curves are shown raw and smoothed (exponential mean over 2 % of the points). ``log`` is for the vertical
    axes; panels with values <= 0 stay linear.
    """
    chosen = keys if keys is not None else _metrics(records, x)
    panels = {
        key: [(name, *_series(records, x, name)) for name in (key, *(v + key for v in VALIDATION))] for key in chosen
    }
    panels = {key: [s for s in series if len(s[1])] for key, series in panels.items()}
    panels = {key: series for key, series in panels.items() if series}
    if not panels:
        raise ValueError(f"loss_curves: the {len(records)} records hold no number for {list(chosen) or 'any metric'}")

    columns = 1 if len(panels) == 1 else 2 if len(panels) <= 4 else 3
    rows = math.ceil(len(panels) / columns)
    size = (7.0, 4.2) if len(panels) == 1 else (4.4 * columns, 2.9 * rows + 0.2)
    page, axes = style.figure(*size, rows, columns)
    for ax, (key, series) in zip(axes, panels.items(), strict=False):
        _panel(ax, series, log)
        style.label(ax, key, x)
    for ax in axes[len(panels) :]:
        ax.remove()
    if title:
        page.suptitle(title, fontsize=style.TEXT + 3, color=style.INK, x=0.01, ha="left")
    return style.save_figure(page, path)


def _metrics(records: Sequence[Mapping[str, Any]], x: str) -> list[str]:
    """The metrics in order of appearance; validation counts as its training metric."""
    names: dict[str, None] = {}
    for record in records:
        for key in record:
            prefix = next((v for v in VALIDATION if key.startswith(v)), "")
            names.setdefault(key.removeprefix(prefix))
    names.pop(x, None)
    return list(names)


def _series(records: Sequence[Mapping[str, Any]], x: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    points = [(r[x], r[key]) for r in records if _is_number(r.get(x)) and _is_number(r.get(key))]
    at, value = np.array(points, float).reshape(-1, 2).T
    return at, value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and math.isfinite(value)


def _panel(ax: Axes, series: Sequence[tuple[str, np.ndarray, np.ndarray]], log: bool) -> None:
    for i, (name, at, value) in enumerate(series):
        is_validation = name.startswith(VALIDATION)
        shown = f"{'validation' if is_validation else 'training'}  {value[-1]:.4g}"
        colour = style.PALETTE[1 if is_validation else 0]
        if len(value) >= SMOOTH_FROM:
            ax.plot(at, value, color=colour, linewidth=0.8, alpha=0.3)
            value = _smoothed(value, max(2.0, 0.02 * len(value)))
            ax.plot(at, value, color=colour, linewidth=1.6, label=shown, zorder=3 + i)
        else:
            marker = "o" if len(value) < 20 else None
            ax.plot(at, value, color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=shown, zorder=3 + i)
    everything = np.concatenate([value for _, _, value in series])
    if log and everything.min() > 0:
        ax.set_yscale("log")
    else:
        ax.set_ylim(*_limits(everything))
    ax.legend(frameon=False, fontsize=style.TEXT, labelcolor=style.INK, handlelength=1.2)


def _smoothed(value: np.ndarray, window: float) -> np.ndarray:
    """Exponential mean with time constant ``window`` points, corrected for its start (as Adam's moments are)."""
    decay = math.exp(-1.0 / window)
    mean, weight, means = 0.0, 0.0, np.empty_like(value)
    for i, v in enumerate(value):
        mean, weight = decay * mean + (1 - decay) * v, decay * weight + (1 - decay)
        means[i] = mean / weight
    return means


def _limits(value: np.ndarray) -> tuple[float, float]:
    """The range without the highest and lowest half percent: one spike, or the first step, must not flatten the rest."""
    low, high = np.percentile(value, [0.5, 99.5]) if len(value) >= SMOOTH_FROM else (value.min(), value.max())
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return float(low - margin), float(high + margin)
