"""Training the variational autoencoder: data, presets, evaluation. The model is in ``scratchgen.models.vae``.

What p(x|z) describes must be what the model is shown. Bernoulli pixels are binary: a grey pixel is a 1 with its grey
level as probability, drawn anew for every batch (``binarise=dynamic``, the protocol for MNIST), or a 1 from half grey
on (``threshold``, for the 8x8 digits). Gaussian pixels are continuous: grey level plus uniform noise, without which a
density could grow without bound. Test images go through the same rule once, by a fixed seed, so that every run is
scored on the very same images.

Training takes all training rows and a fixed number of steps; the test rows have no part in it. ``hold_out=true``
leaves the validation rows out, for a curve on them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, metrics, nn
from scratchgen.data import Batches, in_order
from scratchgen.data.images import ImageDataset, Images
from scratchgen.models.vae import VAE, Bernoulli, Bound, GaussianHead, active_units, convolutional, dense

from .base import Config, Recipe, Reference, setting
from .judges import ImageJudge, evaluating
from .vae_pictures import draw_pictures


@dataclass(frozen=True)
class VAEConfig(Config):
    """Settings of the VAE."""

    network: Literal["dense", "conv"] = setting("dense", "kind of layers")
    hidden: tuple[int, ...] = setting((400,), "widths of the dense layers (conv: of the one beside z)")
    channels: tuple[int, ...] = setting((32, 64), "conv: widths of the convolutions, each of stride 2")
    latent: int = setting(40, "latent units; 2 gives a picture of the whole latent plane")
    activation: Literal["relu", "silu"] = setting("relu", "activation of the hidden layers")
    dropout: float = setting(0.0, "dropout on the dense layers next to the pixels")
    conditional: bool = setting(False, "tell encoder and decoder the class")
    likelihood: Literal["bernoulli", "gaussian"] = setting("bernoulli", "p(x|z) of a pixel")
    binarise: Literal["dynamic", "threshold"] = setting("dynamic", "bernoulli: how grey pixels become 0 or 1")
    variance: Literal["fixed", "shared", "pixel"] = setting(
        "shared", "gaussian: variance fixed, one learned for all pixels, or one for each"
    )
    sd: float = setting(0.1, "gaussian: fixed (or initial) standard deviation")
    weight_decay: float = setting(0.0, "AdamW's decoupled weight decay")
    beta: float = setting(1.0, "weight of the KL; 1 is the evidence lower bound")
    warmup_steps: int = setting(0, "steps in which the weight of the KL grows from 0 to beta")
    free_bits: float = setting(0.0, "nats that a latent unit may carry without being pressed")
    importance_samples: int = setting(0, "train on the importance-weighted bound of so many samples; 0: the ELBO")
    evaluation_samples: int = setting(200, "samples of the importance-weighted bound in the evaluation")
    hold_out: bool = setting(False, "leave the validation rows out of training, for a curve on them")

    def __post_init__(self) -> None:
        if self.network == "conv" and len(self.hidden) != 1:
            raise ValueError(f"network=conv has one dense layer on either side of z, got hidden={self.hidden}")
        if self.importance_samples and self.free_bits:
            raise ValueError("free_bits needs the KL of each unit, which the bound of importance_samples does not have")


ELBO_DRAWS = 10  # of z for each test image
MIXTURE = 100  # components of the Bernoulli mixture beside us
BASELINE_ROWS = 20_000  # training images that baselines are fitted to; more would not show in them
ROWS = 2000  # images, or importance samples of images, decoded at a time

# The random streams of evaluation: the same in every run, and apart from those of training.
OBSERVATION, NOISE, DRAWS = range(3)


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
                steps=4650,  # 150 epochs
                learning_rate=4e-3,
                hidden=(512, 512),
                latent=10,
                activation="silu",
                dropout=0.3,
                weight_decay=1e-2,
                warmup_steps=620,
            ),
            "*": VAEConfig(steps=23_400, learning_rate=4e-3, activation="silu"),  # 50 epochs of 60,000 images
        },
        # The published layers and batches; cosine and SiLU reach in 150 epochs what took 500 without them.
        "full": {"*": VAEConfig(steps=90_000, batch_size=100, learning_rate=4e-3, activation="silu")},
    }
    expected: ClassVar[str] = (
        "tiny on digits: -ELBO 17.5, IW-500 16.8 nats (mixture of 100 Bernoullis: 18.0), a minute; "
        "tiny on mnist: -ELBO 94.5, IW-200 90.7 nats (mixture: 139.2), two minutes on two cores"
    )

    config: VAEConfig
    dataset: ImageDataset[Images]

    def __init__(self, config: VAEConfig, dataset: ImageDataset[Images], device: sg.Device, seed: int) -> None:
        super().__init__(config, dataset, device, seed)
        rows = dataset.train if config.hold_out else dataset.trainval
        self.batches = Batches((rows.x, rows.labels), config.batch_size, seed=seed, drop_last=True)
        self.model = build(config, dataset.shape, len(dataset.classes)).to(device)
        self.optimizer = sg.optim.AdamW(self.model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.schedule = sg.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=config.steps)

    def state(self) -> dict[str, Any]:
        names = ("model", "optimizer", "schedule", "batches", "generator")
        return {name: getattr(self, name) for name in names}

    # --- training

    def step(self) -> dict[str, float]:
        config, generator = self.config, self.generator
        images, labels = next(self.batches)
        x, label = self._observe(images, generator), self.label(labels)
        if config.importance_samples:
            bound = self.model.importance_bound(x, config.importance_samples, generator, label, self._beta()).mean()
            loss, report = -bound, {f"iw_{config.importance_samples}": -bound.item()}
        else:
            terms = self.model.elbo(x, generator, label)
            loss, report = -terms.objective(self._beta(), config.free_bits), _report(terms)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return report

    def _beta(self) -> float:
        """The weight of the KL in this step: a linear warm-up."""
        done, warmup = self.schedule.last_epoch, self.config.warmup_steps
        return self.config.beta * (done / warmup if done < warmup else 1.0)

    def _observe(self, images: np.ndarray, generator: Generator) -> Tensor:
        """Grey images in [0, 1] as what p(x|z) describes; see the top of this file."""
        x = sg.as_tensor(images, device=self.device)
        if self.is_binary and self.config.binarise == "threshold":
            return (x >= 0.5).float()
        uniform = sg.rand(x.shape, generator=generator, device=self.device)
        if self.is_binary:
            return (uniform < x).float()
        return (x * (self.dataset.levels - 1) + uniform) / self.dataset.levels

    @property
    def is_binary(self) -> bool:
        """Whether pixels are 0 or 1."""
        return self.config.likelihood == "bernoulli"

    def label(self, labels: np.ndarray) -> Tensor | None:
        """``labels`` as the model wants them: not at all unless it is conditional."""
        return sg.as_tensor(labels, device=self.device) if self.config.conditional else None

    def validate(self) -> dict[str, float]:
        if not self.config.hold_out:
            return {}
        rows, noise = self.dataset.validation, _stream(NOISE)
        with self._evaluating():
            batches = self.batches_of(self._observed(rows), rows.labels)
            return _report(_joined([self.model.elbo(x, noise, label) for x, label in batches]))

    # --- evaluation

    def _evaluating(self) -> AbstractContextManager[None]:
        """Without dropout and without a graph."""
        return evaluating(self.model)

    def _observed(self, rows: Images) -> np.ndarray:
        return self._observe(rows.x, _stream(OBSERVATION)).numpy(force=True)

    @cached_property
    def test_images(self) -> np.ndarray:
        """The test images (N, C, H, W) as the model is shown them: the same in every run."""
        return self._observed(self.dataset.test)

    @cached_property
    def train_images(self) -> np.ndarray:
        """The training images, likewise."""
        return self._observed(self.dataset.trainval)

    def batches_of(self, x: np.ndarray, labels: np.ndarray, size: int = ROWS) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Observed images in their order, with ``label(labels)``."""
        for images, own in in_order((x, labels), size):
            yield sg.as_tensor(images, device=self.device), self.label(own)

    def evaluate(self) -> dict[str, float]:
        """Bounds of log p(x) in nats a test image, and the sample metrics.

        Standard errors are over the test images. Samples are whole draws z ~ p(z), x ~ p(x|z), held against test and
        training images that went through the same rule as those the model was shown.
        """
        with self._evaluating():
            return {**self._bounds(), **self._sample_metrics()}

    def _bounds(self) -> dict[str, float]:
        """``neg_elbo`` and its terms, ``iw_K``, ``active_units``, and of Gaussian pixels ``bits_per_dim``."""
        count, noise, labels = self.config.evaluation_samples, _stream(NOISE), self.dataset.test.labels
        bounds, means = [], []
        for x, label in self.batches_of(self.test_images, labels):
            draws = [self.model.elbo(x, noise, label) for _ in range(ELBO_DRAWS)]
            bounds.append(Bound(sg.stack([draw.log_likelihood for draw in draws]).mean(0), draws[0].kl))
            means.append(self.model.encode(x, label).mean)
        tight = [
            self.model.importance_bound(x, count, noise, label)
            for x, label in self.batches_of(self.test_images, labels, max(1, ROWS // count))
        ]
        bound = _joined(bounds)
        found = _report(bound)
        found["neg_elbo_se"] = metrics.mean_se(bound.elbo.numpy(force=True)).se
        found[f"iw_{count}"], found[f"iw_{count}_se"] = metrics.mean_se(-sg.cat(tight).numpy(force=True))
        found["active_units"] = active_units(sg.cat(means))
        if not self.is_binary:
            found["bits_per_dim"] = self._bits_per_dim(found["neg_elbo"])
        return found

    def _bits_per_dim(self, nats: float) -> float:
        return metrics.bits_per_dim(nats, math.prod(self.dataset.shape), self.dataset.levels)

    def _sample_metrics(self) -> dict[str, float]:
        labels = np.resize(self.dataset.test.labels, self.judge.samples)
        samples = self._generate(len(labels), _stream(DRAWS), labels, "drawn")
        return self.judge.evaluate(samples, labels if self.config.conditional else None)

    @cached_property
    def judge(self) -> ImageJudge:
        """Holds samples against images that went through the same rule as those the model was shown."""
        rule, levels = (self.config.binarise, 2) if self.is_binary else ("dequantised", None)
        return ImageJudge(self.dataset, train=self.train_images, test=self.test_images, rule=rule, levels=levels)

    def baselines(self) -> dict[str, dict[str, float]]:
        """Models with an exact likelihood and without a network. Being exact it stands beside both of our bounds."""
        train, test = (x.reshape(len(x), -1) for x in (self.train_images[:BASELINE_ROWS], self.test_images))
        if self.is_binary:
            mixture = metrics.BernoulliMixture.fit(train, MIXTURE)
            draws = mixture.sample(self.judge.samples, np.random.default_rng(0))
            return {
                "independent pixels": self._exact(metrics.independent_bernoulli(train), test),
                f"mixture of {MIXTURE} Bernoullis": self._exact(mixture, test)
                | self.judge.evaluate(draws.reshape(-1, *self.dataset.shape).astype(np.float32)),
            }
        latent, pixels = min(self.config.latent, train.shape[1] - 1), train.shape[1]
        return {  # the best linear VAE with as many latents, and with so many that its covariance is free
            "probabilistic PCA": self._exact(metrics.ProbabilisticPCA.fit(train, latent), test),
            "one Gaussian": self._exact(metrics.ProbabilisticPCA.fit(train, pixels - 1), test),
        }

    def _exact(self, model: metrics.BernoulliMixture | metrics.ProbabilisticPCA, test: np.ndarray) -> dict[str, float]:
        nats, se = metrics.mean_se(-model.log_prob(test))
        found: dict[str, float] = {}
        for key in ("neg_elbo", f"iw_{self.config.evaluation_samples}"):
            found |= {key: nats, f"{key}_se": se}
        return found if self.is_binary else {**found, "bits_per_dim": self._bits_per_dim(nats)}

    def references(self) -> list[Reference]:
        if self.dataset.name != "mnist" or not self.is_binary or self.config.conditional:
            return []
        source = "pythae (Chadebec et al. 2022): 784-400-40-400-784, 500 epochs, fixed binarisation of Larochelle"
        return [Reference("iw_200", 89.78, source)]

    # --- samples and pictures

    def sample(
        self,
        count: int,
        generator: Generator,
        *,
        label: int | None = None,
        pixels: Literal["mean", "drawn"] = "mean",
    ) -> dict[str, Any]:
        """New images.

        ``label``: of this class, in a conditional model; by default all classes in turn. ``pixels``: the mean of
        p(x|z), which is what one shows, or a draw from it, which is what the sample metrics judge.
        """
        classes = len(self.dataset.classes)
        if not self.config.conditional:
            if label is not None:
                raise ValueError(f"label={label}: this VAE does not know classes; train one with conditional=true")
            return {"samples": self._generate(count, generator, None, pixels)}
        if label is not None and not 0 <= label < classes:
            raise ValueError(f"label={label}: the classes are 0 to {classes - 1}")
        labels = np.arange(count) % classes if label is None else np.full(count, label)
        return {"samples": self._generate(count, generator, labels, pixels), "labels": labels}

    def _generate(self, count: int, generator: Generator, labels: np.ndarray | None, pixels: str) -> np.ndarray:
        """``count`` images (count, C, H, W) in [0, 1]; only a conditional model looks at ``labels``."""
        images = []
        with self._evaluating():
            z = self.model.prior(count, generator)
            for start in range(0, count, ROWS):
                rows = slice(start, start + ROWS)
                p = self.model.decode(z[rows], None if labels is None else self.label(labels[rows]))
                images.append((p.mean if pixels == "mean" else p.sample(generator)).numpy(force=True))
        return np.concatenate(images).clip(0, 1)

    def preview(self, folder: Path, step: int) -> None:
        with self._evaluating():
            draw_pictures(self, folder, step)


def build(config: VAEConfig, shape: tuple[int, int, int], classes: int) -> VAE:
    """The network that ``config`` describes, for images of ``shape`` (C, H, W)."""
    common: dict[str, Any] = {
        "latent": config.latent,
        "observe": Bernoulli if config.likelihood == "bernoulli" else GaussianHead(config.variance, config.sd),
        "classes": classes if config.conditional else 0,
        "activation": {"relu": nn.ReLU, "silu": nn.SiLU}[config.activation],
        "dropout": config.dropout,
    }
    if config.network == "dense":
        return dense(shape, config.hidden, **common)
    return convolutional(shape, config.channels, config.hidden[0], **common)


def _report(bound: Bound) -> dict[str, float]:
    """Means over the images, as losses: less is better."""
    reconstruction = -float(bound.log_likelihood.numpy(force=True).mean())
    kl = float(bound.kl.numpy(force=True).sum(1).mean())
    return {"neg_elbo": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}


def _joined(bounds: list[Bound]) -> Bound:
    return Bound(*(sg.cat(parts) for parts in zip(*bounds, strict=True)))
