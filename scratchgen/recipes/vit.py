"""Training the vision transformer to classify images. The model is in ``scratchgen.models.vit``.

Transformers have no notion of neighbourhood to begin with, and small sets of images teach little of it; label
smoothing, dropout, small shifts and mirrored images stand in for more data. Pixels are standardised by the mean and the
standard deviation of all training pixels. Training takes all training rows and a fixed number of
steps; the test rows have no part in it. ``hold_out=true`` leaves the validation rows out, for a curve on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, nn, viz
from scratchgen.data import Batches, in_order
from scratchgen.data.dataset import IntArray
from scratchgen.data.images import ImageDataset, Images
from scratchgen.models.gpt import decay_groups
from scratchgen.models.vit import ViT
from scratchgen.nn import functional as F

from .base import Config, Recipe, Reference, setting
from .judges import evaluating


@dataclass(frozen=True)
class ViTConfig(Config):
    """Settings of the vision transformer."""

    patch: int = setting(4, "side of a patch, in pixels", least=1)
    layers: int = setting(4, "blocks", least=1)
    heads: int = setting(4, "heads of attention in each", least=1)
    width: int = setting(64, "numbers that stand for a patch", least=1)
    hidden: int = setting(128, "width between the two dense layers of a block", least=1)
    dropout: float = setting(0.1, "dropout on embeddings, attention and residuals", least=0, most=1)
    pool: Literal["class", "mean"] = setting("class", "what is classified: a class token, or the mean of all patches")
    label_smoothing: float = setting(0.1, "part of a label that is spread over all classes", least=0, most=1)
    shift: int = setting(0, "pixels by which training images are moved at most, in both directions", least=0)
    mirror: bool = setting(False, "swap left and right in half of the training images, drawn at random")
    warmup_steps: int = setting(100, "steps in which the learning rate grows from 0", least=0)
    weight_decay: float = setting(0.05, "AdamW's decay of matrices", least=0)
    clip_gradients: float = setting(1.0, "largest norm of the gradient; 0: any", least=0)
    hold_out: bool = setting(False, "leave the validation rows out of training, for a curve on them")


ROWS = 1000  # images classified at a time
NEIGHBOUR_ROWS = 10_000  # training images that the baselines see; more would take minutes
SHOWN = 8  # images in the picture of attention

# Patches of 7 x 7 make 16 tokens of an image of 28 x 28: a third of the time that patches of 4 x 4 take.
CHEAP = ViTConfig(steps=4700, patch=7, width=128, hidden=256, dropout=0.0, shift=1, warmup_steps=500)
FULL = ViTConfig(steps=47_000, layers=6, heads=8, width=256, hidden=512, shift=1, warmup_steps=1000)


class ViTRecipe(Recipe):
    """Vision transformer."""

    name: ClassVar[str] = "vit"
    paper: ClassVar[str] = "Dosovitskiy et al. 2021, An Image is Worth 16x16 Words"
    default_data: ClassVar[str] = "digits"
    data_names: ClassVar[tuple[str, ...]] = ("digits", "mnist-5k", "mnist", "fashion-mnist")
    presets: ClassVar[Mapping[str, Mapping[str, ViTConfig]]] = {
        "tiny": {
            "digits": ViTConfig(steps=2200, batch_size=64, patch=2),  # 100 epochs
            "fashion-mnist": replace(CHEAP, steps=9400, mirror=True),  # 20 epochs of 60,000 images
            "*": CHEAP,
        },
        "full": {"*": FULL, "fashion-mnist": replace(FULL, mirror=True)},
    }
    expected: ClassVar[str] = (
        "tiny on digits: test accuracy 0.989 (3 nearest neighbours: 0.986); on fashion-mnist: 0.906 (0.815)"
    )

    config: ViTConfig
    dataset: ImageDataset[Images]

    def __init__(self, config: ViTConfig, dataset: ImageDataset[Images], device: sg.Device, seed: int) -> None:
        super().__init__(config, dataset, device, seed)
        rows = dataset.train if config.hold_out else dataset.trainval
        self.mean, self.spread = rows.x.mean(), rows.x.std()
        self.batches = Batches((rows.x, rows.labels), config.batch_size, seed=seed, drop_last=True)
        self.model = build(config, dataset.shape, len(dataset.classes)).to(device)
        groups = decay_groups(self.model, config.weight_decay)
        self.optimizer = sg.optim.AdamW(groups, config.learning_rate)
        self.schedule = sg.optim.lr_scheduler.WarmupCosineLR(
            self.optimizer, min(config.warmup_steps, config.steps - 1), config.steps
        )

    def state(self) -> dict[str, Any]:
        names = ("model", "optimizer", "schedule", "batches", "generator")
        return {name: getattr(self, name) for name in names}

    # --- training

    def step(self) -> dict[str, float]:
        images, labels = next(self.batches)
        if self.config.shift:
            images = shifted(images, self.config.shift, self.generator)
        if self.config.mirror:
            images = mirrored(images, self.generator)
        logits = self.model(self._standardised(images))
        targets = sg.as_tensor(labels, device=self.device)
        loss = F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        if self.config.clip_gradients:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_gradients)
        self.optimizer.step()
        self.schedule.step()
        return {"loss": loss.item(), "accuracy": float((logits.numpy(force=True).argmax(1) == labels).mean())}

    def _standardised(self, images: np.ndarray) -> Tensor:
        """Images in [0, 1] as the network takes them."""
        return sg.as_tensor((images - self.mean) / self.spread, device=self.device)

    # --- evaluation

    def logits(self, images: np.ndarray) -> np.ndarray:
        """(N, classes) of images in [0, 1]."""
        with evaluating(self.model):
            rows = [self.model(self._standardised(x)).numpy(force=True) for x in in_order(images, ROWS)]
        return np.concatenate(rows).astype(np.float64)

    def validate(self) -> dict[str, float]:
        return self._scores(self.dataset.validation) if self.config.hold_out else {}

    def evaluate(self) -> dict[str, float]:
        """The share of test images that are classified rightly, and the cross-entropy of their labels in nats."""
        found = self._scores(self.dataset.test)
        accuracy = found["accuracy"]
        found["accuracy_se"] = float(np.sqrt(accuracy * (1 - accuracy) / len(self.dataset.test)))
        return found

    def _scores(self, rows: Images) -> dict[str, float]:
        logits = self.logits(rows.x)
        top = logits.max(1, keepdims=True)
        log_p = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
        right = logits.argmax(1) == rows.labels
        return {"accuracy": float(right.mean()), "nll": float(-log_p[np.arange(len(right)), rows.labels].mean())}

    def baselines(self) -> dict[str, dict[str, float]]:
        """On pixels, without a network: three nearest neighbours, and a linear classifier."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier

        train, test = self.dataset.trainval, self.dataset.test
        x, labels = train.x.reshape(len(train), -1)[:NEIGHBOUR_ROWS], train.labels[:NEIGHBOUR_ROWS]
        some = f" (of {len(x):,} images)" if len(x) < len(train) else ""
        fitted = {
            f"3 nearest neighbours{some}": KNeighborsClassifier(3).fit(x, labels),
            f"logistic regression{some}": LogisticRegression(C=0.1, max_iter=1000).fit(x, labels),
        }
        pixels = test.x.reshape(len(test), -1)
        return {name: {"accuracy": float(model.score(pixels, test.labels))} for name, model in fitted.items()}

    def references(self) -> list[Reference]:
        return []

    # --- pictures

    def sample(self, count: int, generator: Generator) -> dict[str, Any]:
        """Test images drawn at random, and the classes that the model takes them for: it makes no images itself."""
        rows = np.asarray(generator.integers(0, len(self.dataset.test), (count,)))
        images = self.dataset.test.x[rows]
        return {"samples": images, "labels": self.logits(images).argmax(1)}

    def preview(self, folder: Path, step: int) -> None:
        """Validation images beside the attention rollout: where what the model says of them comes from."""
        rows = self.dataset.validation
        images, labels = rows.x[:SHOWN], rows.labels[:SHOWN]
        with evaluating(self.model):
            flow = self.model.rollout(self._standardised(images)).numpy(force=True)
        heat = flow / flow.max((1, 2), keepdims=True)
        heat = heat.repeat(self.config.patch, 1).repeat(self.config.patch, 2)[:, None]
        said = self.logits(images).argmax(1)
        names = [f"{self.dataset.classes[a]}: {self.dataset.classes[b]}" for a, b in zip(labels, said)]
        greys = images.mean(1, keepdims=True)
        for path in (folder / "rollout.png", folder / "samples" / f"step-{step:06d}.png"):
            viz.film_strip(
                path, np.stack([greys, heat, greys * heat], 1), ["image", "rollout", "both"], row_labels=names
            )


def build(config: ViTConfig, shape: tuple[int, int, int], classes: int) -> ViT:
    """The network that ``config`` describes."""
    return ViT(
        shape, config.patch, classes, config.layers, config.heads, config.width, config.hidden,
        dropout=config.dropout, pool=config.pool,
    )  # fmt: skip


def shifted(images: np.ndarray, most: int, generator: Generator) -> np.ndarray:
    """Images (N, C, H, W), each moved by up to ``most`` pixels in both directions; zeros come in at the edges."""
    n, _, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)))
    down, right = np.asarray(generator.integers(0, 2 * most + 1, (2, n)))
    moved: IntArray = down[:, None] + np.arange(height)
    return padded[
        np.arange(n)[:, None, None, None],
        np.arange(images.shape[1])[None, :, None, None],
        moved[:, None, :, None],
        (right[:, None] + np.arange(width))[:, None, None, :],
    ]


def mirrored(images: np.ndarray, generator: Generator) -> np.ndarray:
    """Images (N, C, H, W), each as it is or with left and right swapped, as a coin says."""
    swap = np.asarray(generator.uniform((len(images),))) < 0.5
    return np.where(swap[:, None, None, None], images[..., ::-1], images)
