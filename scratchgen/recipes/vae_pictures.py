"""Pictures of a VAE in training: what it draws, how it sees test images, what lies between them, where classes lie.

Test images are only looked at here; nothing of this reaches training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, viz
from scratchgen.models.vae import attribute_vector, latent_grid, linear_path, spherical_path

if TYPE_CHECKING:
    from .vae import VAERecipe

NOISE = 0x91C7  # seed of the sample grid, the same at every step so that one sees the digits form
TRAINING_IMAGES = 10_000  # from so many the attribute vector is computed


def draw_pictures(recipe: VAERecipe, folder: Path, step: int) -> None:
    """Write them all. Call it in evaluation mode, without a graph."""
    drawn = recipe.sample(100, Generator(NOISE))["samples"]
    viz.image_grid(folder / "samples" / f"step-{step:06d}.png", drawn, columns=10)
    reconstructions(recipe, folder / "reconstructions.png")
    interpolations(recipe, folder / "interpolation.png")
    attribute(recipe, folder / "attribute.png")
    latents(recipe, folder / "latents.png")
    if recipe.config.latent == 2:
        latent_plane(recipe, folder / "latent-grid.png")


def reconstructions(recipe: VAERecipe, path: Path, columns: int = 15) -> None:
    """Rows in pairs: test images, and below each the mean of p(x|z) at the mean of q(z|x)."""
    x, label = next(recipe.batches_of(recipe.test, recipe.dataset.test.labels, 4 * columns))
    again = recipe.model.decode(recipe.model.encode(x, label).mean, label).mean
    rows = sg.stack([images.reshape(-1, columns, *x.shape[1:]) for images in (x, again)], 1)
    _grid(path, rows, columns)


def interpolations(recipe: VAERecipe, path: Path, steps: int = 11) -> None:
    """Rows in pairs: the straight way and the great circle between two test images, which stand at the ends."""
    model, labels, classes = recipe.model, recipe.dataset.test.labels, len(recipe.dataset.classes)
    first, second = np.array([np.flatnonzero(labels == k)[:2] for k in range(classes)]).T
    # Where the label is given z says nothing of the class, so the way stays within one.
    ends = (first, second) if recipe.config.conditional else (first, np.roll(first, -1))
    label = recipe.label(labels[first])
    a, b = (sg.as_tensor(recipe.test[rows], device=recipe.device) for rows in ends)
    z_a, z_b = model.encode(a, label).mean, model.encode(b, label).mean
    ways = [model.decode(way(z_a, z_b, steps), label).mean for way in (linear_path, spherical_path)]
    rows = sg.stack([sg.cat([a[None], way, b[None]]) for way in ways])  # (2, steps + 2, classes, C, H, W)
    _grid(path, rows.permute(2, 0, 1, 3, 4, 5), steps + 2)


def attribute(recipe: VAERecipe, path: Path, steps: int = 11) -> None:
    """Test images (middle column) with less and more of one attribute: the amount of ink."""
    train, labels = recipe.train[:TRAINING_IMAGES], recipe.dataset.trainval.labels[:TRAINING_IMAGES]
    ink = train.mean((1, 2, 3))
    z = sg.cat([recipe.model.encode(x, label).mean for x, label in recipe.batches_of(train, labels)])
    direction = attribute_vector(z, sg.as_tensor(ink > np.median(ink), device=recipe.device))
    x, label = next(recipe.batches_of(recipe.test, recipe.dataset.test.labels, 10))
    amounts = sg.linspace(-2, 2, steps, device=recipe.device)[:, None, None]
    varied = recipe.model.decode(recipe.model.encode(x, label).mean + amounts * direction, label).mean
    _grid(path, varied.transpose(0, 1), steps)


def latents(recipe: VAERecipe, path: Path) -> None:
    """Posterior means of test images, coloured by class; of more than two dimensions the two principal components."""
    x, label = next(recipe.batches_of(recipe.test, recipe.dataset.test.labels))
    means = recipe.model.encode(x, label).mean.numpy(force=True)
    if recipe.config.latent > 2:
        centred = means - means.mean(0)
        means = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    viz.scatter(path, means, recipe.dataset.test.labels[: len(means)], recipe.dataset.classes)


def latent_plane(recipe: VAERecipe, path: Path, side: int = 20) -> None:
    """What a 2-D latent space holds where, out to the prior's last few percent (figure 4 of the paper)."""
    z = latent_grid(side).to(recipe.device)
    label = recipe.label(np.zeros(len(z), np.int64))
    _grid(path, recipe.model.decode(z, label).mean, side)


def _grid(path: Path, images: Tensor, columns: int) -> None:
    array = images.numpy(force=True)
    viz.image_grid(path, array.reshape(-1, *array.shape[-3:]), columns=columns)
