"""Training the restricted Boltzmann machine: data, presets, evaluation. The model is in ``scratchgen.models.rbm``.

Binary machines see binary images: 1 from half grey on (``threshold``), or with the grey level as probability, drawn
anew for every batch (``dynamic``). Gaussian ones see dequantised grey levels, each pixel less its mean and divided by
``noise`` of its standard deviations, since the units' own noise has variance 1. Test images go through the same rule
once, by a fixed seed.

Training takes all training rows and a fixed number of steps; ``hold_out=true`` leaves the validation rows out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, metrics
from scratchgen.data import Batches
from scratchgen.data.images import ImageDataset, Images
from scratchgen.models import rbm_likelihood as likelihood
from scratchgen.models.rbm import RBM, Chains, Sampled, objective, sparsity

from .base import Config, Recipe, Reference, setting
from .judges import ImageJudge, Metrics, evaluating
from .rbm_pictures import draw_pictures


@dataclass(frozen=True)
class RBMConfig(Config):
    """Settings of the RBM."""

    hidden: int = setting(128, "hidden units; up to 24 log Z is exact")
    visible: Literal["bernoulli", "gaussian"] = setting("bernoulli", "kind of the visible units")
    binarise: Literal["threshold", "dynamic"] = setting("threshold", "bernoulli: how grey pixels become 0 or 1")
    noise: float = setting(0.5, "gaussian: standard deviation of a unit given the hidden ones, in those of the pixel")
    invert: bool = setting(False, "train on negatives; a centred machine does not mind")
    negative: Literal["cd", "pcd", "tempered"] = setting(
        "pcd", "chains: started at the data each time, persistent, or persistent with tempered ones beside them"
    )
    gibbs_steps: int = setting(1, "Gibbs steps before each update: the k of CD-k")
    pixels: Literal["drawn", "mean"] = setting("drawn", "cd: negative samples, or their means in place of them")
    chains: int = setting(200, "persistent chains")
    temperatures: int = setting(5, "tempered: chains for each persistent one, itself among them")
    centre: float = setting(0.01, "rate at which the offsets follow the mean activities; 0: a plain machine")
    momentum: float = setting(0.0, "share of the last update in the next one")
    momentum_steps: int = setting(0, "steps with at most half as much momentum as 1, before the chains have settled")
    weight_decay: float = setting(1e-3, "L2 decay of the weights, not of the biases")
    l1: float = setting(0.0, "L1 decay of the weights")
    sparsity: float = setting(0.1, "mean activity that sparsity_cost asks of hidden units")
    sparsity_cost: float = setting(0.0, "weight of the cross-entropy to that activity")
    visible_bias: Literal["data", "zero"] = setting(
        "data", "where visible biases start: where they alone give the data's means, or at 0"
    )
    hidden_bias: float = setting(-1.0, "where hidden biases start")
    spread: float = setting(0.01, "standard deviation of the weights at the start")
    annealing_chains: int = setting(500, "evaluation: chains of annealed importance sampling")
    annealing_temperatures: int = setting(2000, "evaluation: its temperatures")
    hold_out: bool = setting(False, "leave the validation rows out of training, for a curve on them")

    def __post_init__(self) -> None:
        if self.negative == "tempered" and self.temperatures < 2:
            raise ValueError(f"negative=tempered needs at least 2 temperatures, got {self.temperatures}")
        if self.pixels == "mean" and self.negative != "cd":
            raise ValueError(f"pixels=mean is for negative=cd; chains that go on (negative={self.negative}) need draws")
        if not 0 <= self.centre <= 1:
            raise ValueError(f"centre is a rate from 0 to 1, got {self.centre}")
        if not 0 < self.sparsity < 1:
            raise ValueError(f"sparsity is a mean activity between 0 and 1, got {self.sparsity}")


MIXTURE = 100  # components of the Bernoulli mixture beside us
BASELINE_ROWS = 20_000  # training images that baselines are fitted to
FEATURE_ROWS = 10_000  # training images that the classifiers on features and on pixels are fitted to
PSEUDO_ROWS = 500  # images whose pseudo-likelihood is computed
EARLY_MOMENTUM = 0.5  # Hinton 2012, section 9

OBSERVATION, ANNEALING, DRAWS = range(3)  # random streams of evaluation, the same in every run


def _stream(index: int) -> Generator:
    return Generator(0x2B3).spawn(index)


class RBMRecipe(Recipe):
    """Restricted Boltzmann machine."""

    name: ClassVar[str] = "rbm"
    paper: ClassVar[str] = "Hinton 2002, Training Products of Experts by Minimizing Contrastive Divergence"
    default_data: ClassVar[str] = "digits"
    data_names: ClassVar[tuple[str, ...]] = ("digits", "mnist-5k", "mnist", "fashion-mnist")
    presets: ClassVar[Mapping[str, Mapping[str, RBMConfig]]] = {
        "tiny": {
            "digits": RBMConfig(steps=4200, batch_size=100, learning_rate=0.2, gibbs_steps=5),
            "*": RBMConfig(
                steps=6000, batch_size=100, learning_rate=0.05, hidden=200, gibbs_steps=5, weight_decay=2e-4
            ),
        },
        # So few hidden units that log Z is exact.
        "exact": {
            "digits": RBMConfig(steps=8400, batch_size=100, learning_rate=0.5, hidden=16),
            "*": RBMConfig(steps=12_000, batch_size=100, learning_rate=0.05, hidden=16, weight_decay=2e-4),
        },
        # Salakhutdinov and Murray 2008: 500 hidden units, CD-25.
        "full": {
            "*": RBMConfig(
                steps=120_000, batch_size=100, learning_rate=0.05, hidden=500, negative="cd", gibbs_steps=25,
                weight_decay=2e-4,
            ),
        },
    }  # fmt: skip
    expected: ClassVar[str] = (
        "with hold_out, nats a validation digit: exact -18.0, tiny -17.2 by annealing (mixture of 100 Bernoullis, "
        "test digits: -18.0); ten seconds of one core"
    )

    config: RBMConfig
    dataset: ImageDataset[Images]

    def __init__(self, config: RBMConfig, dataset: ImageDataset[Images], device: sg.Device, seed: int) -> None:
        super().__init__(config, dataset, device, seed)
        rows = dataset.train if config.hold_out else dataset.trainval
        self.batches = Batches(rows.x, config.batch_size, seed=seed, drop_last=True)
        self.gaussian = config.visible == "gaussian"
        if self.gaussian:
            grey = (rows.x.reshape(len(rows), -1) * (dataset.levels - 1) + 0.5) / dataset.levels
            self.mean, sd = grey.mean(0), np.sqrt(grey.var(0) + 1 / (12 * dataset.levels**2))
            self.scale = (config.noise * sd).astype(np.float32)
        visible = math.prod(dataset.shape)
        self.model = RBM(
            visible, config.hidden, gaussian=self.gaussian, hidden_bias=config.hidden_bias, spread=config.spread
        ).to(device)
        self.base = self._base(rows)
        mean = self.base if self.gaussian else sg.sigmoid(self.base)
        if config.visible_bias == "data":
            self.model.start_at(mean)
        if config.centre:
            self.model.centre(mean[None])
        self.chains: Chains | None = None
        if config.negative != "cd":
            temperatures = config.temperatures if config.negative == "tempered" else 1
            self.chains = Chains(self.model, config.chains, self.base, self.generator, temperatures)
        biases = [self.model.visible_bias, self.model.hidden_bias]
        groups = [{"params": [self.model.weight], "weight_decay": config.weight_decay}, {"params": biases}]
        self.optimizer = sg.optim.SGD(groups, config.learning_rate, momentum=config.momentum)
        self.steps_done = 0

    def _base(self, rows: Images) -> Tensor:
        """Biases of independent units that have the means of the data: where annealing starts."""
        if self.gaussian:
            return sg.zeros(self.model.visible, device=self.device)
        x = self.observe(rows.x, _stream(OBSERVATION)).numpy(force=True)
        p = (x.sum(0, dtype=np.float64) + 0.5) / (len(x) + 1)
        return sg.as_tensor(np.log(p / (1 - p)).astype(np.float32), device=self.device)

    def state(self) -> dict[str, Any]:
        parts = {name: getattr(self, name) for name in ("model", "optimizer", "batches", "generator")}
        return parts | {"counts": _Counts(self)} | ({"chains": self.chains} if self.chains else {})

    # --- data

    def observe(self, images: np.ndarray, generator: Generator) -> Tensor:
        """Grey images (N, C, H, W) in [0, 1] as rows (N, visible) of what the units can be."""
        config, x = self.config, sg.as_tensor(images.reshape(len(images), -1), device=self.device)
        if config.invert:
            x = 1 - x
        if self.gaussian:
            uniform = sg.rand(x.shape, generator=generator, device=self.device)
            grey = (x * (self.dataset.levels - 1) + uniform) / self.dataset.levels
            return (grey - sg.as_tensor(self.mean, device=self.device)) / sg.as_tensor(self.scale, device=self.device)
        if config.binarise == "threshold":
            return ((x > 0.5) if config.invert else (x >= 0.5)).float()
        return (sg.rand(x.shape, generator=generator, device=self.device) < x).float()

    def to_images(self, v: Tensor) -> np.ndarray:
        """The way back: units, or their means, as images (N, C, H, W) in [0, 1]."""
        x = v.numpy(force=True)
        x = (x * self.scale + self.mean).clip(0, 1) if self.gaussian else x
        return (1 - x if self.config.invert else x).reshape(-1, *self.dataset.shape)

    # --- training

    def step(self) -> dict[str, float]:
        config, rbm = self.config, self.model
        data = self.observe(next(self.batches), self.generator)
        samples = self._negative(data)
        if config.centre:
            rbm.centre(data, rate=config.centre)
        loss = objective(rbm, data, samples)
        report = {"free_energy_difference": loss.item()}
        if config.sparsity_cost:
            loss = loss + config.sparsity_cost * sparsity(rbm, data, config.sparsity)
        if config.l1:
            loss = loss + config.l1 * rbm.weight.abs().sum()
        self.optimizer.zero_grad()
        loss.backward()
        self._set_pace()
        self.optimizer.step()
        self.steps_done += 1
        with sg.no_grad():
            report["activity"] = rbm.hidden_mean(data).mean().item()
        if config.negative == "tempered" and self.chains is not None:
            report["swap_share"] = self.chains.swap_share
        return report

    def _negative(self, data: Tensor) -> Tensor:
        """Samples of the model: k steps away from the data, or where the persistent chains have come to."""
        config = self.config
        if self.chains is not None:
            return self.chains.advance(self.model, config.gibbs_steps, self.generator)
        moved = self.model.gibbs(data, config.gibbs_steps, self.generator)
        return moved.mean if config.pixels == "mean" else moved.visible

    def _set_pace(self) -> None:
        """The rate falls linearly to 0.1 %; momentum adds up as many updates as the rate is made smaller."""
        config = self.config
        momentum = min(config.momentum, EARLY_MOMENTUM) if self.steps_done < config.momentum_steps else config.momentum
        rate = config.learning_rate * max(1e-3, 1 - self.steps_done / config.steps)
        for group in self.optimizer.param_groups:
            group["momentum"], group["lr"] = momentum, rate * (1 - momentum)

    def validate(self) -> dict[str, float]:
        """``free_energy_gap``, F of validation less that of training rows: it grows as the machine overfits; and the
        pseudo-likelihood."""
        if not self.config.hold_out:
            return {}
        rows = self._observed(self.dataset.validation)[:PSEUDO_ROWS]
        seen = self._observed(self.dataset.train.take(np.arange(min(len(self.dataset.train), len(rows)))))
        with evaluating(self.model):
            gap = self.model.free_energy(rows).mean() - self.model.free_energy(seen).mean()
            found = {"free_energy_gap": gap.item()}
            return found if self.gaussian else {"pseudo_likelihood": self._pseudo(rows)} | found

    def _pseudo(self, v: Tensor) -> float:
        return self.model.pseudo_likelihood(v[:PSEUDO_ROWS]).mean().item()

    # --- evaluation

    def _observed(self, rows: Images) -> Tensor:
        return self.observe(rows.x, _stream(OBSERVATION))

    @cached_property
    def test_rows(self) -> Tensor:
        """The test images as units: the same in every run."""
        return self._observed(self.dataset.test)

    @cached_property
    def train_rows(self) -> Tensor:
        """The training images, likewise."""
        return self._observed(self.dataset.trainval)

    @cached_property
    def judge(self) -> ImageJudge:
        """Holds samples against images that went through the same rule."""
        train, test = self.to_images(self.train_rows), self.to_images(self.test_rows)
        rule, levels = ("dequantised", None) if self.gaussian else (self.config.binarise, 2)
        return ImageJudge(self.dataset, train=train, test=test, rule=rule, levels=levels)

    def evaluate(self) -> dict[str, float]:
        """``test_log_likelihood`` in nats: exact where log Z is, else by annealing, which flatters the machine by as
        much as ``log_z_gap``, reverse less forward estimate, may tell; sample metrics of long chains; and how well a
        linear classifier does on hidden units and on pixels."""
        with evaluating(self.model):
            found = self._likelihood()
            if not self.gaussian:
                found["pseudo_likelihood"] = self._pseudo(self.test_rows)
            rows = len(self.test_rows)
            energy = [self.model.free_energy(v).mean().item() for v in (self.test_rows, self.train_rows[:rows])]
            found["free_energy_gap"] = energy[0] - energy[1]
        drawn = self.sample(self.judge.samples, _stream(DRAWS), pixels="drawn")["samples"]
        return found | self._classified() | self.judge.evaluate(drawn)

    def _likelihood(self) -> Metrics:
        config, stream = self.config, _stream(ANNEALING)
        schedule = {"temperatures": config.annealing_temperatures}
        forward = likelihood.annealed(self.model, self.base, stream, chains=config.annealing_chains, **schedule)
        start = likelihood.samples_of(self.model, forward, stream)
        backward = likelihood.reverse_annealed(self.model, self.base, stream, start, **schedule)
        found = {"log_z_ais": forward.log_z, "log_z_ais_se": forward.se, "log_z_reverse": backward.log_z}
        found |= {"log_z_reverse_se": backward.se, "log_z_gap": backward.log_z - forward.log_z}
        log_z = forward.log_z
        if config.hidden <= 20:
            log_z = found["log_z"] = likelihood.exact_log_z(self.model)
        return self._scored(likelihood.log_likelihood(self.model, self.test_rows, log_z)) | found

    def _scored(self, log_p: np.ndarray) -> Metrics:
        """log p of test rows of units, as of images: Gaussian units are pixels in other units of measurement."""
        if self.gaussian:
            log_p = log_p - float(np.log(self.scale.astype(np.float64)).sum())
        nats, se = metrics.mean_se(log_p)
        found = {"test_log_likelihood": nats, "test_log_likelihood_se": se}
        if self.gaussian:
            found["bits_per_dim"] = metrics.bits_per_dim(-nats, self.model.visible, self.dataset.levels)
        return found

    def _classified(self) -> Metrics:
        """Test accuracy of logistic regression on p(h = 1 | v) and on the pixels themselves."""
        from sklearn.linear_model import LogisticRegression

        labels, found = self.dataset.trainval.labels[:FEATURE_ROWS], {}
        with evaluating(self.model):
            for key, seen in (("feature_accuracy", self.model.hidden_mean), ("pixel_accuracy", lambda v: v)):
                train, test = (seen(v).numpy(force=True) for v in (self.train_rows[:FEATURE_ROWS], self.test_rows))
                fitted = LogisticRegression(max_iter=1000).fit(train, labels)
                found[key] = float(fitted.score(test, self.dataset.test.labels))
        return found

    def baselines(self) -> dict[str, Metrics]:
        train, test = (v.numpy(force=True) for v in (self.train_rows[:BASELINE_ROWS], self.test_rows))
        if self.gaussian:
            full = metrics.ProbabilisticPCA.fit(train, train.shape[1] - 1)
            return {"one Gaussian": self._scored(full.log_prob(test))}
        mixture = metrics.BernoulliMixture.fit(train, MIXTURE)
        drawn = sg.as_tensor(mixture.sample(self.judge.samples, np.random.default_rng(0)).astype(np.float32))
        return {
            "independent pixels": self._scored(metrics.independent_bernoulli(train).log_prob(test)),
            f"mixture of {MIXTURE} Bernoullis": self._scored(mixture.log_prob(test))
            | self.judge.evaluate(self.to_images(drawn)),
        }

    def references(self) -> list[Reference]:
        if self.dataset.name != "mnist" or self.gaussian or self.config.invert:
            return []
        if self.config.hidden == 16:
            source = "PyDeep (Melchior et al. 2016): 16 hidden units, centred, PCD-1, 50 epochs; exact"
            return [Reference("test_log_likelihood", -142.56, source)]
        source = "Salakhutdinov and Murray 2008: 500 hidden units, CD-25; annealed importance sampling alone"
        return [Reference("test_log_likelihood", -86.34, source)]

    # --- samples and pictures

    def sample(
        self,
        count: int,
        generator: Generator,
        *,
        steps: int = 1000,
        pixels: Literal["mean", "drawn"] = "mean",
    ) -> dict[str, Any]:
        """New images: chains of ``steps`` Gibbs steps from independent pixels with the means of the data.

        ``pixels``: the mean of p(v|h) at the end, which is what one shows, or a draw from it, which is judged.
        """
        if steps < 1:
            raise ValueError(f"steps={steps}: a chain takes at least one step")
        moved = self.run_chains(count, generator, steps)
        return {"samples": self.to_images(moved.mean if pixels == "mean" else moved.visible)}

    def run_chains(self, count: int, generator: Generator, steps: int) -> Sampled:
        """``count`` chains from independent units."""
        return self.model.gibbs(self.model.independent(count, self.base, generator), steps, generator)

    def preview(self, folder: Path, step: int) -> None:
        with evaluating(self.model):
            draw_pictures(self, folder, step)


class _Counts:
    """The recipe's plain numbers, as a part of its state."""

    def __init__(self, recipe: RBMRecipe) -> None:
        self.recipe = recipe

    def state_dict(self) -> dict[str, Any]:
        return {"steps_done": self.recipe.steps_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.recipe.steps_done = state["steps_done"]
