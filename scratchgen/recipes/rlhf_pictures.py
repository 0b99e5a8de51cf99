"""What the RLHF recipe shows: responses before and after, and what a nat from the reference was worth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .. import viz
from ..models.rlhf import Floats, best_of_kl
from ..training import write_atomically

Curve = tuple[Floats, Floats]  # nats from the reference, score


def write_responses(folder: Path, step: int, prompts: list[str], sides: Mapping[str, tuple[list[str], Floats]]) -> None:
    """``samples.txt``: under each prompt the responses of each side, (texts, what the rule says of them)."""
    lines = []
    for i, prompt in enumerate(prompts):
        lines.append(f"--- {prompt!r}")
        lines += [f"{name:>9} {counted[i]:.3f} {texts[i]!r}" for name, (texts, counted) in sides.items()]
    for path in (folder / "samples.txt", folder / "samples" / f"step-{step:06d}.txt"):
        write_atomically(path, lambda file: file.write("\n".join(lines).encode() + b"\n"))


def frontier(path: Path, runs: Mapping[str, Path], others: Mapping[str, Curve] | None = None) -> None:
    """Score against KL: the way of each run by its metrics, from the reference at (0, 0), and other curves."""
    curves = {name: way for name, folder in runs.items() if (way := way_of(folder)) is not None}
    viz.trade_off(path, {**curves, **(others or {})}, x="KL from the reference, nats", y="score, deviations")


def way_of(folder: Path) -> Curve | None:
    """Where the policy of a run was at each evaluation; None if there was none yet."""
    metrics = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.is_file() else []
    points = [(line["validation_kl"], line["validation_score"]) for line in lines if "validation_kl" in line]
    if not points:
        return None
    kl, score = np.array([(0.0, 0.0), *points]).T
    return kl, score


def best_of_curve(rewards: Floats, counted: Floats) -> Curve:
    """The best of 1, 2, 4 ... of n responses to each prompt, chosen by ``rewards`` (N, n), scored by ``counted``."""
    sizes = [1 << i for i in range(rewards.shape[1].bit_length())]
    scores = []
    for n in sizes:
        whole = rewards.shape[1] // n * n  # the responses that fill groups of n
        groups, theirs = rewards[:, :whole].reshape(-1, n), counted[:, :whole].reshape(-1, n)
        scores.append(theirs[np.arange(len(groups)), groups.argmax(1)].mean())
    unit = counted.std() or 1.0
    return np.array([best_of_kl(n) for n in sizes]), (np.array(scores) - counted.mean()) / unit
