"""Editing images in the latents of a flow: how often an edit does what it should, and nothing else.

The direction from one value of an attribute to another is mean z (the other) - mean z (the one), over training images
(Glow, section 6). A test image's latent moves by all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

import scratchgen as sg
from scratchgen import Tensor, viz
from scratchgen.data.dataset import IntArray
from scratchgen.data.images import Images
from scratchgen.data.shapes import ATTRIBUTES, CaptionedImages, recognise
from scratchgen.metrics.classifier import FeatureClassifier

ROWS = 10  # test images of each value that are moved to each other one
TRAINING_IMAGES = 10_000
EDITED = ("colour", "size")  # attributes of shapes


class Editor(Protocol):
    """What is needed of a recipe."""

    def encode(self, images: np.ndarray, labels: np.ndarray) -> Tensor: ...
    def decode(self, z: Tensor, labels: np.ndarray | None = None) -> np.ndarray: ...


def means_of(recipe: Editor, rows: Images, values: IntArray) -> Tensor:
    """Mean latents (values, D) of the images that have each value 0, 1, ... of an attribute."""
    part = slice(0, TRAINING_IMAGES)
    z, own = recipe.encode(rows.x[part], rows.labels[part]), values[part]
    return sg.stack([z[np.flatnonzero(own == value)].mean(0) for value in range(int(values.max()) + 1)])


def moved(recipe: Editor, means: Tensor, rows: Images, values: IntArray) -> Iterator[tuple[IntArray, int, np.ndarray]]:
    """For all ordered pairs of values: rows that have the first, the second, and the images moved there."""
    for own in range(len(means)):
        chosen = np.flatnonzero(values == own)[:ROWS]
        z, labels = recipe.encode(rows.x[chosen], rows.labels[chosen]), rows.labels[chosen]
        for other in sorted(set(range(len(means))) - {own}):
            yield chosen, other, recipe.decode(z + (means[other] - means[own]), labels)


def class_flip(recipe: Editor, train: Images, test: Images, classifier: FeatureClassifier) -> float:
    """The share of images that the classifier sees as the class they were moved to."""
    means = means_of(recipe, train, train.labels)
    every = moved(recipe, means, test, test.labels)
    return float(np.concatenate([classifier.predict(images) == other for _, other, images in every]).mean())


def attribute_edits(recipe: Editor, train: CaptionedImages, test: CaptionedImages) -> dict[str, float]:
    """Of shapes: ``edit_<attribute>``, the share whose attribute became the wanted one, by inverting the renderer, and
    ``edit_<attribute>_others``, the share of which any other attribute changed."""
    found: dict[str, float] = {}
    for name in EDITED:
        column = list(ATTRIBUTES).index(name)
        means = means_of(recipe, train, train.attributes[:, column])
        hits, spoilt = [], []
        for chosen, other, images in moved(recipe, means, test, test.attributes[:, column]):
            before, after = test.attributes[chosen], recognise(images).attributes
            hits.append(after[:, column] == other)
            spoilt.append(np.delete(after != before, column, 1).any(1))
        found[f"edit_{name}"] = float(np.concatenate(hits).mean())
        found[f"edit_{name}_others"] = float(np.concatenate(spoilt).mean())
    return found


def draw_flips(recipe: Editor, path: Path, train: Images, test: Images, classes: tuple[str, ...]) -> None:
    """A test image of each class, and what it becomes on its way to each class."""
    means = means_of(recipe, train, train.labels)
    own = np.array([np.flatnonzero(test.labels == i)[0] for i in range(len(classes))])
    z = recipe.encode(test.x[own], test.labels[own])
    columns = [test.x[own]] + [recipe.decode(z - means + mean, test.labels[own]) for mean in means]
    viz.film_strip(path, np.stack(columns, 1), ["", *classes], title="moved to each class")
