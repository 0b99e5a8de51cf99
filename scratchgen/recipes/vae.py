"""Training the variational autoencoder: data, presets, evaluation. The model is in ``scratchgen.models.vae``.

What p(x|z) describes must be what the model is shown. Bernoulli pixels are binary: each grey pixel is a 1 with its grey level
as probability, drawn anew for every batch (``binarise=dynamic``, the protocol for MNIST), or 1 from half grey on (``threshold``,
for the 8x8 digits). Gaussian pixels are continuous: grey levels plus uniform noise, so that their densities are comparable.
Test images go through the same rule once, by a fixed seed, so that every run is scored on the very same images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, metrics, nn
from scratchgen.data import Batches, in_order
from scratchgen.data.images import Images
from scratchgen.models.vae import VAE, Bernoulli, Bound, GaussianHead, active_units, convolutional, dense

from .base import Config, Recipe, Reference
from .vae_pictures import draw_pictures


@dataclass(frozen=True)
class VAEConfig(Config):
    """Settings of the VAE."""

    network: Literal["dense", "conv"] = field(default="dense", metadata={"help": "kind of layers"})
    hidden: tuple[int, ...] = field(default=(400,), metadata={"help": "widths of the dense layers (conv takes one)"})
    channels: tuple[int, ...] = field(default=(32, 64), metadata={"help": "widths of the convolutions, stride 2 each"})
    latent: int = field(default=40, metadata={"help": "latent units; 2 gives a picture of the whole latent plane"})
    activation: Literal["relu", "silu"] = field(default="relu", metadata={"help": "activation of the hidden layers"})
    dropout: float = field(default=0.0, metadata={"help": "dropout on the layers next to the pixels"})
    conditional: bool = field(default=False, metadata={"help": "tell encoder and decoder the class"})
    likelihood: Literal["bernoulli", "gaussian"] = field(default="bernoulli", metadata={"help": "p(x|z) of a pixel"})
    binarise: Literal["dynamic", "threshold"] = field(default="dynamic", metadata={"help": "bernoulli: how pixels become 0 or 1"})
    variance: Literal["fixed", "shared", "pixel"] = field(
        default="shared", metadata={"help": "gaussian: variance fixed, one learned, or one learned for each pixel"}
    )
    sd: float = field(default=0.1, metadata={"help": "gaussian: fixed (or initial) standard deviation"})
    weight_decay: float = field(default=0.0, metadata={"help": "AdamW's decoupled weight decay"})
    warmup_steps: int = field(default=0, metadata={"help": "steps in which the KL's weight grows from 0 to beta"})
    beta: float = field(default=1.0, metadata={"help": "weight of the KL; 1 is the evidence lower bound"})
    free_bits: float = field(default=0.0, metadata={"help": "nats a latent unit may carry without being pressed"})
    importance_samples: int = field(default=0, metadata={"help": "train on the IW bound of so many samples; 0: the ELBO"})
    evaluation_samples: int = field(default=200, metadata={"help": "samples of the IW bound in the evaluation"})
    hold_out: bool = field(default=False, metadata={"help": "leave the validation rows out of training, for a curve on them"})


ELBO_DRAWS = 10  # of z for each test image
MIXTURE = 100  # components of the Bernoulli mixture beside us
BASELINE_ROWS = 20_000  # training images that baselines are fitted to; more would gain them nothing that shows
SAMPLES = 2000  # at most so many images go into the sample metrics
ROWS = 2000  # images, or copies of one, that are decoded at a time

# The random streams of evaluation: the same in every run, and apart from those of training.
IMAGES, NOISE, DRAWS = range(3)


def _stream(index: int) -> Generator:
    return Generator(0x5CA7C4).spawn(index)


class VAERecipe(Recipe):
    """Variational autoencoder."""

    name: ClassVar[str] = "vae"
    paper: ClassVar[str] = "Kingma and Welling 2013, Auto-Encoding Variational Bayes"
    default_data: ClassVar[str] = "digits"
    data_names: ClassVar[tuple[str, ...]] = ("digits", "mnist-5k", "mnist", "fashion-mnist")
    presets: ClassVar[Mapping[str, Mapping[str, VAEConfig]]] = {
        "tiny": {
            "digits": VAEConfig(
                steps=8800,  # 400 epochs
                batch_size=64,
                hidden=(256, 256),
                latent=8,
                activation="silu",
                dropout=0.4,
                binarise="threshold",
                weight_decay=1e-2,
                warmup_steps=660,  # 30 epochs
                evaluation_samples=500,
            ),
            "mnist-5k": VAEConfig(
                steps=6200,  # 200 epochs
                learning_rate=2e-3,
                hidden=(512, 512),
                latent=12,
                activation="silu",
                dropout=0.3,
                weight_decay=1e-2,
                warmup_steps=620,
            ),
            "mnist": VAEConfig(steps=28_080, learning_rate=2e-3),  # 60 epochs
            "fashion-mnist": VAEConfig(steps=28_080, learning_rate=2e-3),
        },
        "full": {"*": VAEConfig(steps=120_000, batch_size=100, learning_rate=2e-3)},
    }
    expected: ClassVar[str] = ""

    def __init__(self, config: VAEConfig, dataset: Any, device: sg.Device, seed: int) -> None:
        super().__init__(config, dataset, device, seed)
        self.config: VAEConfig = config
        rows: Images = dataset.train if config.hold_out else dataset.trainval
        self.batches = Batches((rows.x, rows.labels), config.batch_size, seed=seed, drop_last=True)
        self.model = build(config, dataset.shape, len(dataset.classes)).to(device)
        self.optimizer = sg.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.schedule = sg.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=config.steps)

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "batches": self.batches,
            "generator": self.generator,
        }

    # ----------------------------------------------------------------------------------------------------- training

    def step(self) -> dict[str, float]:
        config = self.config
        images, labels = next(self.batches)
        x, label = self._observe(images, self.generator), self.label(labels)
        if config.importance_samples:
            bound = self.model.importance_bound(x, config.importance_samples, self.generator, label).mean()
            loss, report = -bound, {f"iw_{config.importance_samples}": -bound.item()}
        else:
            terms = self.model.elbo(x, self.generator, label)
            loss = -terms.objective(self._beta(), config.free_bits)
            report = _report(terms)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return report

    def _beta(self) -> float:
        """The weight of the KL in this step: linear warm-up (Bowman et al. 2016, Sonderby et al. 2016)."""
        warm = self.config.warmup_steps
        return self.config.beta * min(1.0, self.schedule.last_epoch / warm if warm else 1.0)

    def _observe(self, images: np.ndarray, generator: Generator) -> Tensor:
        """Grey images in [0, 1] as p(x|z) describes them; see the top of this file."""
        x = sg.as_tensor(images, device=self.device)
        if self.config.likelihood == "bernoulli" and self.config.binarise == "threshold":
            return (x >= 0.5).float()
        uniform = sg.rand(x.shape, generator=generator, device=self.device)
        if self.config.likelihood == "bernoulli":
            return (uniform < x).float()
        levels = self.dataset.levels
        return (x * (levels - 1) + uniform) / levels

    def label(self, labels: np.ndarray) -> Tensor | None:
        return sg.as_tensor(labels, device=self.device) if self.config.conditional else None

    def validate(self) -> dict[str, float]:
        if not self.config.hold_out:
            return {}
        rows, noise = self.dataset.validation, _stream(NOISE)
        with self._evaluating():
            bounds = [self.model.elbo(x, noise, label) for x, label in self.batches_of(self._observed(rows), rows.labels)]
            return _report(_joined(bounds))

    # --------------------------------------------------------------------------------------------------- evaluation

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Without dropout and without a graph."""
        self.model.eval()
        try:
            with sg.no_grad():
                yield
        finally:
            self.model.train()

    def _observed(self, rows: Images) -> np.ndarray:
        """All images of a split as the model is shown them, by a fixed seed: the same in every run."""
        return _array(self._observe(rows.x, _stream(IMAGES)))

    @cached_property
    def test(self) -> np.ndarray:
        """The test images as the model is shown them (N, C, H, W)."""
        return self._observed(self.dataset.test)

    @cached_property
    def train(self) -> np.ndarray:
        """All training images, likewise."""
        return self._observed(self.dataset.trainval)

    def batches_of(self, x: np.ndarray, labels: np.ndarray, size: int = ROWS) -> Iterator[tuple[Tensor, Tensor | None]]:
        for images, own in in_order((x, labels), size):
            yield sg.as_tensor(images, device=self.device), self.label(own)

    def evaluate(self) -> dict[str, float]:
        """Bounds of log p(x) in nats a test image, and the sample metrics.

        Standard errors are over the test images. Samples are whole draws z ~ p(z), x ~ p(x|z), held against test and training
        images that went through the same rule as those the model was shown.
        """
        with self._evaluating():
            return {**self._bounds(), **self._sample_metrics()}

    def _bounds(self) -> dict[str, float]:
        """``neg_elbo`` and its two terms, ``iw_K``, ``active_units``, and for Gaussian pixels ``bits_per_dim``."""
        count, noise, labels = self.config.evaluation_samples, _stream(NOISE), self.dataset.test.labels
        bounds, means, tight = [], [], []
        for x, label in self.batches_of(self.test, labels):
            means.append(self.model.encode(x, label).mean)
            draws = [self.model.elbo(x, noise, label) for _ in range(ELBO_DRAWS)]
            likelihood = sg.stack([draw.log_likelihood for draw in draws]).mean(0)
            bounds.append(Bound(likelihood, draws[0].kl))
        for x, label in self.batches_of(self.test, labels, max(1, ROWS // count)):
            tight.append(self.model.importance_bound(x, count, noise, label))
        bound = _joined(bounds)
        found = _report(bound)
        found["neg_elbo_se"] = metrics.mean_se(_array(bound.elbo)).se
        found[f"iw_{count}"], found[f"iw_{count}_se"] = metrics.mean_se(-_array(sg.cat(tight)))
        found["active_units"] = active_units(sg.cat(means))
        if self.config.likelihood == "gaussian":
            found["bits_per_dim"] = self._bits_per_dim(found["neg_elbo"])
        return found

    def _bits_per_dim(self, nats: float) -> float:
        return metrics.bits_per_dim(nats, math.prod(self.dataset.shape), self.dataset.levels)

    def _sample_metrics(self) -> dict[str, float]:
        train, labels = self._observed(self.dataset.trainval), self.dataset.test.labels[:SAMPLES]
        rule = self.config.binarise if self._is_binary else "dequantised"
        classifier = metrics.feature_classifier(f"{self.dataset.name}-{rule}", train, self.dataset.trainval.labels)
        fake = self._generate(len(labels), _stream(NOISE), labels, "drawn")
        levels = 2 if self._is_binary else None
        found = metrics.evaluate_samples(self.test, fake, train, features=classifier.features, levels=levels)
        if self.config.conditional:
            found["class_accuracy"] = classifier.accuracy(fake, labels)
        return found

    def _sample_metrics(self) -> dict[str, float]:
        labels = self.dataset.test.labels[:SAMPLES]
        samples = self._generate(len(labels), _stream(DRAWS), labels, "drawn")
        found = self._judge(samples)
        if self.config.conditional:
            found["class_accuracy"] = self._classifier.accuracy(samples, labels)
        return found

    def _judge(self, samples: np.ndarray) -> dict[str, float]:
        """The sample metrics, in the feature space of a classifier of images that went through the same rule."""
        levels = 2 if self._is_binary else None
        features = self._classifier.features
        return metrics.evaluate_samples(self.test, samples, self.train, features=features, levels=levels)

    @cached_property
    def _classifier(self) -> metrics.FeatureClassifier:
        rule = self.config.binarise if self._is_binary else "dequantised"
        name = f"{self.dataset.name}-{rule}"
        return metrics.feature_classifier(name, self.train, self.dataset.trainval.labels)

    def baselines(self) -> dict[str, dict[str, float]]:
        """Models with an exact likelihood and without a network; being exact it stands beside both of our bounds."""
        train, test = (x.reshape(len(x), -1) for x in (self.train[:BASELINE_ROWS], self.test))
        bounds = ("neg_elbo", f"iw_{self.config.evaluation_samples}")
        found = {}
        for name, model in (_binary_baselines if self._is_binary else _real_baselines)(train, self.config.latent).items():
            nats, se = metrics.mean_se(-model.log_prob(test))
            found[name] = {key: nats for key in bounds} | {f"{key}_se": se for key in bounds}
            if not self._is_binary:
                found[name]["bits_per_dim"] = self._bits_per_dim(nats)
        if self._is_binary:
            draws = model.sample(min(len(test), SAMPLES), np.random.default_rng(0))
            found[name] |= self._judge(draws.reshape(-1, *self.dataset.shape))
        return found

    def references(self) -> list[Reference]:
        config = self.config
        if self.dataset.name != "mnist" or not self._is_binary or config.conditional:
            return []
        return [
            Reference(
                "iw_200",
                89.78,
                "pythae (Chadebec et al. 2022), 784-400-40-400-784, 500 epochs; on Larochelle's fixed binarisation of MNIST",
            )
        ]

    # ----------------------------------------------------------------------------------------- samples and pictures

    def sample(
        self,
        count: int,
        generator: Generator,
        *,
        label: int | None = None,
        pixels: Literal["mean", "drawn"] = "mean",
    ) -> dict[str, Any]:
        """New images. ``label``: of this class (conditional models; by default all classes in turn). ``pixels``: the mean of
        p(x|z), which is what one shows, or a draw from it, which is what the sample metrics judge."""
        classes = len(self.dataset.classes)
        if not self.config.conditional:
            if label is not None:
                raise ValueError(f"label={label}: this VAE was trained without labels; train it with conditional=true")
            return {"samples": self._generate(count, generator, None, pixels)}
        if label is not None and not 0 <= label < classes:
            raise ValueError(f"label={label}: the classes are 0 to {classes - 1}")
        labels = np.arange(count) % classes if label is None else np.full(count, label)
        return {"samples": self._generate(count, generator, labels, pixels), "labels": labels}

    def _generate(self, count: int, generator: Generator, labels: np.ndarray | None, pixels: str) -> np.ndarray:
        """``count`` images (count, C, H, W) in [0, 1]. An unconditional model takes no notice of ``labels``."""
        images = []
        with self._evaluating():
            z = self.model.prior(count, generator)
            for start in range(0, count, ROWS):
                rows = slice(start, start + ROWS)
                label = None if labels is None else self.label(labels[rows])
                p = self.model.decode(z[rows], label)
                images.append(_array(p.mean if pixels == "mean" else p.rsample(generator)))
        return np.concatenate(images).clip(0, 1)

    def preview(self, folder: Path, step: int) -> None:
        with self._evaluating():
            draw_pictures(self, folder, step)


def build(config: VAEConfig, shape: tuple[int, int, int], classes: int) -> VAE:
    """The network that ``config`` describes, for images of ``shape`` (C, H, W)."""
    observe = Bernoulli if config.likelihood == "bernoulli" else GaussianHead(config.variance, config.sd)
    common = dict(
        latent=config.latent,
        observe=observe,
        classes=classes if config.conditional else 0,
        activation={"relu": nn.ReLU, "silu": nn.SiLU}[config.activation],
        dropout=config.dropout,
    )
    if config.network == "dense":
        return dense(shape, config.hidden, **common)
    if len(config.hidden) != 1:
        raise ValueError(f"network=conv has one dense layer on either side of z: hidden={config.hidden} gives another number")
    return convolutional(shape, config.channels, config.hidden[0], **common)


def _binary_baselines(train: np.ndarray, latent: int) -> dict[str, metrics.BernoulliMixture]:
    return {
        "independent pixels": metrics.independent_bernoulli(train),
        f"mixture of {MIXTURE} Bernoullis": metrics.BernoulliMixture.fit(train, MIXTURE),
    }


def _real_baselines(train: np.ndarray, latent: int) -> dict[str, metrics.ProbabilisticPCA]:
    """The best linear VAE with as many latents, and with as many as there are pixels: any covariance."""
    return {
        "probabilistic PCA": metrics.ProbabilisticPCA.fit(train, latent),
        "one Gaussian": metrics.ProbabilisticPCA.fit(train, train.shape[1] - 1),
    }


def _report(bound: Bound) -> dict[str, float]:
    """Means over the images, as losses: less is better."""
    reconstruction, kl = -bound.log_likelihood.mean().item(), bound.kl.sum(1).mean().item()
    return {"neg_elbo": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}


def _joined(bounds: list[Bound]) -> Bound:
    return Bound(*(sg.cat(parts) for parts in zip(*bounds, strict=True)))


def _array(x: Tensor) -> np.ndarray:
    return x.numpy(force=True)
