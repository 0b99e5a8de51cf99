"""Run folders: what was trained, with what, and how to build it again."""

from __future__ import annotations

import dataclasses
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import data as datasets
from ..device import Device
from ..recipes import Recipe, find
from ..rng import manual_seed
from ..training import CHECKPOINT, Trainer, write_json
from .errors import UserError

CONFIG = "config.json"
REPORT = "report.json"


@dataclass(frozen=True)
class Run:
    """What ``config.json`` says: enough to build the recipe again, and to know later what was run."""

    model: str
    preset: str
    data: str
    data_dir: str | None
    seed: int
    device: str
    config: dict[str, Any]
    command: str
    started: str
    versions: dict[str, str]

    @classmethod
    def describe(
        cls, model: str, preset: str, data: str, data_dir: str | None, seed: int, device: str, config: Any, command: str
    ) -> Run:
        """A run that starts now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(model, preset, data, data_dir, seed, device, dataclasses.asdict(config), command, now, versions())

    @classmethod
    def read(cls, folder: Path) -> Run:
        """The run in ``folder``. Raises UserError if there is none."""
        path = folder / CONFIG
        if not path.is_file():
            raise UserError(f"{folder} is not a run folder: it has no {CONFIG}; `scratchgen train MODEL` makes one")
        try:
            return cls(**json.loads(path.read_text()))
        except (json.JSONDecodeError, TypeError) as error:
            raise UserError(f"{path} is damaged or of another version of scratchgen: {error}") from error

    def write(self, folder: Path) -> None:
        write_json(folder / CONFIG, dataclasses.asdict(self))

    def build(self, download: bool = False) -> Recipe:
        """The recipe with fresh weights. Raises UserError if it refuses its settings."""
        kind = find(self.model)
        config = kind.configure(self.preset, self.data, **self.config)
        dataset = datasets.load(self.data, data_dir=self.data_dir, download=download)
        manual_seed(self.seed)
        try:
            return kind(config, dataset, Device(self.device), self.seed)
        except ValueError as error:
            raise UserError(f"{self.model} on {self.data}: {error}") from error


def restore(folder: Path) -> tuple[Run, Recipe, Trainer]:
    """The run in ``folder`` with the weights of its last checkpoint."""
    run = Run.read(folder)
    if not (folder / CHECKPOINT).exists():
        raise UserError(f"{folder} has no checkpoint yet: it was stopped before the first one; train it again")
    recipe = run.build()
    trainer = Trainer(recipe, folder)
    trainer.resume()
    return run, recipe, trainer


def new_folder(model: str, data: str, preset: str) -> Path:
    """``runs/MODEL-DATA-PRESET-N`` with the first free number."""
    number = 1
    while (folder := Path("runs") / f"{model}-{data}-{preset}-{number}").exists():
        number += 1
    return folder


def versions() -> dict[str, str]:
    """Versions of everything that a result depends on, and the machine's kind."""
    names = ("scratchgen", "numpy", "numba", "scipy", "scikit-learn", "safetensors")
    found = {name: metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found, "platform": platform.platform()}
