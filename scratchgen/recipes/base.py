"""What a recipe is: everything about training one model that is not the model itself.

A recipe holds the data, the networks and optimizers, one training step, pictures of the present state, and the final
evaluation. ``scratchgen.training.Trainer`` runs any recipe; the command line finds recipes by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from .. import data as datasets
from ..device import Device
from ..rng import Generator, manual_seed


def setting(default: Any, help: str, *, least: float | None = None, most: float | None = None) -> Any:
    """A field of a Config, with what ``--help`` says of it, and the range that ``configure`` holds it to."""
    return field(default=default, metadata={"help": help, "least": least, "most": most})


@dataclass(frozen=True)
class Config:
    """Settings that every recipe has. A recipe's own ``Config`` adds to them; each field is a ``--set`` option."""

    steps: int = setting(1000, "training steps", least=1)
    batch_size: int = setting(128, "rows in a mini-batch", least=1)
    learning_rate: float = setting(1e-3, "peak learning rate", least=0)
    evaluate_every: int = setting(0, "steps between previews and checkpoints; 0: ten in a run", least=0)


@dataclass(frozen=True)
class Reference:
    """A figure from elsewhere to stand beside ours, and where it comes from."""

    metric: str
    value: float
    source: str


class Recipe(ABC):
    """One model's training. Sub-classes are named in ``recipes/__init__.py`` and documented by their docstring.

    ``presets[preset][data]`` is the Config for a dataset, ``presets[preset]["*"]`` the one for all others.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    default_data: ClassVar[str]
    data_names: ClassVar[tuple[str, ...]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    expected: ClassVar[str]  # one line for `scratchgen models`: what the tiny preset reaches, in how long

    def __init__(self, config: Any, dataset: datasets.Dataset, device: Device, seed: int) -> None:
        """Sub-classes build their networks after ``super().__init__``, which seeds the default generator.

        Initial weights and dropout draw from that one, the training step from ``self.generator``, evaluation from
        generators of its own.
        """
        self.config = config
        self.dataset = dataset
        self.device = device
        self.seed = seed
        manual_seed(seed)
        self.generator = Generator(seed).spawn(0)

    @classmethod
    def configure(cls, preset: str, data: str, **changes: Any) -> Any:
        """The Config of a preset for a dataset, with some fields changed."""
        if preset not in cls.presets:
            raise ValueError(f"{cls.name} has no preset {preset!r}; it has: {', '.join(cls.presets)}")
        if data not in cls.data_names:
            raise ValueError(f"{cls.name} does not train on {data!r}; it does on: {', '.join(cls.data_names)}")
        choices = cls.presets[preset]
        config = replace(choices[data] if data in choices else choices["*"], **changes)
        _check_ranges(config)
        return config

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All objects with ``state_dict``/``load_state_dict`` that training changes, by name: networks, optimizers,
        schedules, averages, generators, batches. What is not in here is not resumed."""

    @abstractmethod
    def step(self) -> dict[str, float]:
        """One training step (it takes its own batch; it may be several optimizer updates); returns its metrics."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Quick metrics for the curve, on validation rows that training leaves out; nothing if it leaves none out.

        Must not draw from ``self.generator``.
        """

    @abstractmethod
    def preview(self, folder: Path, step: int) -> None:
        """Write pictures (or text) of the present state into the run folder, from the same noise each time.

        ``samples/step-N.png`` keeps a sample grid of every call; ``samples.png`` and all others are overwritten.
        Changes no state.
        """

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """The final metrics, on the test rows; what is random comes with ``<key>_se``."""

    @abstractmethod
    def baselines(self) -> dict[str, dict[str, float]]:
        """The same metrics for trivial methods, by their names."""

    @abstractmethod
    def references(self) -> list[Reference]:
        """Figures of others for this data and preset, with sources; empty where there are none."""

    @abstractmethod
    def sample(self, count: int, generator: Generator, *_: Any, **options: Any) -> dict[str, Any]:
        """New samples: ``{"samples": (count, C, H, W) float32 in [0, 1], "labels": ...}`` or ``{"text": [...]}``.

        A recipe names its own options, keyword-only and typed: they are what ``scratchgen sample --set`` takes. It
        raises ValueError for a value that makes no sense.
        """

    def load_state(self, state: dict[str, Any]) -> None:
        """Put a state made from ``state()`` back into place."""
        own = self.state()
        if missing := own.keys() ^ state.keys():
            raise ValueError(f"the checkpoint and the recipe {self.name} differ in: {', '.join(sorted(missing))}")
        for key, part in own.items():
            part.load_state_dict(state[key])


def _check_ranges(config: Any) -> None:
    for f in fields(config):
        value, least, most = getattr(config, f.name), f.metadata.get("least"), f.metadata.get("most")
        if (least is None or value >= least) and (most is None or value <= most):
            continue
        allowed = f"{least:g} or more" if most is None else f"from {least:g} to {most:g}"
        raise ValueError(f"{f.name} must be {allowed}, got {value}")


class TextRecipe(Recipe):
    """A recipe whose samples are text, which can be shown as it is written: ``{"text": [...]}``."""

    between: ClassVar[str] = ""  # what is shown between a prompt and what is written after it

    @property
    @abstractmethod
    def answers(self) -> bool:
        """Whether what it writes answers a question, so that it cannot begin by itself."""

    @abstractmethod
    def stream(self, prompt: str, generator: Generator, *_: Any, **options: Any) -> Iterator[str]:
        """Pieces of what is written after ``prompt`` (after nothing, if it is empty), as they come.

        Takes the options of ``sample`` but for the prompt, and raises ValueError as it does.
        """
