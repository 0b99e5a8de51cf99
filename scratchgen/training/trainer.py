"""The one loop that trains every recipe: progress, metrics, pictures, checkpoints, resuming."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from .. import viz
from ..rng import default_generator
from . import checkpoint
from .files import write_atomically
from .interrupt import Interrupt

CHECKPOINT = "checkpoint.safetensors"
PREVIOUS = "checkpoint-previous.safetensors"
METRICS = "metrics.jsonl"
CHECKPOINT_SECONDS = 60.0  # at most this much work is lost when a run is killed
LINES = 200  # training metrics are averaged so that there are about this many lines of them


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
    """A metric or a weight became NaN or infinite; the last checkpoint is from before that."""


class Trainer:
    """Runs a recipe in a run folder.

    The folder gets ``metrics.jsonl`` (one line for each logged step; free of clock times, so that a resumed run writes
    the very same file as an uninterrupted one), ``loss.png``, the recipe's pictures, and ``checkpoint.safetensors``.
    """

    def __init__(self, recipe: Trainable, folder: Path, quiet: bool = False) -> None:
        self.recipe = recipe
        self.folder = folder
        self.quiet = quiet
        self.step = 0
        self.seconds = 0.0  # spent in training, over all resumed parts
        self.history: list[dict[str, Any]] = []  # the lines of metrics.jsonl
        self._sums: dict[str, float] = {}  # of the metrics since the last line
        self._counts: dict[str, int] = {}  # steps that had them: a recipe of several stages has not all in each
        config = recipe.config
        self.evaluate_every = config.evaluate_every or max(1, config.steps // 10)
        self.log_every = max(1, config.steps // LINES)

    # --- running

    def run(self) -> None:
        """Train from the present step to the last one.

        Raises Diverged on a NaN, with the last good checkpoint in place. On Ctrl-C the present step is finished and
        saved before KeyboardInterrupt is raised.
        """
        steps = self.recipe.config.steps
        self._mark = time.perf_counter()
        lines = "".join(map(_line, self.history))
        write_atomically(self.folder / METRICS, lambda file: file.write(lines.encode()))
        if self.step == 0:
            self.save()  # so that a run that is killed at any time can be resumed
        with self._progress(steps) as bar, Interrupt() as interrupt:
            while self.step < steps:
                metrics = self.recipe.step()
                self.step += 1
                self._note(metrics)
                last = self.step == steps
                if self.step % self.log_every == 0 or last:
                    self._log(bar)
                bar.update()
                if self.step % self.evaluate_every == 0 or last:
                    self._evaluate(bar)
                elif interrupt.asked or time.perf_counter() - self._mark > CHECKPOINT_SECONDS:
                    self.save()
                if interrupt.asked:
                    raise KeyboardInterrupt

    def _progress(self, steps: int) -> Any:
        from tqdm import tqdm

        plain = self.quiet or not sys.stderr.isatty()
        return tqdm(
            total=steps, initial=self.step, desc=self.recipe.name, unit="step", disable=plain, dynamic_ncols=True
        )

    # --- metrics

    def _note(self, metrics: dict[str, float]) -> None:
        self._check_finite(metrics)
        for key, value in metrics.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
            self._counts[key] = self._counts.get(key, 0) + 1

    def _check_finite(self, metrics: dict[str, float]) -> None:
        for key, value in metrics.items():
            if not math.isfinite(value):
                raise self._diverged(f"{key} is {value}")

    def _diverged(self, what: str) -> Diverged:
        return Diverged(
            f"step {self.step}: {what}; training stopped. The last good checkpoint is intact: "
            f"{self.folder / CHECKPOINT}. Try a lower learning_rate, or find the op with scratchgen.debug()"
        )

    def _log(self, bar: Any) -> None:
        means = {key: total / self._counts[key] for key, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        self._append({"step": self.step, **means})
        bar.set_postfix({key: f"{value:.4g}" for key, value in list(means.items())[:3]})

    def _append(self, line: dict[str, Any]) -> None:
        self.history.append(line)
        with open(self.folder / METRICS, "a") as file:
            file.write(_line(line))

    def _evaluate(self, bar: Any) -> None:
        metrics = self.recipe.validate()
        self._check_finite(metrics)
        shown = self.history[-1] if self.history else {}
        if metrics:
            self._append({"step": self.step, **{f"validation_{key}": value for key, value in metrics.items()}})
            shown = {**shown, **self.history[-1]}
        self.save()
        if not self.quiet:
            text = "  ".join(f"{key} {value:.5g}" for key, value in shown.items() if key != "step")
            bar.write(f"{self.recipe.name} step {self.step}/{self.recipe.config.steps}  {text}", file=sys.stderr)
        self.recipe.preview(self.folder, self.step)
        viz.loss_curves(self.folder / "loss.png", self.history)

    # --- checkpoints

    def save(self) -> None:
        """Write a checkpoint; the one before it is kept as ``checkpoint-previous.safetensors``.

        Raises Diverged, and writes nothing, if a weight is not finite: a gradient can be so while the loss was not.
        """
        now = time.perf_counter()
        self.seconds += now - self._mark
        self._mark = now
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "sums": self._sums,
            "counts": self._counts,
            "history": self.history,
            "default_generator": default_generator.state_dict(),
            "recipe": {name: part.state_dict() for name, part in self.recipe.state().items()},
        }
        if bad := checkpoint.first_not_finite(state):
            raise self._diverged(f"{bad} holds a NaN or an infinity")
        path = self.folder / CHECKPOINT
        if path.exists():
            _keep(path, self.folder / PREVIOUS)
        checkpoint.save(path, state)

    def resume(self) -> None:
        """Go back to the last checkpoint. Reads only; ``run`` then drops the lines of metrics written after it.

        Raises CheckpointError if the checkpoint is damaged or is of another configuration than the recipe.
        """
        path, previous = self.folder / CHECKPOINT, self.folder / PREVIOUS
        try:
            state = checkpoint.load(path)
        except checkpoint.CheckpointError as error:
            if previous.exists():
                error.add_note(
                    f"The checkpoint before it is {previous}: rename it to {CHECKPOINT} to go on from there."
                )
            raise
        try:
            self.recipe.load_state(state["recipe"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise checkpoint.CheckpointError(
                f"{path} does not fit {self.recipe.name} as configured: {error}"
            ) from error
        default_generator.load_state_dict(state["default_generator"])
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]
        self._sums = state["sums"]
        # Checkpoints of before had one count for all.
        self._counts = state["counts"] if "counts" in state else dict.fromkeys(self._sums, state["count"])


def _line(metrics: dict[str, Any]) -> str:
    return json.dumps(metrics) + "\n"


def _keep(path: Path, under: Path) -> None:
    """Give the content of ``path`` a second name, which stays when ``path`` is replaced."""
    temporary = under.with_name(f".{under.name}.part")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, temporary)
    os.replace(temporary, under)
