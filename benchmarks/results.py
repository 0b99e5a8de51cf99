"""Results as they are kept: one JSON file a suite and machine, from which tables and plots are generated."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .cases import FLOOR
from .paired import geometric_mean

Row = dict[str, Any]
Results = dict[str, Any]  # suite, header, groups, rows


def write(results: Results, path: Path) -> None:
    """Write ``results``, all at once; numbers that are not finite become null, which every reader of JSON knows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(_finite(results), indent=1, allow_nan=False) + "\n")
    os.replace(temporary, path)


def read(path: Path) -> Results:
    """What ``write`` wrote. ValueError if the file holds something else."""
    results = json.loads(path.read_text())
    if not isinstance(results, dict) or not {"suite", "header", "rows"} <= set(results):
        raise ValueError(f"{path} is not a file of benchmark results")
    return results


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(v) for v in value]
    return value


def key(row: Row) -> tuple[str, str]:
    """What tells a row from the others of its suite."""
    return row["case"], row["direction"]


def broken(results: Results) -> list[str]:
    """Every promise that the results break, a sentence each: errors, bars of rows and groups, the floor, memory."""
    sentences = []
    for row in results["rows"]:
        name = f"{row['case']}, {row['direction']}"
        if row["failed"]:
            sentences.append(f"{name}: FAIL, {row['failed']}")
            continue
        if row["best_ratio"] is None:
            continue
        least = max(row["bar"] or 0.0, FLOOR)
        if row["best_ratio"] < least:
            sentences.append(f"{name}: {row['best_ratio']:.2f}x, the bar is {least:g}x")
        memory = row.get("memory_mb")
        peers = [peer["memory_mb"] for peer in row["peers"] if peer.get("memory_mb")]
        if memory and peers and memory > min(peers):
            sentences.append(f"{name}: {memory:.0f} MB at its peak, the best peer takes {min(peers):.0f} MB")
    for mean in means(results):
        if mean["bar"] and mean["ratio"] < mean["bar"]:
            name = f"{mean['group']}, {mean['direction']}"
            sentences.append(f"{name}: geometric mean {mean['ratio']:.2f}x, the bar is {mean['bar']:g}x")
    return sentences


def means(results: Results) -> list[dict[str, Any]]:
    """The geometric mean of the best ratios of each group and direction, with its bar; groups in order of the rows."""
    ratios: dict[tuple[str, str], list[float]] = {}
    bars = {}
    for row in results["rows"]:
        if row["best_ratio"]:
            place = (row["group"], row["direction"])
            ratios.setdefault(place, []).append(row["best_ratio"])
            bars[place] = row["mean_bar"]
    return [
        {"group": g, "direction": d, "ratio": geometric_mean(values), "bar": bars[g, d], "rows": len(values)}
        for (g, d), values in ratios.items()
    ]
