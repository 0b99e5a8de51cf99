"""Training the autoencoder: data, presets, evaluation. The model is in ``scratchgen.models.autoencoder``.

An autoencoder is judged by what it loses (the mean squared error of test images, beside PCA with as many components),
by what its code keeps (the label of the nearest neighbours in it) and, though it was not made for that, by samples: a
mixture of Gaussians fitted to the codes of training images is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Generator, metrics, nn, viz
from scratchgen.data import Batches, in_order
from scratchgen.data.images import ImageDataset, Images
from scratchgen.models.autoencoder import Autoencoder, contraction, convolutional, corrupt, dense
from scratchgen.models.latents import linear_path

from .base import Config, Recipe, Reference, setting
from .judges import ImageJudge, evaluating


@dataclass(frozen=True)
class AutoencoderConfig(Config):
    """Settings of the autoencoder."""

    network: Literal["dense", "conv"] = setting("dense", "kind of layers")
    hidden: tuple[int, ...] = setting((400, 400), "widths of the dense layers (conv: the one beside the code)")
    channels: tuple[int, ...] = setting((32, 64), "conv: widths of the convolutions, each of stride 2")
    upsampling: Literal["transposed", "upsample"] = setting("transposed", "conv: how the decoder doubles an image")
    latent: int = setting(16, "units of the code")
    activation: Literal["relu", "silu"] = setting("silu", "activation of the hidden layers")
    loss: Literal["mse", "bce"] = setting("mse", "distance of image and reconstruction")
    noise: float = setting(0.0, "denoising: standard deviation of the noise on the input")
    masked: float = setting(0.0, "denoising: share of input pixels set to 0")
    sparsity: float = setting(0.0, "weight of the mean |code|")
    contraction: float = setting(0.0, "weight of the squared norm of the code's Jacobian")
    weight_decay: float = setting(0.0, "AdamW's decoupled weight decay")
    hold_out: bool = setting(False, "leave the validation rows out of training, for a curve on them")

    def __post_init__(self) -> None:
        if self.network == "conv" and len(self.hidden) != 1:
            raise ValueError(f"network=conv has one dense layer on either side of the code, got hidden={self.hidden}")


ROWS = 2000  # images encoded or decoded at a time
COMPONENTS = 100  # of the mixture that is fitted to the codes; fewer where there are few images
NEIGHBOURS = 5
NOISE = 0x91C7  # seed of the sample grid, the same at every step


class AutoencoderRecipe(Recipe):
    """Autoencoder."""

    name: ClassVar[str] = "autoencoder"
    paper: ClassVar[str] = "Hinton and Salakhutdinov 2006, Reducing the Dimensionality of Data with Neural Networks"
    default_data: ClassVar[str] = "digits"
    data_names: ClassVar[tuple[str, ...]] = ("digits", "mnist-5k", "mnist", "fashion-mnist")
    presets: ClassVar[Mapping[str, Mapping[str, AutoencoderConfig]]] = {
        "tiny": {
            "digits": AutoencoderConfig(steps=4400, batch_size=64, hidden=(256, 256), noise=0.05),
            "mnist-5k": AutoencoderConfig(steps=3100),
            "*": AutoencoderConfig(steps=4680),  # 10 epochs of 60,000 images
        },
        "full": {
            "digits": AutoencoderConfig(steps=8800, batch_size=64, hidden=(256, 256)),
            "*": AutoencoderConfig(steps=9360, network="conv", hidden=(256,), channels=(32, 64)),
        },
    }
    expected: ClassVar[str] = "tiny on digits, 16 units: test MSE 0.0063 (PCA: 0.0116), half a minute"

    config: AutoencoderConfig
    dataset: ImageDataset[Images]

    def __init__(
        self, config: AutoencoderConfig, dataset: ImageDataset[Images], device: sg.Device, seed: int
    ) -> None:
        super().__init__(config, dataset, device, seed)
        rows = dataset.train if config.hold_out else dataset.trainval
        self.batches = Batches(rows.x, config.batch_size, seed=seed, drop_last=True)
        self.model = build(config, dataset.shape).to(device)
        self.optimizer = sg.optim.AdamW(self.model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.schedule = sg.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=config.steps)

    def state(self) -> dict[str, Any]:
        names = ("model", "optimizer", "schedule", "batches", "generator")
        return {name: getattr(self, name) for name in names}

    # --- training

    def step(self) -> dict[str, float]:
        config, model = self.config, self.model
        x = sg.as_tensor(next(self.batches), device=self.device)
        seen = corrupt(x, config.noise, config.masked, self.generator)
        if config.contraction:
            seen = seen.detach().requires_grad_()
        z = model.encode(seen)
        loss = model.loss(z, x, config.loss)
        report: dict[str, float] = {config.loss: loss.item()}
        if config.sparsity:
            size = z.abs().mean()
            loss, report["mean |code|"] = loss + config.sparsity * size, size.item()
        if config.contraction:
            norm = contraction(z, seen, self.generator)
            loss, report["contraction"] = loss + config.contraction * norm, norm.item()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return report

    def validate(self) -> dict[str, float]:
        if not self.config.hold_out:
            return {}
        return {"mse": float(self._errors(self.dataset.validation.x).mean())}

    # --- evaluation

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Codes (N, latent) of images (N, C, H, W)."""
        return np.concatenate(list(self._by_rows(self.model.encode, x)))

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W), clipped to [0, 1], of codes (N, latent)."""
        return np.concatenate(list(self._by_rows(self.model.decode, z))).clip(0, 1)

    def _errors(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate(list(self._by_rows(self.model.errors, x)))

    def _by_rows(self, function: Any, x: np.ndarray) -> Iterator[np.ndarray]:
        with evaluating(self.model):
            for rows in in_order(x, ROWS):
                yield function(sg.as_tensor(rows, device=self.device)).numpy(force=True)

    def evaluate(self) -> dict[str, float]:
        """``mse`` of test images; ``label_accuracy`` by the nearest codes; ``auroc_noise``; the sample metrics.

        ``auroc_noise`` says how well the reconstruction error tells test images with shuffled pixels from others.
        """
        test, train = self.dataset.test, self.dataset.trainval
        errors = self._errors(test.x)
        lost = metrics.mean_se(errors)
        found: dict[str, float] = {"mse": lost.value, "mse_se": lost.se}
        found["label_accuracy"] = _nearest_labels(
            self.encode(train.x), train.labels, self.encode(test.x), test.labels
        )
        found["auroc_noise"], found["auroc_noise_se"] = metrics.auroc(self._errors(_shuffled(test.x)), errors)
        return found | self.judge.evaluate(self._generate(self.judge.samples, Generator(NOISE)))

    @cached_property
    def judge(self) -> ImageJudge:
        return ImageJudge(self.dataset)

    def baselines(self) -> dict[str, dict[str, float]]:
        """PCA with as many components, and samples of a mixture of Gaussians on pixels."""
        train, test = self.dataset.trainval.x, self.dataset.test.x
        (loss,) = metrics.pca_reconstruction_mse(train, test, [self.config.latent]).values()
        nothing = float(((test - train.mean(0)) ** 2).mean())
        return {"PCA": {"mse": loss}, "mean image": {"mse": nothing}} | self.judge.baselines()

    def references(self) -> list[Reference]:
        return []

    # --- samples and pictures

    @cached_property
    def codes(self) -> np.ndarray:
        """The codes of the training images, of the weights at hand when first asked for."""
        return self.encode(self.dataset.trainval.x[: 100 * COMPONENTS])

    def sample(self, count: int, generator: Generator, *_: Any, **options: Any) -> dict[str, Any]:
        """New images: codes drawn from a mixture of Gaussians fitted to those of training images, decoded."""
        return {"samples": self._generate(count, generator)}

    def _generate(self, count: int, generator: Generator) -> np.ndarray:
        from sklearn.mixture import GaussianMixture

        codes = self.codes
        mixture = GaussianMixture(min(COMPONENTS, len(codes) // 20), random_state=0, reg_covar=1e-4 * codes.var())
        mixture.fit(codes)
        seed = int(generator.integers(0, 2**31, (1,), self.device)[0])
        rng = np.random.default_rng(seed)
        component = rng.choice(mixture.n_components, count, p=mixture.weights_)
        roots = np.linalg.cholesky(mixture.covariances_)
        z = mixture.means_[component] + np.einsum(
            "nij,nj->ni", roots[component], rng.standard_normal((count, codes.shape[1]))
        )
        return self.decode(z.astype(np.float32))

    def preview(self, folder: Path, step: int) -> None:
        self.__dict__.pop("codes", None)  # the weights have changed
        drawn = self._generate(100, Generator(NOISE))
        for path in (folder / "samples" / f"step-{step:06d}.png", folder / "samples.png"):
            self.judge.draw(path, drawn)
        test = self.dataset.test
        shown = test.x[:48]
        viz.reconstructions(folder / "reconstructions.png", shown, self.decode(self.encode(shown)))
        self._draw_interpolations(folder / "interpolation.png")
        self._draw_traversal(folder / "traversal.png")
        if self.config.latent > 1:
            self._draw_codes(folder / "latents.png")

    def _draw_interpolations(self, path: Path, steps: int = 11) -> None:
        """From one test image to another of another class, on the straight line between their codes."""
        labels = self.dataset.test.labels
        first = np.array([np.flatnonzero(labels == k)[0] for k in range(len(self.dataset.classes))])
        start, end = (sg.tensor(self.encode(self.dataset.test.x[rows])) for rows in (first, np.roll(first, -1)))
        ways = linear_path(start, end, steps).transpose(0, 1).numpy(force=True)
        images = self.decode(ways.reshape(-1, self.config.latent))
        viz.interpolation_grid(path, images.reshape(len(first), steps, *self.dataset.shape))

    def _draw_traversal(self, path: Path, steps: int = 11) -> None:
        """One test image, and what becomes of it when one unit of its code runs through the range of training codes."""
        units = min(self.config.latent, 10)
        widest = np.argsort(-self.codes.var(0))[:units]
        z = np.repeat(self.encode(self.dataset.test.x[:1])[None], units, 0).repeat(steps, 1)
        shares = np.linspace(1, 99, steps)
        for row, unit in enumerate(widest):
            z[row, :, unit] = np.percentile(self.codes[:, unit], shares)
        images = self.decode(z.reshape(-1, self.config.latent)).reshape(units, steps, *self.dataset.shape)
        viz.film_strip(path, images, [f"{share:.0f} %" for share in shares], title="one unit of the code a row")

    def _draw_codes(self, path: Path) -> None:
        test = self.dataset.test
        codes, title = self.encode(test.x[:ROWS]), "codes of test images"
        if self.config.latent > 2:
            centred = codes - codes.mean(0)
            codes = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
            title += ": two principal components"
        viz.scatter(path, codes, test.labels[: len(codes)], self.dataset.classes, title=title)


def build(config: AutoencoderConfig, shape: tuple[int, int, int]) -> Autoencoder:
    """The network that ``config`` describes, for images of ``shape`` (C, H, W)."""
    activation = {"relu": nn.ReLU, "silu": nn.SiLU}[config.activation]
    if config.network == "dense":
        return dense(shape, config.hidden, config.latent, activation)
    return convolutional(shape, config.channels, config.hidden[0], config.latent, activation, config.upsampling)


def _nearest_labels(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """Share of test rows whose label most of the nearest training rows have."""
    from sklearn.neighbors import KNeighborsClassifier

    return float(KNeighborsClassifier(NEIGHBOURS).fit(train, labels).score(test, truth))


def _shuffled(x: np.ndarray) -> np.ndarray:
    """The images with their pixels in another order, one for all: the same grey levels, but no shape."""
    order = np.random.default_rng(0).permutation(x[0].size)
    return x.reshape(len(x), -1)[:, order].reshape(x.shape)


