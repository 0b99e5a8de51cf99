"""Single ops beside PyTorch's (and others'): correct first, then paired times.

A row is an op in one direction. Every library computes it on the same inputs; its error is taken against float64, and
what is wrong is not timed. Then the workers take turns in random order, a turn being some calls after one that nobody
counts, and the median of the ratios of a round is the row's ratio: the peer's time divided by ours. ``best`` is the
faster of PyTorch's two memory layouts, run eagerly; torch.compile and JAX are further columns.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from . import machine, paired, results, roof
from .cases import CASES, Case
from .report import line, summary
from .running import ROTATION
from .worker import OURS, Setting, Worker, WorkerError

PEERS = {
    "torch": ("torch channels-last", "torch NCHW"),
    "torch.compile": ("torch.compile",),
    "jax": ("jax",),
}
EAGER = PEERS["torch"]  # what "best" is the best of
TURN = 0.1  # seconds that a turn should take
LONG, VERY_LONG = 0.05, 1.0  # seconds of a call that needs only one other before it, or none


class Contender(Protocol):
    """A ``Worker``, or something that answers the same calls."""

    setting: Setting
    version: str

    def call(self, method: str, *arguments: Any) -> Any:
        """Run a method of its ``Bench``."""


class Workers:
    """Workers by name, each started when it is first asked for."""

    def __init__(self, threads: int, bench: str = "ops") -> None:
        self.threads = threads
        self.bench = bench
        self.running: dict[str, Worker] = {}

    def __getitem__(self, name: str) -> Worker:
        if name not in self.running:
            self.running[name] = Worker(name, self.threads, self.bench)
        return self.running[name]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.running.values():
            worker.end()


def contenders_of(case: Case, direction: str, peers: list[str]) -> list[str]:
    """The names of the workers that run a row, ours first."""
    names = [OURS]
    for peer in peers:
        kinds = PEERS[peer] if case.images or peer != "torch" else PEERS[peer][:1]
        names += [] if case.stateful and peer != "torch" else kinds
    return names


def measure_row(
    case: Case, direction: str, contenders: Mapping[str, Contender], budget: float, tops: dict[str, Any]
) -> results.Row:
    """Check and time one row; ``contenders`` by name, ours first. ``tops``: the roof."""
    names = list(contenders)
    row: results.Row = {
        "case": case.name,
        "group": case.group.name,
        "direction": direction,
        "inputs": [draw.says for draw in case.inputs],
        "bar": case.bar(direction),
        "mean_bar": case.group.bars[direction].mean if direction in case.group.bars else None,
        "tolerance": case.group.tolerance,
        "failed": None,
        "ms": None,
        "best_ratio": None,
        "roof_fraction": None,
        "peers": [],
    }
    try:
        errors, sizes = _errors(case, direction, contenders)
    except WorkerError as problem:
        row["error"], row["failed"] = None, problem.summary
        return row
    for name in [n for n in names if n not in errors]:  # a further column that cannot do this op
        names.remove(name)
    row["error"] = errors[OURS]
    if not errors[OURS] <= case.group.tolerance:
        row["failed"] = f"error {errors[OURS]:.1e} is above {case.group.tolerance:.0e}, not timed"
        return row

    turns = {name: turn(contenders[name], min(contenders[name].call("time", 1, 2))) for name in names}
    samples = paired.rounds(turns, 41, budget=budget, least=5)
    ours = samples[OURS]
    row["flops"], row["bytes"] = case.cost(direction, **sizes)
    row["ms"] = float(np.median(ours)) * 1e3
    row["interval_ms"] = interval_ms(ours)
    row["roof_fraction"] = roof.fraction(tops, row["flops"], row["bytes"], row["ms"] / 1e3)
    row["samples_ms"] = [round(s * 1e3, 6) for s in ours.tolist()]
    for name in names[1:]:
        row["peers"].append(peer(name, contenders[name], samples[name], ours, errors[name], case.images))
    judge(row)
    return row


def _errors(
    case: Case, direction: str, contenders: Mapping[str, Contender]
) -> tuple[dict[str, float], dict[str, list[int]]]:
    """Each contender's error against float64, and the bytes of inputs, outputs and gradients. Leaves the row open."""
    names = list(contenders)
    oracle = contenders[names[-1] if names[-1] in EAGER else next((n for n in names if n in EAGER), OURS)]
    errors = {}
    with tempfile.TemporaryDirectory(prefix="scratchgen-truth-") as folder:
        oracle.call("open", case.name, direction, "float64", 1)
        sizes = oracle.call("truth", folder)
        for name, contender in contenders.items():
            try:
                contender.call("open", case.name, direction)
                errors[name] = contender.call("error", folder)
            except WorkerError as problem:
                if name == OURS or name in EAGER:
                    raise
                print(f"{name} leaves out {case.name}: {problem.summary}", file=sys.stderr)
    return errors, sizes


