"""The command: which parts, where results go, what is done already."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import Any

from scratchgen.kernels import nvrtc
from scratchgen.kernels.launch import all_modules

from .. import machine, results
from . import board as boards
from . import correct
from .beside import KERNELS
from .correct import CORRECT
from .roofs import OVERHEAD, ROOFS
from .tasks import Part, work
from .training import STEPS

PARTS: dict[str, Part] = {part.name: part for part in (ROOFS, CORRECT, OVERHEAD, KERNELS, STEPS)}


def sources() -> dict[str, str]:
    """The hash of each CUDA file with all that it includes: what a figure is a figure of."""
    return {file: module.digest for file, module in all_modules().items()}


def header(board: boards.Board) -> dict[str, Any]:
    """The head of the results."""
    general = machine.header(threads=1)
    general["precision"] = "as each row says; sums in float32"
    compiler = nvrtc.version() if nvrtc.is_available() else None
    return {**general, "gpu": board.describe(), "nvrtc": compiler, "sources": sources()}


def default_file(name: str) -> Path:
    """Where the results of a GPU are kept."""
    return machine.ROOT / "benchmarks" / "results" / f"gpu-{'-'.join(re.findall(r'[a-z0-9]+', name.lower()))}.json"


def begin(path: Path, head: dict[str, Any]) -> results.Results:
    """The results to go on with: those of the file if they are of this GPU and of these sources, else none."""
    if path.exists():
        found = results.read(path)
        same = found["suite"] == "gpu" and all(found["header"].get(key) == head[key] for key in ("sources", "versions"))
        if same and found["header"]["gpu"]["name"] == head["gpu"]["name"]:
            return found
    return {"suite": "gpu", "header": head, "rows": [], "done": {}}


def line(row: results.Row) -> str:
    """A row in words."""
    if row["failed"]:
        return f"  {row['case']}: FAIL, {row['failed']}"
    figures = [f"{key.replace('_', ' ')} {_number(row[key])}" for key in row.get("shows", ()) if row[key] is not None]
    peers = [f"{peer['name']} {peer['ratio']:.2f}x" for peer in row.get("peers", ())]
    return f"  {row['case']}: {', '.join(figures + peers)}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks gpu",
        description="The first minutes on a GPU.",
        epilog="parts: " + "; ".join(f"{part.name} ({part.says})" for part in PARTS.values()),
    )
    made.add_argument(
        "--parts", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART", help="default: all"
    )
    made.add_argument("--list", action="store_true", help="print the parts and their tasks and stop")
    made.add_argument("--device", choices=("cuda", "emu"), default="cuda", help="emu: to try the script, tiny")
    made.add_argument("--json", type=Path, metavar="FILE", help="default: benchmarks/results/ with the GPU's name")
    made.add_argument("--again", action="store_true", help="do what is done already, too")
    made.add_argument("--hurry", type=float, default=1.0, metavar="X", help="a part's seconds times this")
    return made


def main(arguments: list[str]) -> int:
    """Run the parts; the exit status is 1 if a kernel is wrong or a task fails, 2 if there is no GPU."""
    options = parser().parse_args(arguments)
    try:
        board = boards.find(options.device)
    except RuntimeError as problem:
        print(problem)
        return 2
    parts = [PARTS[name] for name in PARTS if name in options.parts]
    if options.list:
        for part in parts:
            print(f"{part.name}: {part.says} (at most {part.seconds:.0f} s)")
            print("".join(f"  {task.name}\n" for task in part.tasks(board)), end="")
        return 0
    if options.json is None and options.device == "emu":
        print("what the emulator takes is no result: give --json FILE")
        return 2
    head = header(board)
    path = options.json or default_file(head["gpu"]["name"])
    found = begin(path, head)
    print(f"{head['gpu']['name']}, {head['date']}; results in {path}", flush=True)
    if not head["gpu"]["measured"]:
        print("the times below are the emulator's and say nothing of any GPU")
    start = time.monotonic()
    for part in parts:
        done = set() if options.again else set(found["done"].get(part.name, ()))
        names = [task.name for task in part.tasks(board)]
        print(f"{part.name}: {len(set(names) - done)} of {len(names)} tasks to do", flush=True)
        for name, rows in work(part, board, done, part.seconds * options.hurry):
            found["rows"] = [r for r in found["rows"] if (r["part"], r["task"]) != (part.name, name)] + rows
            found["done"].setdefault(part.name, [])
            if name not in found["done"][part.name] and not any(row["failed"] for row in rows):
                found["done"][part.name].append(name)
            results.write(found, path)
            for row in rows:
                print(line(row), flush=True)
    if board.device == "cuda" and correct.CORRECT in parts:
        print("run on this GPU: " + ", ".join(correct.note(found["rows"], board, head["gpu"]["name"])))
    failed = [row for row in found["rows"] if row["failed"]]
    left = sum(len(part.tasks(board)) - len(found["done"].get(part.name, ())) for part in parts)
    print(f"{time.monotonic() - start:.0f} s; {len(found['rows'])} rows, {len(failed)} failed, {left} tasks left to do")
    return 1 if failed else 0
