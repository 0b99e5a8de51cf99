"""Pictures of a flow: samples, temperatures, ways between test images, an attribute made stronger; of points, the
density."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import scratchgen as sg
from scratchgen import Generator, viz
from scratchgen.models.latents import attribute_vector, linear_path

if TYPE_CHECKING:
    from .flows import FlowRecipe

TEMPERATURES = (0.25, 0.5, 0.7, 0.85, 1.0)
STRENGTHS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
TRAINING_IMAGES = 2000  # that the direction of an attribute is taken from
SEED = 0x91C7


def draw_pictures(recipe: FlowRecipe, folder: Path, step: int) -> None:
    """All pictures of the present state, from the same noise each time. The recipe holds its averaged weights."""
    generator = Generator(SEED)
    count = 100 if recipe.is_image else 2500
    labels = np.arange(count) % max(1, recipe.classes)
    drawn = recipe.decode(recipe.density.noise(count, generator), labels)
    for path in (folder / "samples" / f"step-{step:06d}.png", folder / "samples.png"):
        recipe.judge.draw(path, drawn)
    if not recipe.is_image:
        density(recipe, folder / "density.png")
        return
    temperatures(recipe, folder / "temperature.png")
    interpolations(recipe, folder / "interpolation.png")
    attribute(recipe, folder / "attribute.png")


def density(recipe: FlowRecipe, path: Path) -> None:
    """The model's density beside that of the data."""
    truth = recipe.dataset.density
    (left, bottom), (right, top) = truth.bounds
    viz.density_2d(
        path,
        {
            "data": lambda points: np.exp(truth.log_density(points)),
            "model": lambda points: np.exp(recipe.log_density(points)),
        },
        (float(left), float(right), float(bottom), float(top)),
    )


def temperatures(recipe: FlowRecipe, path: Path, rows: int = 8) -> None:
    """The same latents, shrunk more and less."""
    z = recipe.density.noise(rows, Generator(SEED).spawn(1))
    labels = np.arange(rows) % max(1, recipe.classes)
    strips = np.stack([recipe.decode(t * z, labels) for t in TEMPERATURES], 1)
    viz.film_strip(path, strips, [f"T = {t:g}" for t in TEMPERATURES])


def interpolations(recipe: FlowRecipe, path: Path, rows: int = 8, steps: int = 11) -> None:
    """Between two real images of the test rows; a conditional flow is told the class of the first."""
    test = recipe.dataset.test
    first, second = slice(0, rows), slice(rows, 2 * rows)
    a = recipe.encode(test.x[first], test.labels[first])
    b = recipe.encode(test.x[second], test.labels[second])
    z = linear_path(a, b, steps).transpose(0, 1).flatten(0, 1)
    images = recipe.decode(z, np.repeat(test.labels[first], steps))
    viz.interpolation_grid(path, images.reshape(rows, steps, *recipe.shape))


def attribute(recipe: FlowRecipe, path: Path, rows: int = 8) -> None:
    """Test images moved along the direction from little ink to much: mean z (with) - mean z (without)."""
    train, test = recipe.dataset.trainval, recipe.dataset.test
    x, labels = train.x[:TRAINING_IMAGES], train.labels[:TRAINING_IMAGES]
    ink = x.mean((1, 2, 3))
    z = recipe.encode(x, labels)
    direction = attribute_vector(z, sg.as_tensor(ink > np.median(ink), device=recipe.device))
    start = recipe.encode(test.x[:rows], test.labels[:rows])
    strips = np.stack([recipe.decode(start + s * direction, test.labels[:rows]) for s in STRENGTHS], 1)
    viz.film_strip(path, strips, [f"{s:+g}" for s in STRENGTHS], title="ink")
