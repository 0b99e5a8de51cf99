"""Tables and plots from a file of results: ``python -m benchmarks report FILE...``.

For ``x.json`` it writes ``x.md``, ``x-ratios.png`` and, for ops, ``x-roof.png`` beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from . import results
from .cases import FLOOR


def line(row: results.Row) -> str:
    """One row on the terminal."""
    name = f"{row['case']:<50} {row['direction']:<17}"
    if row["failed"]:
        return f"{name} FAIL  {row['failed']}"
    roof = f"{100 * row['roof_fraction']:4.0f}% of roof" if row["roof_fraction"] else ""
    peers = "  ".join(f"{peer['setting']} {_ratio(peer)}" for peer in row["peers"])
    return f"{name} {row['ms']:9.3f} ms  {roof}  error {row['error']:.0e}  {verdict(row):5} {peers}"


def verdict(row: results.Row) -> str:
    """pass, below (a bar or the floor), FAIL, or nothing for a row without a peer."""
    if row["failed"]:
        return "FAIL"
    if row["best_ratio"] is None:
        return ""
    return "pass" if row["best_ratio"] >= max(row["bar"] or 0.0, FLOOR) else "below"


def _ratio(peer: dict) -> str:
    low, high = peer["interval"]
    return f"{peer['ratio']:.2f}x [{low:.2f}, {high:.2f}]"


def summary(found: results.Results) -> str:
    """The groups' geometric means, and what is broken."""
    lines = []
    for mean in results.means(found):
        bar = "" if not mean["bar"] else f"  bar {mean['bar']:g}x"
        lines.append(f"{mean['group']:<32} {mean['direction']:<17} geometric mean {mean['ratio']:.2f}x{bar}")
    problems = results.broken(found)
    lines += ["", "every bar is met" if not problems else f"{len(problems)} broken:", *(f"  {p}" for p in problems)]
    return "\n".join(lines)


# --- Markdown


def markdown(found: results.Results) -> str:
    """The whole report of a file."""
    head = found["header"]
    versions = ", ".join(f"{name} {v}" for name, v in head["versions"].items())
    parts = [
        f"# Benchmark of {found['suite']}, {head['cpu']}",
        "Ratios are the peer's time divided by ours, medians over paired rounds with 95 % bootstrap intervals; above 1 "
        "scratchgen is faster. [How to read this](../../docs/benchmarks.md). Generated from the JSON beside it by "
        "`python -m benchmarks report`.",
        f"{head['date']}, commit {head['git'] or 'unknown'}; {head['cores']} cores ({' '.join(head['cpu_flags'])}), "
        f"{head['threads']} threads each, load {head['load'][0]:.2f} at the start; {versions}; {head['precision']}.",
    ]
    if roof := head.get("roof"):
        copies = ", ".join(f"{_megabytes(size)} at {speed / 1e9:.0f} GB/s" for size, speed in roof["bandwidth"])
        parts.append(f"Roof, measured in the same run: {roof['flops'] / 1e9:.0f} GFLOP/s; copies that move {copies}.")
    parts.append("```\n" + summary(found) + "\n```")
    for group in dict.fromkeys(row["group"] for row in found["rows"]):
        parts.append(f"## {group}\n\n" + _table([row for row in found["rows"] if row["group"] == group]))
    return "\n\n".join(parts) + "\n"


def _megabytes(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"


def _table(rows: list[results.Row]) -> str:
    """One group: a column for each setting of a peer that any row has."""
    settings = list(dict.fromkeys(peer["setting"] for row in rows for peer in row["peers"]))
    steps = any("loss" in row for row in rows)
    head = ["case", "direction", "ms", "samples/s" if steps else "roof", "error", *settings, "bar", ""]
    head += ["MB", "peers' MB"] if steps else []
    lines = [head, ["---"] * len(head)]
    for row in rows:
        if row["failed"]:
            lines.append([row["case"], row["direction"], "", "", row["failed"], *[""] * len(settings), "", "FAIL"])
            lines[-1] += [""] * (len(head) - len(lines[-1]))
            continue
        ratios = {peer["setting"]: _ratio(peer) for peer in row["peers"]}
        speed = f"{row['samples_per_s']:.0f}" if steps else f"{100 * row['roof_fraction']:.0f} %"
        cells = [row["case"], row["direction"], f"{row['ms']:.3f}", speed, f"{row['error']:.0e}"]
        cells += [ratios.get(setting, "") for setting in settings]
        cells += ["" if row["bar"] is None else f"{row['bar']:g}x", verdict(row)]
        if steps:
            cells += [f"{row['memory_mb']:.0f}", ", ".join(f"{peer['memory_mb']:.0f}" for peer in row["peers"])]
        lines.append(cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main(arguments: list[str]) -> int:
    """Write the report of each file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks report", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="results as --json wrote them")
    for path in parser.parse_args(arguments).files:
        found = results.read(path)
        page = path.with_suffix(".md")
        pictures = draw(found, path)
        page.write_text(markdown(found) + "".join(f"\n![{name.stem}]({name.name})\n" for name in pictures))
        print("\n".join(str(p) for p in (page, *pictures)))
    return 0


def draw(found: results.Results, path: Path) -> list[Path]:
    """The plots of ``found``, written beside ``path``."""
    from . import plots  # matplotlib takes a while to load

    drawn = [plots.ratios(found, path.with_name(path.stem + "-ratios.png"))]
    if any(row["roof_fraction"] and row["flops"] for row in found["rows"]):
        drawn.append(plots.roofline(found, path.with_name(path.stem + "-roof.png")))
    return drawn
