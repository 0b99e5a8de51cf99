"""Training denoising diffusion: networks, schedules, presets, samplers. The models are in ``scratchgen.models``:
``diffusion`` (the process, the losses, the bound), ``unet`` (the networks), ``samplers``.

Real images are dequantised for training only where ``dequantise`` says so; samples are clipped to [-1, 1] at every
step. Figures are of the averaged network. Guided samples follow eps = (1 + w) eps(class) - w eps(any).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, nn
from scratchgen.data import Batches
from scratchgen.data.images import ImageDataset
from scratchgen.models import samplers
from scratchgen.models.diffusion import Denoiser, Diffusion, Process, Times
from scratchgen.models.unet import ResidualMLP, SurveyUNet, UNet

from .base import Config, Recipe, Reference, setting
from .ddpm_pictures import draw_pictures
from .judges import Judge, evaluating, judge_of


@dataclass(frozen=True)
class DDPMConfig(Config):
    """Settings of denoising diffusion."""

    network: Literal["ho", "survey", "mlp"] = setting("ho", "Ho et al.'s U-Net, the survey's, or dense layers")
    widths: tuple[int, ...] = setting((32, 64, 64), "channels of each size (mlp: of the hidden layers)")
    blocks: int = setting(2, "residual blocks of a size")
    attention: tuple[int, ...] = setting((), "ho: the levels with attention, 0 being the full size")
    dropout: float = setting(0.0, "ho: dropout in the residual blocks")
    scale_shift: bool = setting(False, "ho: the time scales and shifts a norm instead of being added")
    diffusion_steps: int = setting(1000, "steps of the forward process")
    schedule: Literal["linear", "cosine", "offset-cosine", "sigmoid"] = setting("cosine", "how the noise grows")
    offset: float = setting(0.008, "cosine: s, more of which makes the first steps noisier")
    target: Literal["eps", "x0", "v"] = setting("eps", "what the network says")
    loss: Literal["simple", "min-snr"] = setting("simple", "weights of the steps in the loss")
    censored: bool = setting(False, "images: no loss where black or white is guessed beyond its end of the range")
    times: Literal["independent", "even"] = setting("independent", "a batch's t: each drawn, or evenly spread from one")
    learned_variance: bool = setting(False, "learn the reverse variance too, by the hybrid loss")
    conditional: bool = setting(False, "tell the network the class")
    drop_class: float = setting(0.1, "conditional: share of samples whose class is hidden, for guidance")
    warmup: int = setting(0, "steps in which the learning rate rises, before it falls along a cosine")
    weight_decay: float = setting(0.0, "AdamW's decoupled weight decay")
    clip_gradients: float = setting(1.0, "largest norm of the gradient; 0: any")
    average: float = setting(0.999, "decay of the averaged network, which samples are drawn from")
    dequantise: bool = setting(False, "uniform noise of one grey level on training images")
    sampler: Literal["ancestral", "ddim", "dpm-solver", "heun"] = setting(
        "dpm-solver", "of samples for the evaluation"
    )
    sampling_steps: int = setting(50, "its steps; 0: all of the process")
    guidance: float = setting(0.0, "conditional: w of classifier-free guidance in the evaluation")


NOISE = 0x91C7  # seed of the samples in pictures and in the evaluation
ROWS = 500  # samples drawn at a time
BOUND_STEPS = 200  # of a process of more steps, the bound is computed at some
BOUND_ROWS = 500  # test samples that it is estimated on


class DDPMRecipe(Recipe):
    """Denoising diffusion."""

    name: ClassVar[str] = "ddpm"
    paper: ClassVar[str] = "Ho et al. 2020, Denoising Diffusion Probabilistic Models"
    default_data: ClassVar[str] = "digits"
    data_names: ClassVar[tuple[str, ...]] = (
        "ring8", "grid25", "moons", "rings", "digits", "mnist-5k", "mnist", "fashion-mnist",
    )  # fmt: skip
    presets: ClassVar[Mapping[str, Mapping[str, DDPMConfig]]] = {
        "tiny": {
            **{
                name: DDPMConfig(
                    steps=12_000, batch_size=256, network="mlp", widths=(128,), blocks=3, diffusion_steps=200,
                    sampler="ancestral", sampling_steps=0,
                )
                for name in ("ring8", "grid25", "moons", "rings")
            },
            "digits": DDPMConfig(
                steps=12_000, network="mlp", widths=(256,), blocks=3, diffusion_steps=200, conditional=True,
                offset=0.17, learned_variance=True, weight_decay=1e-2, sampler="ancestral", sampling_steps=0,
            ),
            "*": DDPMConfig(
                steps=4800, batch_size=32, learning_rate=2e-3, warmup=200, widths=(32, 32, 64), blocks=1, target="v",
                times="even", censored=True,
            ),
        },
        "survey": {
            "digits": DDPMConfig(steps=4000, network="survey", widths=(32, 64), diffusion_steps=200, conditional=True),
            "*": DDPMConfig(
                steps=5500, batch_size=32, learning_rate=2e-3, warmup=200, network="survey", widths=(32, 32, 64),
                target="v", times="even", censored=True,
            ),
        },
        # Ho et al.'s settings for CIFAR-10: linear schedule, 1000 steps, Adam 2e-4, batch 128, average 0.9999.
        "full": {
            "*": DDPMConfig(
                steps=100_000, batch_size=128, learning_rate=2e-4, widths=(64, 128, 128), attention=(1,), dropout=0.1,
                schedule="linear", average=0.9999, sampler="ancestral", sampling_steps=0,
            ),
        },
    }  # fmt: skip
    expected: ClassVar[str] = "tiny on digits: Frechet distance 1.05 (mixture of Gaussians: 1.8), 2.18 bits a dimension"

    config: DDPMConfig
    dataset: Any

    def __init__(self, config: DDPMConfig, dataset: Any, device: sg.Device, seed: int) -> None:
        super().__init__(config, dataset, device, seed)
        self.is_image = isinstance(dataset, ImageDataset)
        if config.censored and not self.is_image:
            raise ValueError("censored=true is for images, whose pixels have a range; points have none")
        rows = dataset.trainval
        self.batches = Batches((rows.x, rows.labels), config.batch_size, seed=seed, drop_last=True)
        self.scale = 1.0 if self.is_image else float(rows.x.std())
        self.shape: tuple[int, ...] = dataset.shape if self.is_image else (2,)
        self.classes = len(dataset.classes) if config.conditional else 0
        process = Process.of(config.schedule, config.diffusion_steps, config.offset)
        network = build(config, self.shape, self.classes)
        self.model = Diffusion(network, process, config.target, config.learned_variance, self.classes).to(device)
        self.optimizer = sg.optim.AdamW(self.model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.schedule = sg.optim.lr_scheduler.WarmupCosineLR(self.optimizer, config.warmup, config.steps)
        self.average = sg.optim.EMA(self.model, config.average)

    def state(self) -> dict[str, Any]:
        names = ("model", "optimizer", "schedule", "average", "batches", "generator")
        return {name: getattr(self, name) for name in names}

    # --- training

    def step(self) -> dict[str, float]:
        config, generator = self.config, self.generator
        x0, label = self._real()
        t = self._times(len(x0))
        errors, terms = self.model.losses(x0, t, generator, label, self.levels, config.censored)
        if config.loss == "min-snr":
            loss = (errors * sg.as_tensor(self.model.min_snr_weight(t), dtype=x0.dtype, device=self.device)).mean()
        else:
            loss = errors.mean()
        report = {"loss": loss.item()}
        if config.learned_variance:
            bound = terms.mean() * (config.diffusion_steps / x0[0].numel())
            loss, report["bound"] = loss + 1e-3 * bound, bound.item()
        self.optimizer.zero_grad()
        loss.backward()
        if config.clip_gradients:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_gradients)
        self.optimizer.step()
        self.schedule.step()
        self.average.update()
        return report

    @property
    def levels(self) -> int:
        """Values that a number can take: grey levels; of points, as many as float32 resolves here."""
        return self.dataset.levels if self.is_image else 1 << 16

    def _times(self, count: int) -> Times:
        """A step of the process for each sample of a batch.

        ``even``: one is drawn, and the others lie at equal distances from it, around the ends; each is as likely as
        any, and the loss of a batch varies less (Kingma et al. 2021, "Variational Diffusion Models").
        """
        steps = self.config.diffusion_steps
        if self.config.times == "independent":
            return np.asarray(self.generator.integers(0, steps, (count,)))
        first = float(self.generator.uniform((1,))[0])
        return ((first + np.arange(count)) / count * steps).astype(np.int64)

    def _real(self) -> tuple[Tensor, Tensor | None]:
        """A batch in the network's units, and its labels, of which some are hidden."""
        x, labels = next(self.batches)
        x = self.to_model(x, self.generator if self.config.dequantise else None)
        if not self.classes:
            return x, None
        hidden = np.asarray(self.generator.uniform((len(labels),))) < self.config.drop_class
        return x, self.label(np.where(hidden, self.classes, labels))

    def to_model(self, x: np.ndarray, generator: Generator | None = None) -> Tensor:
        """Images in [0, 1] as [-1, 1], dequantised if given a generator; points at unit scale."""
        made = sg.as_tensor(x, device=self.device)
        if not self.is_image:
            return made / self.scale
        if generator is not None:
            uniform = sg.rand(made.shape, generator=generator, device=self.device)
            made = (made * (self.levels - 1) + uniform) / self.levels
        return 2 * made - 1

    def to_data(self, x: Tensor) -> np.ndarray:
        """The way back: images clipped to [0, 1], and their grey levels if training images were dequantised."""
        array = x.numpy(force=True)
        if not self.is_image:
            return array * self.scale
        array = ((array + 1) / 2).clip(0, 1)
        if self.config.dequantise:
            array = np.minimum(np.floor(array * self.levels), self.levels - 1) / (self.levels - 1)
        return array

    def label(self, labels: np.ndarray) -> Tensor:
        return sg.as_tensor(labels.astype(np.int64), device=self.device)

    # --- samples

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged network in evaluation mode, without a graph."""
        with evaluating(self.model), self.average.swapped():
            yield

    def denoiser(self, label: Tensor | None = None, guidance: float = 0.0, rescale: float = 0.0) -> Denoiser:
        """What samplers call; x_0 is clipped where it is an image."""

        def denoise(x: Tensor, t: Times) -> Any:
            if label is not None and guidance:
                return self.model.guided(x, t, label, guidance, self.is_image, rescale)
            return self.model.predict(x, t, label, self.is_image)

        return denoise

    def noise(self, count: int, generator: Generator) -> Tensor:
        """x_T of ``count`` samples."""
        return sg.randn((count, *self.shape), generator=generator, device=self.device)

    def states(
        self,
        x: Tensor,
        denoise: Denoiser,
        generator: Generator,
        sampler: str,
        steps: int = 0,
        eta: float = 0.0,
        start: int | None = None,
    ) -> Iterator[Tensor]:
        """The states that ``sampler`` passes through from x; ``start``: its index, by default the last."""
        process = self.model.process
        top = process.steps if start is None else start + 1
        times = samplers.spaced(process, min(steps or top, top), start)
        if sampler == "ancestral":
            variance: Any = "learned" if self.config.learned_variance else "small"
            return samplers.ancestral(process, denoise, x, times, generator, variance)
        if sampler == "ddim":
            return samplers.ddim(process, denoise, x, times, generator, eta)
        solver = samplers.dpm_solver if sampler == "dpm-solver" else samplers.heun
        return solver(process, denoise, x, times)

    def draw(
        self,
        count: int,
        generator: Generator,
        labels: np.ndarray | None = None,
        *,
        sampler: str | None = None,
        steps: int | None = None,
        eta: float = 0.0,
        guidance: float | None = None,
        rescale: float = 0.0,
        progress: bool = False,
    ) -> np.ndarray:
        """Samples in the data's own units, of the averaged network; by default as the configuration says."""
        from tqdm import tqdm

        config = self.config
        sampler, steps = sampler or config.sampler, config.sampling_steps if steps is None else steps
        guidance = config.guidance if guidance is None else guidance
        parts = []
        with self.averaged(), tqdm(total=count, unit="sample", disable=not progress, leave=False) as bar:
            for first in range(0, count, ROWS):
                rows = slice(first, min(first + ROWS, count))
                label = None if labels is None else self.label(labels[rows])
                x = self.noise(rows.stop - first, generator)
                denoise = self.denoiser(label, guidance, rescale)
                parts.append(self.to_data(samplers.last(self.states(x, denoise, generator, sampler, steps, eta))))
                bar.update(rows.stop - first)
        return np.concatenate(parts)

    def sample(
        self,
        count: int,
        generator: Generator,
        *_: Any,
        sampler: Literal["ancestral", "ddim", "dpm-solver", "heun"] = "ddim",
        steps: int = 50,
        eta: float = 0.0,
        label: int | None = None,
        guidance: float = 0.0,
        rescale: float = 0.0,
    ) -> dict[str, Any]:
        """New samples.

        ``sampler``, ``steps`` (0: all), ``eta`` (ddim: fresh noise). Conditional models: ``label``, by default all
        classes in turn, and ``guidance`` with its ``rescale``.
        """
        labels = self._labels(count, label)
        if guidance and labels is None:
            raise ValueError("guidance needs a model that knows classes; train one with conditional=true")
        options: Any = {"sampler": sampler, "steps": steps, "eta": eta, "guidance": guidance, "rescale": rescale}
        drawn = {"samples": self.draw(count, generator, labels, progress=True, **options)}
        return drawn if labels is None else drawn | {"labels": labels}

    def _labels(self, count: int, label: int | None) -> np.ndarray | None:
        if not self.classes:
            if label is not None:
                raise ValueError(f"label={label}: this model does not know classes; train one with conditional=true")
            return None
        if label is not None and not 0 <= label < self.classes:
            raise ValueError(f"label={label}: the classes are 0 to {self.classes - 1}")
        return np.arange(count) % self.classes if label is None else np.full(count, label)

    # --- evaluation

    @cached_property
    def judge(self) -> Judge:
        return judge_of(self.dataset)

    def evaluate(self) -> dict[str, float]:
        """The judge's metrics of samples, and of images the variational bound in bits a dimension.

        Where the sampler takes more steps, ``fd_ddim_20`` is the Frechet distance with 20 steps of DDIM.
        """
        count = self.judge.samples
        labels = np.resize(self.dataset.test.labels, count) if self.classes else None
        found = self.judge.evaluate(self.draw(count, Generator(NOISE), labels, progress=True), labels)
        if self.is_image and self.config.sampler == "ancestral":
            quick = self.draw(count, Generator(NOISE), labels, sampler="ddim", steps=20, progress=True)
            found["fd_ddim_20"] = self.judge.evaluate(quick, labels)["fd"]
        if self.is_image:
            terms = self.bound()
            found["bits_per_dim"], found["bits_per_dim_prior"] = float(terms.sum()), float(terms[-1])
        return found

    def bound(self) -> np.ndarray:
        """The variational bound on test samples in bits a dimension, term by term (steps + 1,): L_0 ... L_T.

        Of many steps only some are computed (``by_step``), and what lies between follows from its neighbours.
        """
        rows, steps = self.dataset.test, self.model.process.steps
        chosen, _, terms = self.by_step(rows.x[:BOUND_ROWS], rows.labels[:BOUND_ROWS])
        prior = float(self.model.prior_term(self.to_model(rows.x[:BOUND_ROWS])).mean().item())
        return np.append(np.interp(np.arange(steps), chosen, terms), prior / (np.prod(self.shape) * np.log(2)))

    def by_step(self, x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Steps of the process, and at each the mean squared error of eps and the bound's term in bits a dimension, of
        the averaged network on samples ``x``. All steps of a short process; of a long one 50, dense where the terms
        change most: near the data."""
        process, x0 = self.model.process, self.to_model(x)
        label = self.label(labels) if self.classes else None
        chosen = np.arange(process.steps)
        if process.steps > BOUND_STEPS:
            chosen = np.unique((np.linspace(0, 1, 50) ** 2.5 * (process.steps - 1)).round().astype(int))
        generator, errors, terms = Generator(NOISE).spawn(1), [], []
        with self.averaged():
            for t in chosen:
                times = np.full(len(x0), t)
                eps = sg.randn(x0.shape, generator=generator, device=self.device)
                noisy = process.jump(x0, times, eps)
                prediction = self.model.predict(noisy, times, label, clip=self.is_image)
                errors.append(float(((prediction.eps - eps) ** 2).mean().item()))
                terms.append(float(self.model.bound_terms(x0, noisy, times, prediction, self.levels).mean().item()))
        return chosen, np.array(errors), np.array(terms) / (np.prod(self.shape) * np.log(2))

    def baselines(self) -> dict[str, dict[str, float]]:
        return self.judge.baselines()

    def references(self) -> list[Reference]:
        if self.dataset.name != "mnist":
            return []
        return [Reference("nfd", 6.9, "LiorSinai's simple DDPM, his own classifier's Frechet distance, normalised")]

    def validate(self) -> dict[str, float]:
        """The averaged network's loss on training samples at fixed noise: comparable from one time to the next."""
        rows, generator = self.dataset.validation, Generator(NOISE).spawn(2)
        x0 = self.to_model(rows.x[:ROWS])
        label = self.label(rows.labels[:ROWS]) if self.classes else None
        t = np.linspace(0, self.config.diffusion_steps - 1, len(x0)).round().astype(int)
        with self.averaged():
            errors, _ = self.model.losses(x0, t, generator, label, self.levels, self.config.censored)
            return {"loss": float(errors.mean().item())}

    def preview(self, folder: Path, step: int) -> None:
        draw_pictures(self, folder, step)


def build(config: DDPMConfig, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network that ``config`` describes, for samples of ``shape``."""
    outputs = shape[0] * (2 if config.learned_variance else 1)
    if config.network == "mlp":
        return ResidualMLP(shape, config.widths[0], config.blocks, outputs, classes, config.diffusion_steps)
    if len(shape) == 1:
        raise ValueError(f"network={config.network} is for images; points take network=mlp")
    if config.network == "survey":
        return SurveyUNet(shape[0], config.widths, config.blocks, outputs, classes=classes)
    return UNet(
        shape[0], config.widths, config.attention, config.blocks, outputs, groups=8, dropout=config.dropout,
        scale_shift=config.scale_shift, classes=classes,
    )  # fmt: skip

