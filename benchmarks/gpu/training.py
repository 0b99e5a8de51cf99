"""Whole training steps: the networks of ``benchmarks steps`` beside PyTorch's on one GPU, and every recipe alone."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import scratchgen as sg
from scratchgen import data
from scratchgen.recipes import RECIPES, find

from .. import paired
from ..library import Library, Scratchgen, Torch
from ..networks import STEPS as NETWORKS
from ..networks import Step
from ..stepping import StepBench, agree
from .board import Board
from .roofs import torch_on_gpu
from .tasks import Part, Row, Task

ROUNDS, LEAST, SECONDS = 21, 5, 4.0
RECIPE_STEPS = 20
# Sets that need no download, for recipes whose own does.
DATA = {"gpt": "addition", "transformer": "dates"}


class OnDevice:
    """A library whose tensors and modules lie on one device; mixed into one whose lie on the CPU."""

    device: str

    def tensor(self, array: np.ndarray, image: bool = False) -> Any:
        """A tensor on the device."""
        return super().tensor(array, image).to(self.device)  # type: ignore[misc]

    def numpy(self, tensor: Any) -> np.ndarray:
        """Its values on the host."""
        return np.asarray(tensor.detach().cpu().numpy())

    def prepared(self, module: Any) -> Any:
        """A module on the device."""
        return super().prepared(module.to(self.device))  # type: ignore[misc]


class Ours(OnDevice, Scratchgen):
    """This library on a GPU, or in the emulator."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device


class Theirs(OnDevice, Torch):
    """PyTorch on a GPU, with fused optimizers; images as ours, their channels last."""

    device = "cuda"


class Steps(StepBench):
    """Steps timed from an idle device to an idle device."""

    def __init__(self, library: Library, board: Board, steps: dict[str, Step] | None = None) -> None:
        super().__init__(library, steps)
        self.board = board

    def build(self, name: str, weights: str | None, seed: int = 0) -> None:
        """Build a network on the device, its unprepared parts too."""
        super().build(name, weights, seed)
        assert self.training is not None
        for module in self.training.modules.values():
            module.to(self.library.device)

    def turn(self, count: int) -> float:
        """Seconds of one of ``count`` steps."""
        training = self.training
        assert training is not None
        return self.board.seconds(lambda: training.step(*next(self.batches)), count)


def _beside(step: Step, board: Board) -> Iterator[Row]:
    """From the same weights on the same batches: losses that agree, then times."""
    ours = Steps(Ours(board.device), board, {step.name: step})
    benches = {"ours": ours}
    if board.device == "cuda" and torch_on_gpu():
        benches["PyTorch"] = Steps(Theirs(channels_last=step.images), board, {step.name: step})
    elif board.small:
        benches["ours on the CPU"] = Steps(Ours("cpu"), board, {step.name: step})
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder) / "weights.npz")
        ours.build(step.name, None)
        ours.save(weights)
        for bench in benches.values():
            bench.build(step.name, weights)
    losses = {name: bench.losses(step.agree) for name, bench in benches.items()}
    row: Row = {"case": step.name, "losses": losses, "shows": ["ms", "samples_per_second", "agree"]}
    row["agree"] = all(agree(found, losses["ours"], 1e-3)[1] for found in losses.values())
    row["failed"] = None if row["agree"] else f"the losses part: {losses}"
    count = 1 if board.small else 5
    turns = {name: lambda bench=bench: bench.turn(count) for name, bench in benches.items()}
    few = (1, 0.0, 1) if board.small else (ROUNDS, SECONDS, LEAST)
    samples = paired.rounds(turns, few[0], budget=few[1], least=few[2])
    seconds = float(np.median(samples["ours"]))
    row |= {"ms": seconds * 1e3, "samples_per_second": step.samples / seconds, "peers": []}
    for name, theirs in samples.items():
        if name != "ours":
            found = paired.ratio(theirs, samples["ours"])
            row["peers"].append(
                {"name": name, "ms": float(np.median(theirs)) * 1e3, "ratio": found.median,
                 "interval": [found.low, found.high]}
            )  # fmt: skip
    yield row


def _recipe(model: str, board: Board) -> Iterator[Row]:
    """Steps of the ``tiny`` preset, and whether the first has the loss that it has on the CPU."""
    kind = find(model)
    name = DATA.get(model, "digits")
    config = kind.configure("tiny", name)
    losses = {}
    for device in ("cpu", board.device):
        recipe = kind(config, data.load(name), sg.Device(device), 0)
        losses[device] = recipe.step()
    apart = max(abs(losses[board.device][key] - value) / max(abs(value), 1e-3) for key, value in losses["cpu"].items())
    count = 1 if board.small else RECIPE_STEPS
    samples = [board.seconds(recipe.step, 1) for _ in range(count)]
    yield {
        "case": f"recipe {model}, tiny, {name}", "ms": statistics.median(samples) * 1e3, "apart": apart,
        "failed": None if apart < 1e-2 else f"the first step's figures part by {apart:.1e}: {losses}",
        "shows": ["ms", "apart"],
    }  # fmt: skip


def _tasks(board: Board) -> list[Task]:
    if board.small:  # the others would take the emulator hours
        return [Task("recipe vae", lambda: _recipe("vae", board))]
    networks = [Task(step.name, lambda step=step: _beside(step, board)) for step in NETWORKS.values()]  # type: ignore[misc]
    recipes = [Task(f"recipe {name}", lambda name=name: _recipe(name, board)) for name in RECIPES]  # type: ignore[misc]
    return networks + recipes


STEPS = Part("steps", "whole training steps beside PyTorch's, and of every recipe", 70, _tasks)
