"""What the recipes of both flows share: data, the bound, averaging, evaluation. ``realnvp`` and ``glow`` name the flow.

Images are whole grey levels plus noise (``models.dequantisation``); ``bits_per_dim`` is the bound by one draw of the
noise, ``iw_64`` the one by 64, both in bits a pixel and of test images (of at most 1,000 for ``iw_64``). Points are
continuous: ``kl`` is KL(density || model) in nats and ``mass`` the integral of the model, both by quadrature
(``flows_points``).

Training takes all training rows and a fixed number of steps; ``hold_out=true`` leaves the validation rows out, for a
curve on them. Figures are of the averaged flow.
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
from typing import Any, ClassVar, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, metrics, nn
from scratchgen.data import Batches, in_order
from scratchgen.data.images import ImageDataset
from scratchgen.models.dequantisation import Dequantised, UniformNoise, VariationalNoise, reduced_levels
from scratchgen.models.flow import Centre, Chain, Flow, FlowDensity, Logit

from .base import Config, Recipe, setting
from .flows_pictures import draw_pictures
from .flows_points import by_quadrature, one_gaussian
from .judges import ImageJudge, Judge, evaluating, judge_of

log = logging.getLogger("scratchgen")


@dataclass(frozen=True)
class FlowConfig(Config):
    """Settings of every flow recipe."""

    dropout: float = setting(0.0, "dropout in the coupling networks")
    weight_decay: float = setting(0.0, "decoupled weight decay, of the coupling networks' weights alone")
    warmup_steps: int = setting(100, "steps in which the learning rate grows to its peak")
    clip_gradients: float = setting(1.0, "largest norm of the gradient; 0: any")
    average: float = setting(0.998, "decay of the averaged flow, which figures and samples are of")
    conditional: bool = setting(False, "images: tell the flow the class")
    bits: int = setting(0, "images: cut pixels to so many bits; 0: as they are")
    pixels: Literal["logit", "centre"] = setting("logit", "images: what pixels are turned into for the flow")
    alpha: float = setting(1e-3, "pixels=logit: how far black and white are kept from 0 and 1")
    noise: Literal["uniform", "variational"] = setting("uniform", "images: dequantisation")
    hold_out: bool = setting(False, "leave the validation rows out of training, for a curve on them")


POINTS = ("moons", "rings", "grid25")
IMAGES = ("digits", "mnist-5k", "mnist", "fashion-mnist")
NOISE = 0x91C7  # seed of pictures and of the evaluation
ROWS = 500  # samples that go through the flow at a time
DRAWS = 8  # of the noise, for bits_per_dim of a test image
IMPORTANCE = 64  # draws of the noise in iw_64
IMPORTANCE_ROWS = 1000  # test images that it is of, at most
MIXTURE = 20  # components of the mixture of categoricals beside us


class FlowRecipe(Recipe):
    """Base of the flow recipes. A sub-class makes its flow in ``build`` and its optimizer in ``make_optimizer``."""

    reference_bits: ClassVar[dict[str, tuple[float, str]]] = {}

    config: Any
    dataset: Any  # images or points

    def __init__(self, config: Any, dataset: Any, device: sg.Device, seed: int) -> None:
        super().__init__(config, dataset, device, seed)
        self.is_image = isinstance(dataset, ImageDataset)
        if not self.is_image and (config.conditional or config.bits or config.noise != "uniform"):
            raise ValueError("conditional, bits and noise are settings for images; points have none of them")
        rows = dataset.train if config.hold_out else dataset.trainval
        self.batches = Batches((rows.x, rows.labels), config.batch_size, seed=seed, drop_last=True)
        self.shape: tuple[int, ...] = dataset.shape if self.is_image else (2,)
        self.dims = math.prod(self.shape)
        self.classes = len(dataset.classes) if config.conditional else 0
        self.levels = reduced_levels(dataset.levels, config.bits) if self.is_image else 0
        flow: Flow = self.build()
        if self.is_image:
            first = Logit(self.levels, config.alpha) if config.pixels == "logit" else Centre(self.levels)
            flow = Chain(first, flow)
        self.model: Any = FlowDensity(flow, self.dims, self.classes)
        if self.is_image:
            learned = config.noise == "variational"
            noise = VariationalNoise(self.build_noise(), self.levels) if learned else UniformNoise()
            self.model = Dequantised(self.model, noise)
        self.model.to(device)
        self.optimizer = self.make_optimizer()
        self.schedule = sg.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.average = sg.optim.EMA(self.model, config.average)

    # --- what a sub-class says

    @abstractmethod
    def build(self) -> Flow:
        """The flow from samples of ``self.shape`` (images: after their pixels were transformed) to latents (N, D)."""

    @abstractmethod
    def build_noise(self) -> Flow:
        """The flow of variational dequantisation: from numbers of an image's shape to as many, told the image."""

    @abstractmethod
    def make_optimizer(self) -> Any:
        """The optimizer of ``self.model``; ``self.groups()`` has its parameters."""

    def groups(self) -> list[dict[str, Any]]:
        """Weights of coupling networks, which may decay, and all others, which may not: a scale has no use for it."""
        named = list(self.model.named_parameters())
        decays = [p for name, p in named if "network" in name and p.ndim > 1]
        others = [p for name, p in named if not ("network" in name and p.ndim > 1)]
        return [{"params": decays, "weight_decay": self.config.weight_decay}, {"params": others, "weight_decay": 0.0}]

    # --- training

    def state(self) -> dict[str, Any]:
        names = ("model", "optimizer", "schedule", "average", "batches", "generator")
        return {name: getattr(self, name) for name in names}

    def _rate(self, step: int) -> float:
        """A linear warm-up, then half a cosine down to zero."""
        config = self.config
        if step < config.warmup_steps:
            return (step + 1) / config.warmup_steps
        done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def step(self) -> dict[str, float]:
        x, labels = next(self.batches)
        loss = -self.log_prob(x, labels, self.generator).mean() / self.unit
        self.optimizer.zero_grad()
        loss.backward()
        if self.config.clip_gradients:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_gradients)
        self.optimizer.step()
        self.schedule.step()
        self.average.update()
        return {self.metric: loss.item()}

    @property
    def metric(self) -> str:
        """What the loss is called: bits a pixel, or nats a point."""
        return "bits_per_dim" if self.is_image else "nll"

    @property
    def unit(self) -> float:
        """Nats in one of its units."""
        return self.dims * math.log(2) if self.is_image else 1.0

    def log_prob(self, x: np.ndarray, labels: np.ndarray, generator: Generator) -> Tensor:
        """log p of samples in the data's own units, or of images the bound by one draw of the noise: (N,), in nats."""
        if not self.is_image:
            return self.model.log_prob(sg.as_tensor(x, device=self.device))
        return self.model.bound(self.whole(x), generator, self.label(labels))

    def whole(self, images: np.ndarray) -> Tensor:
        """Images in [0, 1] as levels 0 ... self.levels - 1."""
        k = np.rint(images * (self.dataset.levels - 1)).astype(np.int64) * self.levels // self.dataset.levels
        return sg.as_tensor(k.astype(np.float32), device=self.device)

    def label(self, labels: np.ndarray) -> Tensor | None:
        """``labels`` as the model wants them: not at all unless it is conditional."""
        return sg.as_tensor(labels.astype(np.int64), device=self.device) if self.classes else None

    def validate(self) -> dict[str, float]:
        if not self.config.hold_out:
            return {}
        rows, generator = self.dataset.validation, Generator(NOISE).spawn(1)
        with self.averaged():
            return {self.metric: -float(self._mean_log_prob(rows, generator, 2).mean()) / self.unit}

    # --- the averaged flow

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged flow in evaluation mode, without a graph."""
        with evaluating(self.model), self.average.swapped():
            yield

    @property
    def density(self) -> FlowDensity:
        """The density of points, or of levels plus noise."""
        found: FlowDensity = self.model.density if self.is_image else self.model
        return found

    def encode(self, images: np.ndarray, labels: np.ndarray) -> Tensor:
        """Latents (N, D) of images in [0, 1], each with half a level as its noise."""
        parts = [
            self.density.encode(self.whole(x) + 0.5, self.label(own)) for x, own in in_order((images, labels), ROWS)
        ]
        return sg.cat(parts)

    def decode(self, z: Tensor, labels: np.ndarray | None = None) -> np.ndarray:
        """Samples in the data's own units of latents (N, D): points, or images in [0, 1]."""
        parts = []
        for start in range(0, len(z), ROWS):
            rows = slice(start, start + ROWS)
            label = None if labels is None else self.label(labels[rows])
            parts.append(self.density.decode(z[rows], label).numpy(force=True))
        x = np.concatenate(parts)
        if not self.is_image:
            return x
        lost = ~np.isfinite(x).reshape(len(x), -1).all(1)
        if lost.any():  # far from all data an inverse can leave float32
            log.warning("%s: %d of %d images overflowed in the inverse, and are black", self.name, lost.sum(), len(x))
            x[lost] = 0
        return (np.floor(x).clip(0, self.levels - 1) / (self.levels - 1)).astype(np.float32)

    # --- samples

    def sample(
        self, count: int, generator: Generator, *, temperature: float = 1.0, label: int | None = None
    ) -> dict[str, Any]:
        """New samples. ``temperature``: the standard deviation of the latents. ``label``: of this class, in a
        conditional model; by default all classes in turn."""
        if temperature <= 0:
            raise ValueError(f"temperature={temperature}: must be above 0")
        if label is not None and not 0 <= label < self.classes:
            known = f"the classes are 0 to {self.classes - 1}" if self.classes else "this model knows no classes"
            raise ValueError(f"label={label}: {known}")
        labels = None
        if self.classes:
            labels = np.arange(count) % self.classes if label is None else np.full(count, label)
        with self.averaged():
            z = temperature * self.density.noise(count, generator)
            drawn = {"samples": self.decode(z, labels)}
        return drawn if labels is None else drawn | {"labels": labels}

    # --- evaluation

    @cached_property
    def judge(self) -> Judge:
        """Holds samples against images of as many levels as the flow was shown."""
        if not self.is_image or self.levels == self.dataset.levels:
            return judge_of(self.dataset)
        train, test = (
            (self.whole(rows.x).numpy(force=True) / (self.levels - 1)).astype(np.float32)
            for rows in (self.dataset.trainval, self.dataset.test)
        )
        return ImageJudge(self.dataset, train=train, test=test, rule=f"{self.levels}-levels", levels=self.levels)

    def evaluate(self) -> dict[str, float]:
        """Likelihood of the test rows (points: against the density itself), and the judge's metrics of samples."""
        with self.averaged():
            found = self._likelihoods() if self.is_image else by_quadrature(self.log_density, self.dataset.density)
        drawn = self.sample(self.judge.samples, Generator(NOISE).spawn(3))
        return found | self.judge.evaluate(drawn["samples"], drawn.get("labels"))

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """log p of points (n, 2), for quadrature and pictures."""
        parts = np.array_split(points.astype(np.float32), max(1, len(points) // 4096))
        return np.concatenate(
            [self.model.log_prob(sg.as_tensor(part, device=self.device)).numpy(force=True) for part in parts]
        )

    def _likelihoods(self) -> dict[str, float]:
        test, found = self.dataset.test, {}
        mean = -self._mean_log_prob(test, Generator(NOISE).spawn(1), DRAWS) / self.unit
        generator, tight = Generator(NOISE).spawn(2), []
        part = slice(0, IMPORTANCE_ROWS)
        for x, labels in in_order((test.x[part], test.labels[part]), ROWS):
            bound = self.model.importance_bound(self.whole(x), IMPORTANCE, generator, self.label(labels))
            tight.append(-bound.numpy(force=True) / self.unit)
        for key, bits in (("bits_per_dim", mean), (f"iw_{IMPORTANCE}", np.concatenate(tight))):
            found[key], found[f"{key}_se"] = metrics.mean_se(bits)
        return found

    def _mean_log_prob(self, rows: Any, generator: Generator, draws: int) -> np.ndarray:
        """``log_prob`` of each row, averaged over draws of the noise."""
        parts = []
        for x, labels in in_order((rows.x, rows.labels), ROWS):
            drawn = [self.log_prob(x, labels, generator).numpy(force=True) for _ in range(draws)]
            parts.append(np.mean(drawn, axis=0))
        return np.concatenate(parts)

    def baselines(self) -> dict[str, dict[str, float]]:
        """Models without a network. Their likelihood is exact, so it stands beside both of our bounds."""
        found = self.judge.baselines()
        if not self.is_image:
            found["one Gaussian"] |= one_gaussian(self.dataset)
            return found
        train, test = (
            self.whole(rows.x).numpy(force=True).astype(np.int64).reshape(len(rows), -1)
            for rows in (self.dataset.trainval, self.dataset.test)
        )
        independent = metrics.independent_categorical(train, self.levels)
        mixture = metrics.CategoricalMixture.fit(train[:5000], MIXTURE, self.levels)
        for name, model in (("independent pixels", independent), (f"mixture of {MIXTURE} categoricals", mixture)):
            bits, se = metrics.mean_se(-model.log_prob(test) / self.unit)
            found[name] = {
                key: value
                for own in ("bits_per_dim", f"iw_{IMPORTANCE}")
                for key, value in ((own, bits), (f"{own}_se", se))
            }
        return found

    def preview(self, folder: Path, step: int) -> None:
        with self.averaged():
            draw_pictures(self, folder, step)
