"""Bars of ratios, and the roofline, from results."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scratchgen.viz import style

from . import results


def ratios(found: results.Results, path: Path) -> Path:
    """A bar for each row: how many times our time the best eager peer takes, its interval, and the bar to meet."""
    rows = [row for row in found["rows"] if row["best_ratio"]]
    page, (ax,) = style.figure(9.0, 1.2 + 0.19 * max(len(rows), 4))
    groups = list(dict.fromkeys(row["group"] for row in rows))
    for i, row in enumerate(rows):
        colour = style.PALETTE[groups.index(row["group"]) % len(style.PALETTE)]
        low, high = row["best_interval"]
        ax.barh(i, row["best_ratio"], height=0.72, color=colour, alpha=0.85)
        ax.plot([low, high], [i, i], color=style.INK, linewidth=1.0)
        if row["bar"]:
            ax.plot([row["bar"]] * 2, [i - 0.45, i + 0.45], color=style.ACCENT, linewidth=1.6)
    ax.axvline(1.0, color=style.INK, linewidth=0.8)
    ax.set_yticks(range(len(rows)), [_name(row) for row in rows], fontsize=style.TEXT - 2)
    ax.invert_yaxis()
    ax.margins(y=0.01)
    ax.grid(False, axis="y")
    threads = found["header"]["threads"]
    title = f"Best PyTorch time / ours, {found['suite']}, {threads} threads each (red: the bar)"
    style.label(ax, title, "times faster than PyTorch's better layout")
    return style.save_figure(page, path)


def roofline(found: results.Results, path: Path) -> Path:
    """Each row's flop/s over its flops a byte, under the roof; rows that compute next to nothing stand at the left."""
    roof = found["header"]["roof"]
    peak, slowest = roof["flops"], min(speed for _, speed in roof["bandwidth"])
    fastest = max(speed for _, speed in roof["bandwidth"])
    rows = [row for row in found["rows"] if row["roof_fraction"] and row["flops"]]
    page, (ax,) = style.figure(8.0, 5.2)
    intensity = np.logspace(-1, 4, 200)
    ax.plot(intensity, np.minimum(peak, fastest * intensity) / 1e9, color=style.INK, linewidth=1.2, label="roof, cache")
    ax.plot(
        intensity, np.minimum(peak, slowest * intensity) / 1e9, color=style.MUTED, linewidth=1.2, linestyle="--",
        label="roof, memory",
    )  # fmt: skip
    for i, group in enumerate(dict.fromkeys(row["group"] for row in rows)):
        own = [row for row in rows if row["group"] == group]
        x = [row["flops"] / row["bytes"] for row in own]
        y = [row["flops"] / row["ms"] * 1e3 / 1e9 for row in own]
        ax.scatter(x, y, 26, color=style.PALETTE[i % len(style.PALETTE)], label=group, alpha=0.85, linewidths=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.legend(frameon=False, fontsize=style.TEXT - 1, labelcolor=style.INK)
    style.label(ax, "Roofline; flops by the plain formula, so Winograd may pass the roof", "flop / byte", "GFLOP/s")
    return style.save_figure(page, path)


def _name(row: results.Row) -> str:
    return row["case"] + {"forward": ", forward"}.get(row["direction"], "")