def turn(contender: Contender, once: float) -> Callable[[], float]:
    """A function that takes one turn: the median seconds of as many calls as fit ``TURN``, after some for the caches.

    ``once``: what a call takes.
    """
    warm, count = calls_of_turn(once)
    return lambda: statistics.median(contender.call("time", warm, count))


def calls_of_turn(once: float) -> tuple[int, int]:
    """How many calls of a turn warm up, and how many count.

    The caches should have seen all sets of inputs; the longer a call takes, the less it matters how it found them.
    """
    count = min(max(math.ceil(TURN / once), 1), 200)
    return (0 if once > VERY_LONG else 1 if once > LONG else max(ROTATION, count // 10)), count


def interval_ms(samples: np.ndarray) -> list[float]:
    """The 95 % interval of the median, in milliseconds."""
    found = paired.interval(samples * 1e3)
    return [found.low, found.high]


def peer(
    name: str, contender: Contender, samples: np.ndarray, ours: np.ndarray, error: float | None, images: bool
) -> dict[str, Any]:
    """What a row keeps of one peer, from the seconds of both in each round."""
    found = paired.ratio(samples, ours)
    return {
        "name": contender.setting.library,
        "layout": contender.setting.layout if images else "contiguous",
        "setting": name if images or name not in EAGER else contender.setting.library,
        "version": contender.version,
        "error": error,
        "ms": float(np.median(samples)) * 1e3,
        "interval_ms": interval_ms(samples),
        "ratio": found.median,
        "interval": [found.low, found.high],
        "samples_ms": [round(s * 1e3, 6) for s in samples.tolist()],
    }


def judge(row: results.Row) -> None:
    """The ratio to the fastest eager peer; an optimizer that was asked to be fused stands beside it."""
    eager = [p for p in row["peers"] if p["name"] == "torch" and not p["setting"].endswith("fused optimizer")]
    if eager:
        best = min(eager, key=lambda peer: peer["ratio"])
        row["best_ratio"], row["best_interval"] = best["ratio"], best["interval"]
        row["best_layout"] = best["layout"]


# --- the command


def choose(patterns: list[str], names: list[str]) -> list[str]:
    """Names that hold one of ``patterns``, which may have wildcards; all of them if there are none."""
    if not patterns:
        return names
    found = [n for n in names if any(fnmatch.fnmatch(n.lower(), f"*{p.lower()}*") for p in patterns)]
    if not found:
        raise SystemExit(f"no case matches {' '.join(patterns)}; there are:\n  " + "\n  ".join(names))
    return found


def common_arguments(prog: str, description: str | None, budget: float) -> argparse.ArgumentParser:
    """What ``ops`` and ``steps`` have in common."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {prog}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cases", nargs="+", default=[], metavar="PATTERN", help="cases whose names hold one of these")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and stop")
    parser.add_argument("--seconds", type=float, default=budget, help="to time a row for (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of each library (default: 2)")
    parser.add_argument(
        "--json", type=Path, nargs="?", const=Path(), metavar="FILE",
        help="keep the results; without FILE under benchmarks/results/ with the processor's name",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="keep the rows that FILE has, and measure the others")
    return parser


def results_file(options: argparse.Namespace, suite: str) -> Path | None:
    """Where the results go."""
    if options.json == Path():
        return machine.ROOT / "benchmarks" / "results" / f"{suite}-{machine.cpu_slug()}.json"
    return options.json


def begin(options: argparse.Namespace, suite: str) -> tuple[results.Results, Path | None]:
    """Empty results, or those of the file to go on with; and the file."""
    path = results_file(options, suite)
    found: results.Results = {"suite": suite, "header": machine.header(options.threads), "rows": []}
    if options.resume and path and path.exists():
        before = results.read(path)
        for what in ("git", "cpu", "versions", "threads"):
            if before["header"][what] != found["header"][what]:
                raise SystemExit(f"cannot go on with {path}: its {what} was {before['header'][what]}")
        found = before
    return found, path


def print_header(found: results.Results) -> None:
    """What the figures were measured on."""
    head = found["header"]
    print(f"{head['cpu']}, {head['cores']} cores, {head['threads']} threads each; load {head['load'][0]:.2f}")
    print(", ".join(f"{name} {v}" for name, v in head["versions"].items()) + f"; commit {head['git'] or 'unknown'}")
    print(head["precision"])


def end(found: results.Results, path: Path | None) -> int:
    """Print the verdict; exit status 1 if a bar is broken."""
    print("\n" + summary(found))
    if path:
        print(f"\nresults: {path}")
    return 1 if results.broken(found) else 0


def installed_peers(asked: str | None) -> list[str]:
    """The peers by name; by default PyTorch, if it is here."""
    if asked is None:
        return ["torch"] if importlib.util.find_spec("torch") else []
    peers = [p for p in asked.split(",") if p]
    for peer in peers:
        if peer not in PEERS:
            raise SystemExit(f"unknown peer {peer!r}; there are: {', '.join(PEERS)}")
        if not importlib.util.find_spec(peer.partition(".")[0]):
            raise SystemExit(f"{peer} is not installed: pip install 'scratchgen[bench]'")
    return peers


def main(arguments: list[str]) -> int:
    """Measure the rows asked for; exit status 1 if a bar or the floor is broken."""
    parser = common_arguments("ops", __doc__, budget=3.0)
    parser.add_argument(
        "--peers", metavar="NAMES", help=f"some of {','.join(PEERS)} (default: torch, in both of its layouts)"
    )
    options = parser.parse_args(arguments)
    names = choose(options.cases, list(CASES))
    if options.list:
        print("\n".join(names))
        return 0
    peers = installed_peers(options.peers)
    found, path = begin(options, "ops")
    print_header(found)
    done = {results.key(row) for row in found["rows"]}
    with Workers(options.threads) as workers:
        if "roof" not in found["header"]:
            found["header"]["roof"] = workers[OURS].call("roof", options.threads)
        tops = found["header"]["roof"]
        print(f"roof: {tops['flops'] / 1e9:.0f} GFLOP/s; copies of " + ", ".join(
            f"{size / 1e6:.0f} MB {speed / 1e9:.0f} GB/s" for size, speed in tops["bandwidth"]) + "\n")  # fmt: skip
        start = time.perf_counter()
        for name in names:
            case = CASES[name]
            for direction in case.directions:
                if (name, direction) in done:
                    continue
                contenders = {n: workers[n] for n in contenders_of(case, direction, peers)}
                row = measure_row(case, direction, contenders, options.seconds, tops)
                found["rows"].append(row)
                print(line(row), flush=True)
                for contender in contenders.values():
                    contender.call("close")
                if path:
                    results.write(found, path)
        print(f"\n{time.perf_counter() - start:.0f} s")
    return end(found, path)
