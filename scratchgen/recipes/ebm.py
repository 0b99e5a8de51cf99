"""Training deep energy-based models: data, sampler, guard, presets, evaluation. The model: ``scratchgen.models.ebm``.

Images are dequantised and lie in [-1, 1], points at unit scale. Images are trained with little noise in the chains,
that is at a temperature far below 1 (see the model's page); points with Metropolis tests, so that their energy is
-log p itself, which a grid can check.

Chains from the replay buffer look good long before chains from noise do. All that is reported is of fresh chains.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, metrics, nn
from scratchgen.data import Batches
from scratchgen.data.images import ImageDataset
from scratchgen.models.ebm import (
    Langevin,
    ReplayBuffer,
    Tilted,
    contrastive_loss,
    convolutional_energy,
    denoising_loss,
    dense_energy,
    grid_density,
    total_variation,
)

from .base import Config, Recipe, Reference, setting
from .ebm_guard import Guard
from .ebm_pictures import draw_pictures
from .judges import Judge, Metrics, evaluating, judge_of

log = logging.getLogger("scratchgen")

POINTS = ("ring8", "grid25", "moons", "rings")


@dataclass(frozen=True)
class EBMConfig(Config):
    """Settings of the EBM."""

    network: Literal["dense", "conv"] = setting("dense", "kind of layers; points take dense ones")
    hidden: tuple[int, ...] = setting((256, 256), "dense: widths of the layers")
    width: int = setting(32, "conv: channels of the first convolution")
    frequency: float = setting(0.0, "dense: radians a unit of the waves shown beside a sample; 0: none")
    pull: float = setting(0.0, "images: weight of a bowl around the mean image, added to the energy; 0: none")
    start: Literal["uniform", "pixels"] = setting(
        "uniform", "noise that chains begin as; pixels: of images, with the mean and the deviation of each pixel"
    )
    spectral: bool = setting(False, "divide weights by their largest singular values")
    objective: Literal["contrastive", "denoising"] = setting("contrastive", "against samples, or by score matching")
    sigma: float = setting(0.1, "denoising: standard deviation of the noise that scores are matched at")
    chain_steps: int = setting(40, "Langevin steps before each update")
    step: float = setting(0.1, "step of the gradient in a chain")
    noise: float | None = setting(0.02, "noise in a chain; None: sqrt(2 step), true Langevin dynamics")
    clip: float | None = setting(1.0, "largest gradient of a number in a chain; None: any")
    metropolis: bool = setting(False, "accept or refuse each step, so that the density is sampled exactly")
    widest: float | None = setting(
        None, "metropolis: steps are drawn log-uniformly from `step` to this; None: all alike"
    )
    jumps: float = setting(0.0, "metropolis: share of the steps that are jumps by the difference of two other chains")
    buffer: int = setting(8000, "chains that are kept; 0: every chain starts anew (short-run)")
    restarts: float = setting(0.05, "share of the chains that starts anew each time")
    l2: float = setting(0.02, "weight of the squared energies")
    input_noise: float = setting(0.02, "standard deviation of noise on data")
    clip_gradients: float = setting(1.0, "largest norm of an update's gradient")
    average: float = setting(0.999, "decay of the averaged network, which samples are drawn from")
    divergence: float = setting(20.0, "difference of energies from which training goes back to the last good state")
    sample_steps: int = setting(1000, "steps of the chains, from noise, that make samples")

    def __post_init__(self) -> None:
        if not 0 <= self.restarts <= 1:
            raise ValueError(f"restarts is a share from 0 to 1, got {self.restarts}")
        if self.chain_steps < 1 or self.sample_steps < 1:
            raise ValueError("chain_steps and sample_steps must be at least 1")
        if self.buffer and self.buffer < self.batch_size:
            raise ValueError(f"buffer={self.buffer} holds less than a batch of {self.batch_size}")


def _points(step: float, frequency: float) -> EBMConfig:
    """Points: with Metropolis tests, steps from the width of a mode up to that of the plane, and jumps between modes.

    ``step``: about the variance of the narrowest part; ``frequency``: the inverse of its standard deviation at most.
    No restarts: chains that are still on their way would count as samples (see the model's page).
    """
    return EBMConfig(
        steps=1000, batch_size=256, learning_rate=5e-4, hidden=(128, 128), frequency=frequency, step=step, noise=None,
        clip=None, metropolis=True, widest=0.2, jumps=0.5, chain_steps=20, buffer=1024, restarts=0.0, l2=0.0,
        input_noise=0.0, divergence=1000.0, average=0.99,
    )  # fmt: skip


NOISE = 0x91C7  # seed of the samples in pictures and in the evaluation
ROWS = 1000  # chains run at a time
REACH = 1.25  # fresh points are uniform on a square so many times as large as the data's
CELLS = 400  # of the grid that a density of points is integrated on, along each axis
SNAPSHOT = 100  # steps between good states to go back to


class EBMRecipe(Recipe):
    """Deep energy-based model."""

    name: ClassVar[str] = "ebm"
    paper: ClassVar[str] = "Du and Mordatch 2019, Implicit Generation and Modeling with Energy-Based Models"
    default_data: ClassVar[str] = "digits"
    data_names: ClassVar[tuple[str, ...]] = (*POINTS, "digits", "mnist-5k", "mnist", "fashion-mnist")
    presets: ClassVar[Mapping[str, Mapping[str, EBMConfig]]] = {
        "tiny": {
            "digits": EBMConfig(steps=4000, batch_size=100, learning_rate=1e-3),
            "moons": _points(step=3e-3, frequency=3.0),
            "rings": _points(step=1e-3, frequency=6.0),
            "ring8": _points(step=1e-4, frequency=12.0),
            "grid25": _points(step=1.5e-4, frequency=12.0),
            # Twelve times as many numbers: as long a way takes ten times the step where slopes are as much less. Chains
            # begin near the mean image, and the bowl leads there, or some would never leave the uniform noise.
            "*": EBMConfig(
                steps=5000, batch_size=64, learning_rate=5e-4, hidden=(512, 512), start="pixels", pull=0.05, step=1.0,
                clip=0.1, chain_steps=30, buffer=4000,
            ),
        },
        # Du and Mordatch 2019: spectral norm, 60 steps, a buffer of 10,000.
        "full": {
            "*": EBMConfig(
                steps=50_000, batch_size=128, learning_rate=3e-4, network="conv", width=64, spectral=True,
                chain_steps=60, buffer=10_000,
            ),
        },
    }  # fmt: skip
    expected: ClassVar[str] = (
        "tiny on ring8 and moons: total variation 0.04 from the true density, 25 seconds of one core; on MNIST: FD 3.7 "
        "of fresh chains (mixture of 100 Gaussians: 22.0), 3.9 minutes on two cores"
    )

    config: EBMConfig
    dataset: Any  # images or points

    def __init__(self, config: EBMConfig, dataset: Any, device: sg.Device, seed: int) -> None:
        super().__init__(config, dataset, device, seed)
        self.is_image = isinstance(dataset, ImageDataset)
        if not self.is_image and config.network == "conv":
            raise ValueError("network=conv is for images; points take network=dense")
        if not self.is_image and (config.pull or config.start == "pixels"):
            raise ValueError("pull and start=pixels are for images; points are checked by a grid of -log p alone")
        self.batches = Batches(dataset.trainval.x, config.batch_size, seed=seed, drop_last=True)
        self.shape: tuple[int, ...] = dataset.shape if self.is_image else (2,)
        self.scale = 1.0 if self.is_image else float(dataset.trainval.x.std())
        self.reach = 1.0 if self.is_image else REACH * float(abs(dataset.trainval.x).max()) / self.scale
        self.model = self._network().to(device)
        bounds = (-self.reach, self.reach)
        self.sampler = Langevin(
            config.step, config.noise, config.clip, bounds, config.metropolis, config.widest, config.jumps
        )
        self.buffer = ReplayBuffer(config.buffer, self.fresh, self.generator) if config.buffer else None
        # Without momentum: the energy changes where samples go next, and old gradients point past that.
        self.optimizer = sg.optim.Adam(self.model.parameters(), config.learning_rate, betas=(0.0, 0.999))
        self.average = sg.optim.EMA(self.model, config.average)
        self.steps_done = 0
        self.report: dict[str, float] = {}  # of the last good step
        self.guard = Guard(self._guarded(), SNAPSHOT)

    def _network(self) -> nn.Module:
        config, shape = self.config, self.shape
        if config.network == "conv":
            energy = convolutional_energy(shape, config.width, config.spectral)
        else:
            energy = dense_energy(shape, config.hidden, config.spectral, config.frequency)
        if not config.pull:
            return energy
        return Tilted(energy, self.pixels[0], config.pull)

    @cached_property
    def pixels(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each pixel of the training images, dequantised."""
        x, levels = self.dataset.trainval.x, self.dataset.levels
        mean = x.mean(0, dtype=np.float64).astype(np.float32)
        variance = ((levels - 1) * x.std(0, dtype=np.float64)) ** 2 + 1 / 12
        sd = (2 / levels * np.sqrt(variance)).astype(np.float32)
        return self.to_model(mean), sg.as_tensor(sd, device=self.device)

    def _guarded(self) -> dict[str, Any]:
        parts = {name: getattr(self, name) for name in ("model", "optimizer", "average")}
        return parts | ({"buffer": self.buffer} if self.buffer else {})

    def state(self) -> dict[str, Any]:
        parts = {"batches": self.batches, "generator": self.generator, "counts": _Counts(self), "guard": self.guard}
        return self._guarded() | parts

    # --- data

    def to_model(self, x: np.ndarray, generator: Generator | None = None) -> Tensor:
        """Images in [0, 1] as [-1, 1], which the grey levels share alike: a random place in its share if given a
        generator (dequantised), else the middle. Points at unit scale."""
        made = sg.as_tensor(x, device=self.device)
        if not self.is_image:
            return made / self.scale
        levels = self.dataset.levels
        place = 0.5 if generator is None else sg.rand(made.shape, generator=generator, device=self.device)
        return (made * (levels - 1) + place) * (2 / levels) - 1

    def to_data(self, x: Tensor) -> np.ndarray:
        """The way back, to the grey levels that images have."""
        array = x.numpy(force=True)
        if not self.is_image:
            return array * self.scale
        levels = self.dataset.levels
        return (np.floor((array + 1) * (levels / 2)).clip(0, levels - 1) / (levels - 1)).astype(np.float32)

    def fresh(self, count: int, generator: Generator) -> Tensor:
        """``count`` states to start chains from, in the box that chains stay in."""
        if self.config.start == "pixels":
            mean, sd = self.pixels
            noise = sg.randn((count, *self.shape), generator=generator, device=self.device)
            return (mean + sd * noise).clamp(-self.reach, self.reach)
        return self.reach * (2 * sg.rand((count, *self.shape), generator=generator, device=self.device) - 1)

    # --- training

    def step(self) -> dict[str, float]:
        config = self.config
        real = self.to_model(next(self.batches), self.generator)
        if config.input_noise:
            real = real + config.input_noise * sg.randn(real.shape, generator=self.generator, device=self.device)
            real = real.clamp(-self.reach, self.reach)
        if config.objective == "denoising":
            loss = denoising_loss(self.model, real, config.sigma, self.generator)
            report, is_bad = {"loss": loss.item()}, not math.isfinite(loss.item())
        else:
            on_real, on_fake = self.model(real), self.model(self._negative(len(real)))
            loss = contrastive_loss(on_real, on_fake, config.l2)
            means = on_real.mean().item(), on_fake.mean().item()
            report = {"energy_real": means[0], "energy_fake": means[1], "energy_gap": means[1] - means[0]}
            is_bad = not abs(report["energy_gap"]) <= config.divergence  # of a NaN, too
        self.steps_done += 1
        if is_bad:
            return self._go_back(report)
        self._update(loss)
        self.guard.note(self.steps_done)
        self.report = report
        return report | {"rollbacks": float(self.guard.rollbacks)}

    def _negative(self, count: int) -> Tensor:
        """Samples of the model, by chains that go on from the buffer or start anew."""
        config, generator = self.config, self.generator
        if self.buffer is None:
            return self.sampler.run(self.model, self.fresh(count, generator), config.chain_steps, generator)
        rows, start = self.buffer.take(count, config.restarts, generator)
        ends = self.sampler.run(self.model, start, config.chain_steps, generator)
        self.buffer.put(rows, ends)
        return ends

    def _update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_gradients)
        decay = max(0.02, 1 - self.steps_done / self.config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * decay * self.guard.pace
        self.optimizer.step()
        self.average.update()

    def _go_back(self, report: dict[str, float]) -> dict[str, float]:
        """To the last good state at half the rate; other random numbers follow. The report is that of the last good
        step; after going back too often, a NaN that stops the trainer."""
        if not self.guard.roll_back():
            return dict.fromkeys(report, math.nan) | {"rollbacks": float(self.guard.rollbacks)}
        log.warning("ebm step %d: diverged, %s; back to the last good state at half the rate", self.steps_done, report)
        return self.report | {"rollbacks": float(self.guard.rollbacks)}

    def validate(self) -> dict[str, float]:
        return {}

    # --- samples

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged network in evaluation mode, without a graph."""
        with evaluating(self.model), self.average.swapped():
            yield

    def chains(self, count: int, generator: Generator, steps: int) -> np.ndarray:
        """Ends of ``count`` fresh chains of the averaged network, in the data's own units."""
        parts = []
        with self.averaged():
            for start in range(0, count, ROWS):
                x = self.fresh(min(ROWS, count - start), generator)
                parts.append(self.to_data(self.sampler.run(self.model, x, steps, generator)))
        return np.concatenate(parts)

    def sample(self, count: int, generator: Generator, *, steps: int | None = None) -> dict[str, Any]:
        """New samples: the ends of chains of ``steps`` Langevin steps from noise."""
        if steps is not None and steps < 1:
            raise ValueError(f"steps={steps}: a chain takes at least one step")
        return {"samples": self.chains(count, generator, steps or self.config.sample_steps)}

    def energies(self, x: np.ndarray) -> np.ndarray:
        """Energies (N,) of data, by the averaged network, which sees images as in training: dequantised."""
        generator = Generator(NOISE).spawn(1)
        with self.averaged():
            parts = [self.model(self.to_model(rows, generator)).numpy(force=True) for rows in _parts(x)]
        return np.concatenate(parts)

    # --- evaluation

    @cached_property
    def judge(self) -> Judge:
        return judge_of(self.dataset)

    def evaluate(self) -> dict[str, float]:
        """The judge's metrics of fresh chains; of images ``auroc_*`` against what is no digit, and ``energy_gap``; of
        points the ``total_variation`` from the true density, by quadrature."""
        drawn = self.chains(self.judge.samples, Generator(NOISE), self.config.sample_steps)
        found = self.judge.evaluate(drawn)
        if not self.is_image:
            return found | self.quadrature()
        test = self.energies(self.dataset.test.x)
        found["energy_gap"] = float(self.energies(drawn).mean() - test.mean())
        for name, x in self.strangers().items():
            found[f"auroc_{name}"], found[f"auroc_{name}_se"] = metrics.auroc(-test, -self.energies(x))
        return found

    def strangers(self) -> dict[str, np.ndarray]:
        """What the model should find unlikely, made of the test images: their like in one way, but no digits."""
        x, rng = self.dataset.test.x, np.random.default_rng(0)
        flat = x.reshape(len(x), -1)
        return {
            "noise": rng.random(x.shape, np.float32),
            "shuffled": rng.permuted(flat, axis=1).reshape(x.shape),
            "noisy": (x + 0.25 * rng.standard_normal(x.shape, np.float32)).clip(0, 1),
            "inverted": 1 - x,
        }

    def quadrature(self) -> Metrics:
        """Model and truth on a grid: their total variation, and the exact log-likelihood of test points."""
        low, high = [-self.reach] * 2, [self.reach] * 2
        with self.averaged():
            p, log_z = grid_density(self.model, low, high, CELLS, self.device)
        side = (np.arange(CELLS) + 0.5) * (2 * self.reach / CELLS) - self.reach
        points = self.scale * np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
        truth = np.exp(self.dataset.density.log_density(points)).reshape(CELLS, CELLS)
        found = {"total_variation": total_variation(p, truth / truth.sum())}
        nats = -self.energies(self.dataset.test.x).astype(np.float64) - log_z - 2 * math.log(self.scale)
        found["test_log_likelihood"], found["test_log_likelihood_se"] = metrics.mean_se(nats)
        return found

    def baselines(self) -> dict[str, Metrics]:
        found = self.judge.baselines()
        if not self.is_image:
            nats, se = metrics.mean_se(self.dataset.density.log_density(self.dataset.test.x))
            found["the density itself"] |= {"test_log_likelihood": nats, "test_log_likelihood_se": se}
        return found

    def references(self) -> list[Reference]:
        return []

    def preview(self, folder: Path, step: int) -> None:
        draw_pictures(self, folder, step)


def _parts(x: np.ndarray) -> list[np.ndarray]:
    return np.array_split(x, -(-len(x) // ROWS))


class _Counts:
    """The recipe's plain numbers, as a part of its state."""

    def __init__(self, recipe: EBMRecipe) -> None:
        self.recipe = recipe

    def state_dict(self) -> dict[str, Any]:
        return {"steps_done": self.recipe.steps_done, "report": self.recipe.report}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.recipe.steps_done, self.recipe.report = state["steps_done"], state["report"]
