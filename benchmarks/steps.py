"""Whole training steps beside PyTorch's: same initial weights, same batches, and after some steps the same loss.

Each library trains in a fresh process, so that its peak memory is the step's. Bars are about PyTorch as it is by
default; beside it stands a column in which its optimizers are fused, which they are when they are asked to be. Both use
the fused ops that they have. A row whose losses part is not timed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import ops, paired, results
from .networks import STEPS, Step
from .report import line
from .stepping import agree
from .worker import OURS, Worker


def contenders_of(step: Step, peers: list[str]) -> list[str]:
    """The names of the workers that run a step, ours first."""
    names = [OURS]
    if "torch" in peers:
        layouts = ["torch channels-last", "torch NCHW"] if step.images else ["torch channels-last"]
        names += [f"{layout}, default optimizer" for layout in layouts] + layouts[:1]
    return names + [p for p in peers if p == "torch.compile"]


def _setting(name: str, images: bool) -> str:
    """What a peer's column is headed: the default is not named, nor a layout where no images are."""
    if not name.startswith("torch "):
        return name
    plain = name.removesuffix(", default optimizer")
    return (plain if images else "torch") + (", fused optimizer" if plain == name else "")


def measure_step(
    step: Step, contenders: Mapping[str, ops.Contender], weights: str, budget: float, seed: int = 0
) -> results.Row:
    """Check and time one step; ``contenders`` by name, ours first; all start from the file ``weights``."""
    row: results.Row = {
        "case": step.name,
        "group": "training steps",
        "direction": "step",
        "inputs": ["standard normal numbers, tokens and pixels; see benchmarks/networks"],
        "bar": step.bar,
        "mean_bar": None,
        "tolerance": step.tolerance,
        "failed": None,
        "ms": None,
        "best_ratio": None,
        "roof_fraction": None,
        "peers": [],
    }
    losses, megabytes = {}, {}
    for name, contender in contenders.items():
        contender.call("build", step.name, weights, seed)
        losses[name] = contender.call("losses", step.agree)
        megabytes[name] = contender.call("megabytes")
    differences = {name: agree(losses[OURS], others, step.tolerance) for name, others in losses.items() if name != OURS}
    row["steps"], row["loss"] = step.agree, losses[OURS][-1]
    row["error"] = float(np.max([difference for difference, _ in differences.values()], initial=0.0))
    if not all(fine for _, fine in differences.values()) or not np.isfinite(losses[OURS]).all():
        row["failed"] = f"losses part: {losses}"
        return row

    turns = {name: ops.turn(contender, *contender.call("time", 0, 1)) for name, contender in contenders.items()}
    samples = paired.rounds(turns, 41, budget=budget, least=5)
    ours = samples[OURS]
    row["ms"] = float(np.median(ours)) * 1e3
    row["interval_ms"] = ops.interval_ms(ours)
    row["samples_per_s"] = step.samples / row["ms"] * 1e3
    row["memory_mb"] = megabytes[OURS]
    row["samples_ms"] = [round(s * 1e3, 6) for s in ours.tolist()]
    for name in list(contenders)[1:]:
        peer = ops.peer(name, contenders[name], samples[name], ours, differences[name][0], step.images)
        peer["setting"] = _setting(name, step.images)
        peer |= {"loss": losses[name][-1], "memory_mb": megabytes[name]}
        row["peers"].append(peer)
    ops.judge(row)
    return row


def run(step: Step, threads: int, peers: list[str], budget: float) -> results.Row:
    """One row in fresh processes. One before them makes the weights, and compiles what is not compiled yet."""
    with tempfile.TemporaryDirectory(prefix="scratchgen-steps-") as folder:
        weights = str(Path(folder) / "weights.npz")
        with Worker(OURS, threads, "steps") as first:
            first.call("build", step.name, None)
            first.call("save", weights)
            first.call("losses", 1)
        with ops.Workers(threads, "steps") as workers:
            contenders = {name: workers[name] for name in contenders_of(step, peers)}
            return measure_step(step, contenders, weights, budget)


def describe(row: results.Row) -> str:
    """What the terminal shows of a row besides its times."""
    if row["failed"]:
        return ""
    losses = ", ".join(f"{peer['setting']} {peer['loss']:.6g}" for peer in row["peers"])
    memory = ", ".join(f"{peer['setting']} {peer['memory_mb']:.0f} MB" for peer in row["peers"])
    return (
        f"    loss after {row['steps']} steps {row['loss']:.6g} ({losses}); {row['samples_per_s']:.0f} samples/s; "
        f"grew by {row['memory_mb']:.0f} MB ({memory})"
    )


def main(arguments: list[str]) -> int:
    """Measure the steps asked for; exit status 1 if a bar is broken or the peak memory is above the peers'."""
    parser = ops.common_arguments("steps", __doc__, budget=10.0)
    parser.add_argument("--peers", metavar="NAMES", help="some of torch,torch.compile (default: torch)")
    parser.add_argument("--profile", action="store_true", help="show where our step's time goes by op, and stop")
    options = parser.parse_args(arguments)
    names = ops.choose(options.cases, list(STEPS))
    if options.list:
        print("\n".join(names))
        return 0
    if options.profile:
        from .profile import show

        for name in names:
            show(STEPS[name])
        return 0
    peers = ops.installed_peers(options.peers)
    found, path = ops.begin(options, "steps")
    ops.print_header(found)
    done: set[Any] = {results.key(row) for row in found["rows"]}
    for name in [n for n in names if (n, "step") not in done]:
        row = run(STEPS[name], options.threads, peers, options.seconds)
        found["rows"].append(row)
        print(line(row))
        print(describe(row), flush=True)
        if path:
            results.write(found, path)
    return ops.end(found, path)
