"""Training the variational autoencoder: data, presets, evaluation. The model is in ``scratchgen.models.vae``.

What p(x|z) describes must be what the model is shown. Bernoulli pixels are binary: each grey pixel is a 1 with its grey level
as probability, drawn anew for every batch (``binarise=dynamic``, the protocol for MNIST), or 1 from half grey on (``threshold``,
for the 8x8 digits). Gaussian pixels are continuous: grey levels plus uniform noise, so that their densities are comparable.
Test images go through the same rule once, by a fixed seed, so that every run is scored on the very same images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, metrics, nn, viz
from scratchgen.data import Batches, in_order
from scratchgen.data.images import Images
from scratchgen.models.vae import (
    VAE,
    Bernoulli,
    Bound,
    GaussianHead,
    active_units,
    attribute_vector,
    convolutional,
    dense,
    latent_grid,
    linear_path,
    spherical_path,
)

from .base import Config, Recipe, Reference


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


ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU}
ELBO_DRAWS = 10  # of z for each test image
MIXTURE = 100  # components of the Bernoulli mixture beside us
MIXTURE_ROWS = 20_000  # training images it is fitted to: beyond these it gains nothing that shows
SAMPLES = 2000  # at most so many images go into the sample metrics
ROWS = 2000  # images, or copies of one, that are decoded at a time

# The random streams of evaluation: the same in every run, and apart from those of training.
TEST_IMAGES, TRAIN_IMAGES, BOUNDS, DRAWS, PICTURES = range(5)


def _stream(index: int) -> Generator:
    return Generator(0x5CA7C4).spawn(index)


class VAERecipe(Recipe):
    """Variational autoencoder."""

    name: ClassVar[str] = "vae"
    paper: ClassVar[str] = "Kingma and Welling 2013, Auto-Encoding Variational Bayes"
    default_data: ClassVar[str] = "digits"
    data_names: ClassVar[tuple[str, ...]] = ("digits", "mnist-5k", "mnist", "fashion-mnist")

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
        x, label = self._observe(images, self.generator), self._label(labels)
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

    def _label(self, labels: np.ndarray) -> Tensor | None:
        return sg.as_tensor(labels, device=self.device) if self.config.conditional else None

    def validate(self) -> dict[str, float]:
        if not self.config.hold_out:
            return {}
        rows, noise = self.dataset.validation, _stream(BOUNDS)
        with self._evaluating():
            bounds = [self.model.elbo(x, noise, label) for x, label in self._batches(self._observed(rows), rows.labels)]
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
    def _test(self) -> np.ndarray:
        return self._observed(self.dataset.test)

    def _batches(self, x: np.ndarray, labels: np.ndarray, size: int = ROWS) -> Iterator[tuple[Tensor, Tensor | None]]:
        for images, own in in_order((x, labels), size):
            yield sg.as_tensor(images, device=self.device), self._label(own)

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
        for x, label in self._batches(self._test, labels):
            means.append(self.model.encode(x, label).mean)
            draws = [self.model.elbo(x, noise, label) for _ in range(ELBO_DRAWS)]
            likelihood = sg.stack([draw.log_likelihood for draw in draws]).mean(0)
            bounds.append(Bound(likelihood, draws[0].kl))
        for x, label in self._batches(self._test, labels, max(1, ROWS // count)):
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
        found = metrics.evaluate_samples(self._test, fake, train, features=classifier.features, levels=levels)
        if self.config.conditional:
            found["class_accuracy"] = classifier.accuracy(fake, labels)
        return found

    def baselines(self) -> dict[str, dict[str, float]]:
        """Exact likelihoods of models without a network. Being exact they stand beside both of our bounds."""
        train = self._observed(self.dataset.trainval)[:BASELINE_ROWS].reshape(-1, math.prod(self.dataset.shape))
        test = self._test.reshape(len(self._test), -1)
        if not self._is_binary:
            return {"one Gaussian": self._gaussian_baseline(train, test)}
        fitted = {
            "independent pixels": metrics.independent_bernoulli(train),
            f"mixture of {MIXTURE} Bernoullis": metrics.BernoulliMixture.fit(train, MIXTURE),
        }
        tight = f"iw_{self.config.evaluation_samples}"
        found = {}
        for name, model in fitted.items():
            value, se = metrics.mean_se(-model.log_prob(test))
            found[name] = {"neg_elbo": value, "neg_elbo_se": se, tight: value, f"{tight}_se": se}
        return found
