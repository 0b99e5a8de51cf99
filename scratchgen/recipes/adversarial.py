"""What all adversarial recipes share: data, the alternation, averaging, pictures, evaluation, the collapse alarm.

A recipe of its own kind (``gan``, ``wgan``, ``wgan_gp``, ``cgan``) says which networks play and what each minimises.
One training step is one step of the generator, after as many of its opponent as the recipe asks for.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, metrics, nn, viz
from scratchgen.data import Batches
from scratchgen.data.images import ImageDataset
from scratchgen.models.gan import ImageGenerator, mlp, noise
from scratchgen.models.latents import spherical_path

from .base import Config, Recipe, Reference, setting
from .judges import ImageJudge, Judge, evaluating, judge_of

log = logging.getLogger("scratchgen")

POINTS = ("ring8", "grid25", "moons", "rings")
IMAGES = ("digits", "mnist-5k", "mnist", "fashion-mnist", "stacked-digits")


@dataclass(frozen=True)
class AdversarialConfig(Config):
    """Settings of every adversarial recipe."""

    latent: int = setting(64, "numbers of noise that a sample is made from")
    network: str = setting("conv", "images: conv (DCGAN) or mlp; points take an mlp")
    width: int = setting(32, "channels of the first convolution (mlp: of every hidden layer)")
    depth: int = setting(3, "mlp: hidden layers")
    opponent_steps: int = setting(1, "steps of the discriminator or critic before each of the generator")
    opponent_learning_rate: float = setting(0.0, "learning rate of the discriminator or critic; 0: the generator's")
    beta1: float = setting(0.5, "Adam's decay of the mean gradient")
    beta2: float = setting(0.999, "Adam's decay of the mean square")
    decay_rates: bool = setting(True, "let both learning rates fall linearly to 2 %")
    average: float = setting(0.999, "decay of the averaged generator, which samples are drawn from; 0: none")
    standing: int = setting(0, "draws that give the averaged generator batch statistics of its own; 0: running ones")
    dequantise: bool = setting(False, "images: noise of one grey level on real ones, so that the gap tells nothing")


ALARM = 0.5  # the alarm rings when coverage falls below this share of its best
ROWS = 1000  # samples drawn at a time
STANDING = 0x57A7  # seed of the draws that the batch statistics are of
NOISE = 0x91C7  # seed of the samples in pictures, the same at every step


class AdversarialRecipe(Recipe):
    """Base of the adversarial recipes. A sub-class makes its networks in ``build``."""

    data_names: ClassVar[tuple[str, ...]] = POINTS + IMAGES
    conditional: ClassVar[bool] = False  # whether the networks are told the class

    config: Any
    dataset: Any  # images or points
    opponent: Any  # a discriminator or critic; a conditional one has more than ``forward``

    def __init__(self, config: Any, dataset: Any, device: sg.Device, seed: int) -> None:
        super().__init__(config, dataset, device, seed)
        self.is_image = isinstance(dataset, ImageDataset)
        rows = dataset.trainval
        self.batches = Batches((rows.x, rows.labels), config.batch_size, seed=seed, drop_last=True)
        # Points are brought to unit scale, images to the range of tanh.
        self.scale = 1.0 if self.is_image else float(rows.x.std())
        self.model, self.opponent = (network.to(device) for network in self.build())
        self.optimizer = self.make_optimizer(self.model, config.learning_rate)
        self.opponent_optimizer = self.make_optimizer(
            self.opponent, config.opponent_learning_rate or config.learning_rate
        )
        self.schedules = [
            sg.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
            for optimizer in (self.optimizer, self.opponent_optimizer)
        ]
        self.average = sg.optim.EMA(self.model, config.average) if config.average else None
        self.steps_done = 0
        self._best_coverage = 0.0

    # --- what a sub-class says

    @abstractmethod
    def build(self) -> tuple[nn.Module, nn.Module]:
        """The generator and its opponent."""

    @abstractmethod
    def opponent_loss(self, real: Tensor, fake: Tensor, label: Tensor) -> tuple[Tensor, dict[str, float]]:
        """What the discriminator or critic minimises, and what to log."""

    @abstractmethod
    def generator_loss(self, fake: Tensor, label: Tensor) -> tuple[Tensor, dict[str, float]]:
        """What the generator minimises, and what to log."""

    def after_opponent(self) -> None:
        """Called after each step of the opponent."""

    def opponent_steps(self) -> int:
        """Steps of the opponent before the next one of the generator."""
        return int(self.config.opponent_steps)

    def make_optimizer(self, model: nn.Module, rate: float) -> Any:
        config = self.config
        return sg.optim.Adam(model.parameters(), rate, betas=(config.beta1, config.beta2))

    def make_generator(self, hidden: int = 0) -> nn.Module:
        """The generator of the unconditional recipes; ``hidden`` is that of ``ImageGenerator``."""
        config = self.config
        if not self.is_image:
            return mlp((config.latent, *[config.width] * config.depth, 2))
        shape = self.dataset.shape
        if config.network == "conv":
            return ImageGenerator(shape, config.latent, config.width, hidden)
        layers = mlp((config.latent, *[config.width] * config.depth, math.prod(shape)), lambda: nn.LeakyReLU(0.2))
        return nn.Sequential(*layers, nn.Tanh(), nn.Unflatten(1, shape))

    # --- training

    def state(self) -> dict[str, Any]:
        parts = {
            "model": self.model,
            "opponent": self.opponent,
            "optimizer": self.optimizer,
            "opponent_optimizer": self.opponent_optimizer,
            "schedule": self.schedules[0],
            "opponent_schedule": self.schedules[1],
            "batches": self.batches,
            "generator": self.generator,
            "counts": _Counts(self),
        }
        return parts | ({"average": self.average} if self.average else {})

    def _rate(self, step: int) -> float:
        return max(0.02, 1 - step / self.config.steps) if self.config.decay_rates else 1.0

    def step(self) -> dict[str, float]:
        report: dict[str, float] = {}
        for _ in range(self.opponent_steps()):
            real, label = self._real()
            with sg.no_grad():  # the opponent's step must not reach into the generator
                fake = self.generate(self._noise(len(real)), label)
            loss, report = self.opponent_loss(real, fake, label)
            self._update(self.opponent_optimizer, loss)
            self.after_opponent()
        label = self._real_labels()
        fake = self.generate(self._noise(len(label)), label)
        loss, own = self.generator_loss(fake, label)
        self._update(self.optimizer, loss)
        if self.average:
            self.average.update()
        for schedule in self.schedules:
            schedule.step()
        self.steps_done += 1
        return report | own

    def _update(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def _real(self) -> tuple[Tensor, Tensor]:
        """A batch of real samples as the networks see them, and their labels."""
        x, labels = next(self.batches)
        x = sg.as_tensor(x, device=self.device)
        if self.is_image:
            if self.config.dequantise:
                # Around each level, so that black and white are the ends of tanh themselves: were black the first bin
                # of [-1, 1], a generator that is not sharp to half a level would leak out of it.
                uniform = sg.rand(x.shape, generator=self.generator, device=self.device)
                x = x + (uniform - 0.5) / (self.dataset.levels - 1)
            x = 2 * x - 1
        return x / self.scale, sg.as_tensor(labels, device=self.device)

    def _real_labels(self) -> Tensor:
        """Labels (batch,) of random training samples: their own distribution."""
        labels = self.dataset.trainval.labels
        rows = self.generator.integers(0, len(labels), (self.config.batch_size,))
        return sg.as_tensor(labels[rows], device=self.device)

    def _noise(self, count: int) -> Tensor:
        return noise(count, self.config.latent, self.generator, next(iter(self.model.parameters())))

    def generate(self, z: Tensor, label: Tensor) -> Tensor:
        """Samples of the generator, as the opponent sees them."""
        return self.model(z, label) if self.conditional else self.model(z)

    # --- samples

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged generator in place of the present one, in evaluation mode."""
        with evaluating(self.model):
            if self.average is None:
                yield
                return
            with self.average.swapped(), self._standing():
                yield

    @contextmanager
    def _standing(self) -> Iterator[None]:
        """Batch statistics of the weights as they are, in place of the running ones, which are of other weights and of
        few batches: the standing statistics of Brock et al. 2019, section 3.1."""
        layers = [layer for layer in self.model.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
        kept = [(buffer, buffer.array.copy()) for layer in layers for buffer in layer.buffers()]
        momenta = [layer.momentum for layer in layers]
        if self.config.standing:
            generator, labels = Generator(STANDING), self.dataset.trainval.labels
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None  # the plain mean over batches
            self.model.train()
            for _ in range(0, self.config.standing, ROWS):
                z = noise(ROWS, self.config.latent, generator, next(iter(self.model.parameters())))
                rows = generator.integers(0, len(labels), (ROWS,))
                self.generate(z, sg.as_tensor(labels[rows], device=self.device))
            self.model.eval()
        try:
            yield
        finally:
            for buffer, values in kept:
                buffer.array[...] = values
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum

    def draw(self, z: Tensor, label: np.ndarray | None = None) -> np.ndarray:
        """Samples in the data's own units, of noise (N, latent): images in [0, 1], grey levels if dequantised ones."""
        parts = []
        with self.averaged():
            for start in range(0, len(z), ROWS):
                rows = slice(start, start + ROWS)
                own = sg.as_tensor(label[rows] if label is not None else np.zeros(len(z[rows]), np.int64))
                parts.append(self.generate(z[rows], own.to(self.device)).numpy(force=True) * self.scale)
        x = np.concatenate(parts)
        if not self.is_image:
            return x
        x = ((x + 1) / 2).clip(0, 1)
        steps = self.dataset.levels - 1
        return np.rint(x * steps) / np.float32(steps) if self.config.dequantise else x

    def sample(self, count: int, generator: Generator, *_: Any, **options: Any) -> dict[str, Any]:
        """New samples, of the averaged generator."""
        z = noise(count, self.config.latent, generator, next(iter(self.model.parameters())))
        return {"samples": self.draw(z)}

    # --- evaluation

    @cached_property
    def judge(self) -> Judge:
        return judge_of(self.dataset)

    def evaluate(self) -> dict[str, float]:
        """The judge's metrics of the averaged generator's samples."""
        return self.judge.evaluate(self.sample(self.judge.samples, Generator(NOISE))["samples"])

    def baselines(self) -> dict[str, dict[str, float]]:
        return self.judge.baselines()

    def references(self) -> list[Reference]:
        return []

    def validate(self) -> dict[str, float]:
        """``coverage`` of training data by samples, and the alarm when it falls: modes have been lost."""
        count = 500
        samples = self.sample(count, Generator(NOISE))["samples"]
        real = self.dataset.trainval.x[:count]
        coverage = float(metrics.prdc(real, samples).coverage)
        if coverage < ALARM * self._best_coverage:
            log.warning(
                "%s step %d: samples cover %.2f of the data, after %.2f before: the generator is collapsing",
                self.name, self.steps_done, coverage, self._best_coverage,
            )  # fmt: skip
        self._best_coverage = max(coverage, self._best_coverage)
        return {"coverage": coverage}

    # --- pictures

    def preview(self, folder: Path, step: int) -> None:
        drawn = self.sample(100 if self.is_image else 2500, Generator(NOISE))["samples"]
        for path in (folder / "samples" / f"step-{step:06d}.png", folder / "samples.png"):
            self.judge.draw(path, drawn)
        if isinstance(self.judge, ImageJudge):
            self._draw_interpolations(folder / "interpolation.png")
            self._draw_neighbours(folder / "nearest.png", drawn[:24])

    def _draw_interpolations(self, path: Path, rows: int = 8, steps: int = 11) -> None:
        """Between two draws of z on the great circle, of one class where there are classes."""
        like = next(iter(self.model.parameters()))
        a, b = (noise(rows, self.config.latent, Generator(NOISE).spawn(i), like) for i in (1, 2))
        z = spherical_path(a, b, steps).transpose(0, 1).flatten(0, 1)
        label = (np.arange(rows) % len(self.dataset.classes)).repeat(steps)
        images = self.draw(z, label).reshape(rows, steps, *self.dataset.shape)
        viz.interpolation_grid(path, images)

    def _draw_neighbours(self, path: Path, samples: np.ndarray) -> None:
        """Samples, and below each the training image nearest to it: is it a copy?"""
        train = self.dataset.trainval.x
        flat, own = (x.reshape(len(x), -1) for x in (train, samples))
        distance = (own**2).sum(1)[:, None] + (flat**2).sum(1) - 2 * own @ flat.T
        viz.reconstructions(path, samples, train[distance.argmin(1)])


class _Counts:
    """The recipe's plain numbers, as a part of its state."""

    def __init__(self, recipe: AdversarialRecipe) -> None:
        self.recipe = recipe

    def state_dict(self) -> dict[str, Any]:
        return {"steps_done": self.recipe.steps_done, "best_coverage": self.recipe._best_coverage}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.recipe.steps_done = state["steps_done"]
        self.recipe._best_coverage = state["best_coverage"]
