"""How generated samples are judged, by the kind of data: one piece for all recipes that make images or points.

A judge knows the real samples: the training rows a model has seen, and the test rows it has not. ``evaluate`` holds
generated samples against both, ``baselines`` does so for methods without a network, ``draw`` shows samples. Test rows
are looked at here only; nothing of this may reach training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import metrics, nn, viz
from ..autograd import no_grad
from ..data.dataset import Dataset, IntArray
from ..data.images import ImageDataset
from ..data.points import PointDataset

Samples = npt.NDArray[np.float32]
Metrics = dict[str, float]


class Judge(ABC):
    """``samples``: how many ``evaluate`` wants to be given; more are not looked at."""

    samples: int

    @abstractmethod
    def evaluate(self, samples: Samples, labels: IntArray | None = None) -> Metrics:
        """Sample metrics, with ``<key>_se`` where they are random. ``labels``: the classes that were asked for."""

    @abstractmethod
    def baselines(self) -> dict[str, Metrics]:
        """The same metrics for methods without a network, by their names."""

    @abstractmethod
    def draw(self, path: Path, samples: Samples) -> None:
        """A picture of samples."""


class ImageJudge(Judge):
    """Images (N, C, H, W) in [0, 1]: the metrics of ``metrics.evaluate_samples``, class balance, class accuracy.

    ``train``, ``test``: the real images as the model was shown them, if that is not as the dataset has them; ``rule``
    then names what was done to them, since the classifier that gives the features is trained on such images.
    ``levels``: how many grey levels real images have, to which generated ones are rounded; None: they are continuous.

    Of 360 test images (digits) a Frechet distance is mostly the luck of one draw of as many samples. Where the test
    images are few, ``samples`` is therefore as many times their number as 2000 has room for, and each figure is the
    mean over such draws: it estimates what one draw does, with less chance.
    """

    samples = 2000
    mixture = 100  # components of the Gaussian mixture that is the baseline
    mixture_rows = 10_000  # training images it is fitted to

    def __init__(
        self,
        dataset: ImageDataset[Any],
        *,
        train: Samples | None = None,
        test: Samples | None = None,
        rule: str = "grey",
        levels: int | None = -1,
    ) -> None:
        self.dataset = dataset
        self.train = dataset.trainval.x if train is None else train
        self.test = dataset.test.x if test is None else test
        self.rule = rule
        self.levels = dataset.levels if levels == -1 else levels
        self.drawn = min(ImageJudge.samples, len(self.test))  # at a time
        self.samples = ImageJudge.samples // self.drawn * self.drawn

    @cached_property
    def classifier(self) -> metrics.FeatureClassifier:
        """Trained on real images that went through the same rule, and kept in the user's cache."""
        return metrics.feature_classifier(
            f"{self.dataset.name}-{self.rule}", self.train, self.dataset.trainval.labels
        )

    def evaluate(self, samples: Samples, labels: IntArray | None = None) -> Metrics:
        """The means over whole draws. ``<key>_se`` stays that of one draw: the test images are the same in all."""
        draws = max(1, min(len(samples), self.samples) // self.drawn)
        parts = [slice(i * self.drawn, (i + 1) * self.drawn) for i in range(draws)]
        found = [self._evaluate(samples[part], labels if labels is None else labels[part]) for part in parts]
        return {key: float(np.mean([one[key] for one in found])) for key in found[0]} | {"draws": float(draws)}

    def _evaluate(self, samples: Samples, labels: IntArray | None) -> Metrics:
        """Of one draw."""
        classifier = self.classifier
        found = metrics.evaluate_samples(
            self.test, samples, self.train, features=classifier.features, levels=self.levels
        )
        classes, weights = len(self.dataset.classes), self._class_shares()
        if labels is None:
            return found | metrics.class_balance(classifier.predict(samples), classes, weights)
        # The class asked for, beside what the classifier makes of real images.
        found["class_accuracy"] = classifier.accuracy(samples, labels)
        found["class_accuracy_test"] = classifier.accuracy(self.test, self.dataset.test.labels)
        found["diversity"] = _spread(samples, labels) / _spread(self.test, self.dataset.test.labels)
        return found

    def _class_shares(self) -> npt.NDArray[np.float64]:
        labels = self.dataset.trainval.labels
        return np.bincount(labels, minlength=len(self.dataset.classes)) / len(labels)

    def baselines(self) -> dict[str, Metrics]:
        rows = self.train[: self.mixture_rows]
        levels = self.levels or 256
        pixels = np.rint(rows.reshape(len(rows), -1) * (levels - 1))
        fitted = metrics.DequantisedMixture.fit(pixels, self.mixture, levels, covariance="diag", copies=1)
        drawn = fitted.sample(self.samples, np.random.default_rng(0)) / (levels - 1)
        images = drawn.reshape(-1, *self.dataset.shape).astype(np.float32)
        return {f"mixture of {self.mixture} Gaussians": self.evaluate(images)}

    def draw(self, path: Path, samples: Samples) -> None:
        viz.image_grid(path, samples, columns=10)


def _spread(images: Samples, labels: IntArray) -> float:
    """Mean distance of two images of one class, averaged over the classes."""
    spreads = []
    for label in np.unique(labels):
        x = images[labels == label].reshape((labels == label).sum(), -1).astype(np.float64)
        if len(x) > 1:
            square = (x**2).sum(1)
            distances = np.sqrt(np.maximum(square[:, None] + square - 2 * x @ x.T, 0))
            spreads.append(distances.sum() / (len(x) * (len(x) - 1)))
    return float(np.mean(spreads))


class StackedJudge(ImageJudge):
    """Stacked digits: each channel is a digit, and the 1000 triples are the modes.

    The classifier reads single channels; a triple's features are those of its three digits. ``modes`` and
    ``reverse_kl`` (PacGAN) come from as many samples as are given, 26,000 in the paper.
    """

    samples = 26_000
    judged = 2000  # by the metrics that compare all pairs

    def __init__(self, dataset: ImageDataset[Any]) -> None:
        super().__init__(dataset)
        self.samples = StackedJudge.samples  # drawn, not real: as many as one likes

    @cached_property
    def classifier(self) -> metrics.FeatureClassifier:
        labels = self.dataset.trainval.labels
        digits = np.stack([labels // 100, labels // 10 % 10, labels % 10], 1).reshape(-1)
        singles = self.train.reshape(-1, 1, *self.train.shape[2:])
        # Stacks repeat the same few digits; each is wanted once.
        _, rows = np.unique(singles.reshape(len(singles), -1), axis=0, return_index=True)
        return metrics.feature_classifier(f"{self.dataset.name}-single", singles[rows], digits[rows])

    def _features(self, images: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        singles = images.reshape(-1, images.shape[-1] // 3)
        return self.classifier.features(singles).reshape(len(images), -1)

    def evaluate(self, samples: Samples, labels: IntArray | None = None) -> Metrics:
        found = metrics.evaluate_samples(
            self.test, samples[: self.judged], self.train[:10_000], features=self._features, levels=self.levels
        )
        return found | metrics.stacked_modes(samples, self.classifier.predict)

    def baselines(self) -> dict[str, Metrics]:
        rng = np.random.default_rng(0)
        real = self.train[rng.integers(len(self.train), size=self.samples)]
        return {"training images": metrics.stacked_modes(real, self.classifier.predict)}


class PointJudge(Judge):
    """Points (N, 2) of a known density: mode coverage where it is a mixture, 1-NN and classifier tests in any case."""

    samples = 2500  # as in the VEEGAN and PacGAN papers

    def __init__(self, dataset: PointDataset) -> None:
        self.dataset = dataset
        density = dataset.density
        low, high = density.bounds
        self.extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))

    def evaluate(self, samples: Samples, labels: IntArray | None = None) -> Metrics:
        density, points = self.dataset.density, samples[: self.samples]
        found: Metrics = {}
        if density.centres is not None:
            found |= metrics.mixture_modes(points, density.centres, density.sigma)
        real = self.dataset.test.x[: len(points)]
        scale = self.dataset.trainval.x.std()
        found["one_nn"] = metrics.one_nn(real, points).accuracy
        found["c2st"], found["c2st_se"] = metrics.c2st(real / scale, points / scale)
        return found

    def baselines(self) -> dict[str, Metrics]:
        rng, train = np.random.default_rng(0), self.dataset.trainval.x
        gaussian = rng.multivariate_normal(train.mean(0), np.cov(train.T), self.samples).astype(np.float32)
        drawn = self.dataset.density.sample(self.samples, rng)
        return {"one Gaussian": self.evaluate(gaussian), "the density itself": self.evaluate(drawn)}

    def draw(self, path: Path, samples: Samples) -> None:
        shown = {"data": self.dataset.trainval.x[: len(samples)], "model": samples}
        viz.samples_2d(path, shown, extent=self.extent, centres=self.dataset.density.centres)


def judge_of(dataset: Dataset[Any]) -> Judge:
    """The judge for a dataset as it is. Raises TypeError for kinds of data that have none."""
    if isinstance(dataset, PointDataset):
        return PointJudge(dataset)
    if isinstance(dataset, ImageDataset):
        return StackedJudge(dataset) if dataset.name == "stacked-digits" else ImageJudge(dataset)
    raise TypeError(f"samples of {dataset.name!r} ({dataset.kind}) have no judge; images and points do")


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """The models in evaluation mode, and no graph; afterwards each is in the mode it was in."""
    before: Sequence[bool] = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        with no_grad():
            yield
    finally:
        for model, training in zip(models, before, strict=True):
            model.train(training)
