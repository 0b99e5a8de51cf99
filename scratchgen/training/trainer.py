"""The one loop that trains every recipe: progress, metrics, pictures, checkpoints, resuming."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from .. import viz
from ..rng import default_generator
from . import checkpoint
from .files import write_atomically

CHECKPOINT = "checkpoint.safetensors"
PREVIOUS = "checkpoint-previous.safetensors"
CHECKPOINT_SECONDS = 60.0  # at most this much work is lost when a run is killed
LINES = 200  # training metrics are averaged so that metrics.jsonl has about this many lines


class Trainable(Protocol):
    """What the trainer needs of a recipe; ``scratchgen.recipes.Recipe`` documents each."""

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> Any: ...
    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...
    def step(self) -> dict[str, float]: ...
    def validate(self) -> dict[str, float]: ...
    def preview(self, folder: Path, step: int) -> None: ...


class Diverged(RuntimeError):
    """A metric became NaN or infinite; the last checkpoint is from before that."""


class Trainer:
    """Runs a recipe in a run folder.

    The folder gets ``metrics.jsonl`` (one line for each logged step; free of clock times, so that a resumed run writes
    the very same file as an uninterrupted one), ``loss.png``, ``samples/``, and ``checkpoint.safetensors``.
    """

    def __init__(self, recipe: Trainable, folder: Path, quiet: bool = False) -> None:
        self.recipe = recipe
        self.folder = folder
        self.quiet = quiet
        self.step = 0
        self.seconds = 0.0  # spent in training, over all resumed parts
        self.history: list[dict[str, Any]] = []
        self._sums: dict[str, float] = {}
        self._count = 0
        config = recipe.config
        self.evaluate_every = config.evaluate_every or max(1, config.steps // 10)
        self.log_every = max(1, config.steps // LINES)

    # --- running

    def run(self) -> None:
        """Train from the present step to the last one.

        Raises Diverged on a NaN, with the last good checkpoint in place. On Ctrl-C the state is saved first.
        """
        steps = self.recipe.config.steps
        self._mark = time.perf_counter()
        first = self.step
        with self._progress(steps) as bar:
            try:
                while self.step < steps:
                    metrics = self.recipe.step()
                    self.step += 1
                    self._note(metrics)
                    if self.step % self.log_every == 0 or self.step == steps:
                        self._log(bar)
                    bar.update()
                    if self.step % self.evaluate_every == 0 or self.step == steps:
                        self._evaluate(bar)
                        self.save()
                    elif time.perf_counter() - self._mark > CHECKPOINT_SECONDS:
                        self.save()
            except KeyboardInterrupt:
                if self.step > first:
                    self.save()
                raise

    def _progress(self, steps: int) -> Any:
        from tqdm import tqdm

        plain = self.quiet or not sys.stderr.isatty()
        return tqdm(
            total=steps, initial=self.step, desc=self.recipe.name, unit="step", disable=plain, dynamic_ncols=True
        )

    def _say(self, bar: Any, text: str) -> None:
        """A line of text: above the bar on a terminal, plain in a log."""
        if not self.quiet:
            bar.write(text, file=sys.stderr)

    # --- metrics

    def _note(self, metrics: dict[str, float]) -> None:
        for key, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"step {self.step}: {key} is {value}; training stopped. "
                    f"The last good checkpoint is intact: {self._newest()}. "
                    "Try a lower learning_rate, or find the op with scratchgen.debug()"
                )
            self._sums[key] = self._sums.get(key, 0.0) + value
        self._count += 1

    def _log(self, bar: Any) -> None:
        means = {key: total / self._count for key, total in self._sums.items()}
        self._sums, self._count = {}, 0
        self._append({"step": self.step, **means})
        bar.set_postfix({key: f"{value:.4g}" for key, value in list(means.items())[:3]})

    def _append(self, line: dict[str, Any]) -> None:
        self.history.append(line)
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")

    def _evaluate(self, bar: Any) -> None:
        metrics = self.recipe.validate()
        self._append({"step": self.step, **{f"validation_{key}": value for key, value in metrics.items()}})
        latest = {**self.history[-2], **self.history[-1]} if len(self.history) > 1 else self.history[-1]
        shown = "  ".join(f"{key} {value:.5g}" for key, value in latest.items() if key != "step")
        self._say(bar, f"{self.recipe.name} step {self.step}/{self.recipe.config.steps}  {shown}")
        self.recipe.preview(self.folder / "samples", self.step)
        viz.loss_curves(self.folder / "loss.png", self.history)

    # --- checkpoints

    def save(self) -> None:
        """Write a checkpoint; the one before it is kept as ``checkpoint-previous.safetensors``."""
        now = time.perf_counter()
        self.seconds += now - self._mark
        self._mark = now
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "sums": self._sums,
            "count": self._count,
            "lines": len(self.history),
            "default_generator": default_generator.state_dict(),
            "recipe": {name: part.state_dict() for name, part in self.recipe.state().items()},
        }
        path = self.folder / CHECKPOINT
        if path.exists():
            blob = path.read_bytes()
            write_atomically(self.folder / PREVIOUS, lambda file: file.write(blob))
        checkpoint.save(path, state)

    def resume(self) -> None:
        """Go back to the last checkpoint; lines of ``metrics.jsonl`` written after it are dropped."""
        try:
            state = checkpoint.load(self.folder / CHECKPOINT)
        except checkpoint.CheckpointError as error:
            if (self.folder / PREVIOUS).exists():
                error.add_note(
                    f"The checkpoint before it is in {self.folder / PREVIOUS}: rename it to {CHECKPOINT} to go on "
                    "from there."
                )
            raise
        self.recipe.load_state(state["recipe"])
        default_generator.load_state_dict(state["default_generator"])
        self.step, self.seconds = state["step"], state["seconds"]
        self._sums, self._count = state["sums"], state["count"]
        metrics = self.folder / "metrics.jsonl"
        lines = metrics.read_text().splitlines(keepends=True)[: state["lines"]] if metrics.exists() else []
        if len(lines) < state["lines"]:
            raise checkpoint.CheckpointError(
                f"{metrics} has {len(lines)} lines, the checkpoint was written after {state['lines']}"
            )
        write_atomically(metrics, lambda file: file.write("".join(lines).encode()))
        self.history = [json.loads(line) for line in lines]

    def _newest(self) -> str:
        path = self.folder / CHECKPOINT
        return str(path) if path.exists() else "none was written yet"
