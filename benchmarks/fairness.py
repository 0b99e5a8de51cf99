"""Does taking turns change what a library takes? Each is timed alone, call after call in a process that nobody stops,
and in turns with the other as ``ops`` does it; blocks of both alternate. The ratio should be 1.
"""

from __future__ import annotations

import argparse
import statistics

from . import ops, paired
from .cases import CASES
from .worker import OURS

NAMES = (
    "conv 3x3 N32 64->64 32x32",
    "linear (768, 128)->512",
    "linear (128, 784)->400",
    "softmax (4096, 256)",
    "layer_norm (4096, 1024)",
)
LIMIT = 0.03
TURNS = 3  # in a block


def measure(name: str, workers: ops.Workers, blocks: int) -> dict[str, paired.Ratio]:
    """By worker: the time of a call in turns, divided by that alone."""
    case = CASES[name]
    names = [OURS, "torch channels-last"]
    plans = {}
    for n in names:
        workers[n].call("open", name, case.directions[-1])
        plans[n] = ops.calls_of_turn(min(workers[n].call("time", 2, 3)))
    ratios: dict[str, list[float]] = {n: [] for n in names}
    for _ in range(blocks):
        in_turns: dict[str, list[float]] = {n: [] for n in names}
        for _ in range(TURNS):
            for n in names:
                in_turns[n].append(statistics.median(workers[n].call("time", *plans[n])))
        for n in names:
            warm, count = plans[n]
            alone = statistics.median(workers[n].call("time", 2 * warm, TURNS * count))
            ratios[n].append(statistics.median(in_turns[n]) / alone)
    return {n: paired.interval(values) for n, values in ratios.items()}


def main(arguments: list[str]) -> int:
    """Print the ratios; exit status 1 if turns cost a library more than 3 %, the interval's nearer end counting."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks fairness", description=__doc__)
    parser.add_argument("--cases", nargs="+", default=[], metavar="PATTERN", help="cases of ops (default: a few)")
    parser.add_argument("--blocks", type=int, default=9, help="of turns, and alone (default: 9)")
    parser.add_argument("--threads", type=int, default=2, help="of each library (default: 2)")
    options = parser.parse_args(arguments)
    unfair = 0
    with ops.Workers(options.threads) as workers:
        print(f"time in turns / time alone\n{'':42}{'scratchgen':24}torch")
        for name in ops.choose(options.cases, list(CASES)) if options.cases else NAMES:
            found = measure(name, workers, options.blocks)
            print(f"{name:42}" + "".join(f"{r!s:24}" for r in found.values()), flush=True)
            unfair += sum(r.low > 1 + LIMIT or r.high < 1 - LIMIT for r in found.values())
    return 1 if unfair else 0
