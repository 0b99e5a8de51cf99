"""Where the time of one of our training steps goes, op by op."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import scratchgen as sg

from .library import Scratchgen
from .networks import Step

OUTSIDE = "(outside of ops)"  # above all the optimizer


def profile(step: Step, seed: int = 0) -> tuple[float, sg.Timer]:
    """Seconds of one step after two to warm up, and the timer that watched it."""
    L = Scratchgen()
    sg.manual_seed(seed)
    training = step.build(L)
    batch: list[Any] = [L.tensor(a, step.images) for a in training.draw(np.random.default_rng(seed))]
    for _ in range(2):
        training.step(*batch)
    start = time.perf_counter()
    with sg.Timer() as timer:
        training.step(*batch)
    seconds = time.perf_counter() - start
    timer.seconds[OUTSIDE] = seconds - sum(timer.seconds.values())
    return seconds, timer


def show(step: Step) -> None:
    """Print the profile, the ops that took most first: calls, time, share of the step, megabytes written."""
    seconds, timer = profile(step)
    print(f"{step.name}: {seconds * 1e3:.1f} ms, {step.samples / seconds:.0f} samples/s\n")
    print(f"{'op':<44}{'calls':>6}{'ms':>10}{'share':>8}{'MB out':>10}")
    for name in sorted(timer.seconds, key=lambda n: -timer.seconds[n]):
        ms, mb = timer.seconds[name] * 1e3, timer.bytes[name] / 1e6
        print(f"{name:<44}{timer.calls[name]:>6}{ms:>10.2f}{ms / seconds / 10:>7.1f}%{mb:>10.2f}")
