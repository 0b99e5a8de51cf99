"""Editing images in the latents of a flow: how often an edit does what it should, and nothing else.

The direction from one value of an attribute to another is mean z (the other) - mean z (the one), over training images
(Glow, section 6). A test image's latent moves along it by ``STRENGTH`` times its length: at 1 it comes to lie near the
other mean, where many images still show some of what they were.
"""

from __future__ import annotations

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
STRENGTH = 1.5  # chosen for digits, on validation rows, from 1, 1.25 ... 2.5
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


def moved(recipe: Editor, means: Tensor, rows: Images, values: IntArray) -> tuple[IntArray, IntArray, np.ndarray]:
    """For all ordered pairs of values: rows that have the first, the second, and the images moved there."""
    count = len(means)
    chosen = [np.flatnonzero(values == own)[:ROWS] for own in range(count)]
    pairs = [(own, other) for own in range(count) for other in range(count) if other != own]
    every = np.concatenate([chosen[own] for own, _ in pairs])
    start, end = (np.repeat(side, [len(chosen[own]) for own, _ in pairs]) for side in np.array(pairs).T)
    z = recipe.encode(rows.x[every], rows.labels[every]) + STRENGTH * (means[end] - means[start])
    return every, end, recipe.decode(z, rows.labels[every])


def class_flip(recipe: Editor, train: Images, test: Images, classifier: FeatureClassifier) -> float:
    """The share of images that the classifier sees as the class they were moved to."""
    _, wanted, images = moved(recipe, means_of(recipe, train, train.labels), test, test.labels)
    return float((classifier.predict(images) == wanted).mean())


def attribute_edits(recipe: Editor, train: CaptionedImages, test: CaptionedImages) -> dict[str, float]:
    """Of shapes: ``edit_<attribute>``, the share whose attribute became the wanted one, by inverting the renderer, and
    ``edit_<attribute>_others``, the share of which any other attribute changed."""
    found: dict[str, float] = {}
    for name in EDITED:
        column = list(ATTRIBUTES).index(name)
        means = means_of(recipe, train, train.attributes[:, column])
        rows, wanted, images = moved(recipe, means, test, test.attributes[:, column])
        after = recognise(images).attributes
        found[f"edit_{name}"] = float((after[:, column] == wanted).mean())
        found[f"edit_{name}_others"] = float(np.delete(after != test.attributes[rows], column, 1).any(1).mean())
    return found


def draw_flips(recipe: Editor, path: Path, train: Images, test: Images, classes: tuple[str, ...]) -> None:
    """A test image of each class, and what it becomes on its way to each class."""
    means = means_of(recipe, train, train.labels)
    own = np.array([np.flatnonzero(test.labels == i)[0] for i in range(len(classes))])
    z = recipe.encode(test.x[own], test.labels[own])
    ways = [STRENGTH * (mean - means) for mean in means]
    columns = [test.x[own]] + [recipe.decode(z + way, test.labels[own]) for way in ways]
    viz.film_strip(path, np.stack(columns, 1), ["", *classes], title="moved to each class")
