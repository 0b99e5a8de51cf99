"""What the engine costs per op: a chain of multiplications of 4x4 arrays, as a multiple of ``np.multiply``.

Arithmetic on 16 numbers takes no time, so this is the price of recording and differentiating an op in Python. The
bounds keep it from creeping up; PyTorch's eager engine, in C++, stands beside it where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

import scratchgen as sg

from .paired import ratio, rounds, seconds

BOUNDS = {"forward": 12.0, "no_grad": 7.0, "backward": 14.0}
LENGTH = 200  # multiplications in a chain


def _numpy() -> Callable[[], float]:
    x = np.random.default_rng(0).random((4, 4)).astype(np.float32)

    def chain() -> None:
        y = x
        for _ in range(LENGTH):
            y = np.multiply(y, x)

    return lambda: seconds(chain)


def _engine(tensor: Callable, no_grad: Callable) -> dict[str, Callable[[], float]]:
    """The same chain in an engine with torch's names."""
    values = np.random.default_rng(0).random((4, 4)).astype(np.float32)
    x, w = tensor(values), tensor(values)
    w.requires_grad_(True)
    one = tensor(np.ones((4, 4), np.float32))

    def chain() -> object:
        y = w
        for _ in range(LENGTH):
            y = y * x
        return y

    def without() -> None:
        with no_grad():
            chain()

    def backward() -> float:
        y = chain()
        w.grad = None
        return seconds(lambda: y.backward(one))  # type: ignore[attr-defined]

    return {"forward": lambda: seconds(chain), "no_grad": lambda: seconds(without), "backward": backward}


def measure(count: int) -> dict[str, dict]:
    """Ratios to ``np.multiply`` by engine and phase, with the raw seconds."""
    contenders = {"numpy": _numpy()}
    engines = {"scratchgen": _engine(sg.tensor, sg.no_grad)}
    if importlib.util.find_spec("torch"):
        import torch

        engines["torch"] = _engine(torch.tensor, torch.no_grad)
    for engine, phases in engines.items():
        contenders |= {f"{engine} {phase}": call for phase, call in phases.items()}
    samples = rounds(contenders, count)
    base = samples["numpy"]
    return {
        name: {"ratio": vars(ratio(values, base)), "us_per_op": float(np.median(values)) / LENGTH * 1e6}
        for name, values in samples.items()
        if name != "numpy"
    } | {"numpy": {"us_per_op": float(np.median(base)) / LENGTH * 1e6}}


def main(arguments: list[str]) -> int:
    """Print the table; exit status 1 if a bound is broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="interleaved rounds (default: 200)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    results = measure(options.rounds)
    print(f"us per op and multiple of np.multiply ({results['numpy']['us_per_op']:.2f} us) on 4x4 float32,")
    print(f"median of {options.rounds} interleaved rounds and its 95 % interval\n")
    print(f"{'':24}{'us':>7}{'ratio':>8}  {'interval':16}{'bound':>6}")
    broken = 0
    for name in sorted(results.keys() - {"numpy"}):
        engine, phase = name.split()
        r = results[name]["ratio"]
        bound = BOUNDS[phase] if engine == "scratchgen" else None
        broken += bound is not None and r["median"] > bound
        interval = f"[{r['low']:.2f}, {r['high']:.2f}]"
        print(
            f"{name:24}{results[name]['us_per_op']:7.2f}{r['median']:8.2f}  {interval:16}"
            + (f"{bound:6.0f}" if bound else "")
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))
    return 1 if broken else 0
