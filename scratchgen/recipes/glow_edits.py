"""Editing images in the latents of a flow: how often an edit does what it should, and nothing else.

The direction from one value of an attribute to another is mean z (the other) - mean z (the one), over training images
(Glow, section 6). A test image's latent moves along it by ``STRENGTH`` times its length: at 1 it comes to lie near the
other mean, where many images still show some of what they were.

Digits all lie in the same place, as the paper's faces do; shapes lie anywhere. A convolutional flow has places in its
latents as images do, and a mean over places would move a little of every place. So images of shapes are rolled until
the shape is in the middle before they are edited, and back afterwards, and each kind and size of shape has directions
of its own, on each background (``SceneMeans``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

import scratchgen as sg
from scratchgen import Tensor, viz
from scratchgen.data.dataset import IntArray
from scratchgen.data.images import Images
from scratchgen.data.shapes import ATTRIBUTES, COUNTS, CaptionedImages, recognise, shifts
from scratchgen.metrics.classifier import FeatureClassifier

ROWS = 10  # test images of each value that are moved to each other one
STRENGTH = 1.5  # chosen for digits, on validation rows, from 1, 1.25 ... 2.5
TRAINING_IMAGES = 10_000  # that a direction of digits is taken from
SCENES = 10_000  # likewise of shapes, about 31 for each kind, size, colour and background
PRIOR = 3  # as many images as draw a scene's mean to the sum of its parts; chosen on validation rows
EDITS = 560  # of each attribute of shapes
EDITED = ("colour", "size")  # attributes of shapes

NAMES = list(ATTRIBUTES)
OUTLINE = [NAMES.index(name) for name in ("shape", "size")]
FILL = [NAMES.index(name) for name in ("colour", "background")]
SCENE = OUTLINE + FILL  # all but the position


class Editor(Protocol):
    """What is needed of a recipe."""

    def encode(self, images: np.ndarray, labels: np.ndarray) -> Tensor: ...
    def decode(self, z: Tensor, labels: np.ndarray | None = None) -> np.ndarray: ...


# --- classes of digits


def means_of(recipe: Editor, rows: Images, values: IntArray) -> Tensor:
    """Mean latents (values, D) of the images that have each value 0, 1, ... of an attribute."""
    part = slice(0, TRAINING_IMAGES)
    z = recipe.encode(rows.x[part], rows.labels[part])
    return sg.stack([z[np.flatnonzero(values[part] == value)].mean(0) for value in range(int(values.max()) + 1)])


def moves(values: IntArray, count: int, each: int = ROWS) -> tuple[IntArray, IntArray]:
    """For all ordered pairs of values: ``each`` rows that have the first, and the second."""
    chosen = [np.flatnonzero(values == own)[:each] for own in range(count)]
    pairs = [(own, other) for own in range(count) for other in range(count) if other != own]
    rows = np.concatenate([chosen[own] for own, _ in pairs])
    return rows, np.concatenate([np.full(len(chosen[own]), other) for own, other in pairs])


def moved(recipe: Editor, means: Tensor, rows: Images, values: IntArray) -> tuple[IntArray, IntArray, np.ndarray]:
    """Rows that were moved, the value they were moved to, and the images there."""
    every, end = moves(values, len(means))
    z = recipe.encode(rows.x[every], rows.labels[every]) + STRENGTH * (means[end] - means[values[every]])
    return every, end, recipe.decode(z, rows.labels[every])


def class_flip(recipe: Editor, train: Images, test: Images, classifier: FeatureClassifier) -> float:
    """The share of images that the classifier sees as the class they were moved to."""
    _, wanted, images = moved(recipe, means_of(recipe, train, train.labels), test, test.labels)
    return float((classifier.predict(images) == wanted).mean())


def draw_flips(recipe: Editor, path: Path, train: Images, test: Images, classes: tuple[str, ...]) -> None:
    """A test image of each class, and what it becomes on its way to each class."""
    means = means_of(recipe, train, train.labels)
    own = np.array([np.flatnonzero(test.labels == i)[0] for i in range(len(classes))])
    z = recipe.encode(test.x[own], test.labels[own])
    ways = [STRENGTH * (mean - means) for mean in means]
    columns = [test.x[own]] + [recipe.decode(z + way, test.labels[own]) for way in ways]
    viz.film_strip(path, np.stack(columns, 1), ["", *classes], title="moved to each class")


# --- attributes of shapes


class SceneMeans:
    """Mean latents of scenes in the middle, by kind and size of shape, colour and background.

    A picture is a sum of what its colour and what its background bring, and its latents nearly are: a least-squares fit
    of that, for each kind and size, says where scenes lie that training never showed. From there each mean goes most of
    the way to that of the scene's own images: what is left, summed, over their number and ``PRIOR``.
    """

    def __init__(self, recipe: Editor, rows: CaptionedImages) -> None:
        part = slice(0, SCENES)
        x, self.attributes = rows.x[part], rows.attributes[part]
        self.latents = recipe.encode(rolled(x, -shifts(x)), rows.labels[part]).numpy(force=True)
        outlines, fill, dims = _number(self.attributes, OUTLINE), _one_hot(self.attributes), self.latents.shape[1]
        self.effects = np.zeros((outlines.max() + 1, fill.shape[1], dims), np.float32)
        left = np.empty_like(self.latents)
        for outline in np.unique(outlines):
            own = outlines == outline
            self.effects[outline] = np.linalg.lstsq(fill[own], self.latents[own], rcond=None)[0]
            left[own] = self.latents[own] - fill[own] @ self.effects[outline]
        scenes = _number(self.attributes, SCENE)
        self.own = np.zeros((np.prod([COUNTS[i] for i in SCENE]), dims), np.float32)
        np.add.at(self.own, scenes, left)
        self.own /= np.bincount(scenes, minlength=len(self.own))[:, None] + PRIOR

    def __call__(self, attributes: IntArray) -> np.ndarray:
        """(n, D), of scenes (n, 5)."""
        parts = np.einsum("nk,nkd->nd", _one_hot(attributes), self.effects[_number(attributes, OUTLINE)])
        return parts + self.own[_number(attributes, SCENE)]

    def of_values(self, column: int) -> np.ndarray:
        """(values, D), of all scenes that have each value of an attribute."""
        own = self.attributes[:, column]
        return np.stack([self.latents[own == value].mean(0) for value in range(COUNTS[column])])


def rolled(images: np.ndarray, by: IntArray) -> np.ndarray:
    """Images (n, C, H, W), each moved down and right by ``by`` (n, 2) pixels, round the edges."""
    return np.stack([np.roll(x, way, (1, 2)) for x, way in zip(images, by)])


def _number(attributes: IntArray, columns: list[int]) -> IntArray:
    """One number for the values of some attributes together, for each scene."""
    return np.ravel_multi_index([attributes[:, i] for i in columns], [COUNTS[i] for i in columns])


def _one_hot(attributes: IntArray) -> np.ndarray:
    """Colour and background, (n, 12)."""
    return np.concatenate([np.eye(COUNTS[i], dtype=np.float32)[attributes[:, i]] for i in FILL], 1)


def _edited(recipe: Editor, x: np.ndarray, labels: IntArray, way: np.ndarray) -> np.ndarray:
    """Images (n, C, H, W), each moved by its own ``way`` (n, D) in the latents, as it looks in the middle."""
    by = shifts(x)
    z = recipe.encode(rolled(x, -by), labels)
    return rolled(recipe.decode(z + sg.as_tensor(way, dtype=z.dtype, device=z.device), labels), by)


def attribute_edits(recipe: Editor, train: CaptionedImages, test: CaptionedImages) -> dict[str, float]:
    """Of shapes, by what inverting the renderer finds: ``edit_<attribute>``, the share whose attribute became the
    wanted one, and ``edit_<attribute>_others``, the share of which any other attribute changed.

    ``global_<attribute>`` and its ``_others`` are the same for one direction from value to value, whatever the shape.
    """
    scenes, found = SceneMeans(recipe, train), dict[str, float]()
    for name in EDITED:
        column = NAMES.index(name)
        count = COUNTS[column]
        rows, end = moves(test.attributes[:, column], count, EDITS // (count * (count - 1)))
        before = test.attributes[rows]
        means = scenes.of_values(column)
        ways = {
            "edit": scenes(_with(before, column, end)) - scenes(before),
            "global": means[end] - means[before[:, column]],
        }
        for key, way in ways.items():
            after = recognise(_edited(recipe, test.x[rows], test.labels[rows], way)).attributes
            found[f"{key}_{name}"] = float((after[:, column] == end).mean())
            found[f"{key}_{name}_others"] = float(np.delete(after != before, column, 1).any(1).mean())
    return found


def _with(attributes: IntArray, column: int, values: IntArray | int) -> IntArray:
    changed = attributes.copy()
    changed[:, column] = values
    return changed


def draw_edits(recipe: Editor, path: Path, train: CaptionedImages, test: CaptionedImages, count: int = 8) -> None:
    """Test images, and what they become in each colour and each size."""
    scenes, own, x, labels = SceneMeans(recipe, train), test.attributes[:count], test.x[:count], test.labels[:count]
    strips, names = [x], [""]
    for attribute in EDITED:
        for value, name in enumerate(ATTRIBUTES[attribute]):
            way = scenes(_with(own, NAMES.index(attribute), value)) - scenes(own)
            strips.append(_edited(recipe, x, labels, way))
            names.append(name)
    viz.film_strip(path, np.stack(strips, 1), names, title="moved to each colour and size")
