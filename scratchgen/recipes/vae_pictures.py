"""Pictures of a VAE in training: what it draws, how it sees test images, what lies between them, where classes lie.

Test images are only looked at here; nothing of this reaches training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, viz
from scratchgen.models.latents import attribute_vector, linear_path, spherical_path
from scratchgen.models.vae import latent_grid

if TYPE_CHECKING:
    from .vae import VAERecipe

NOISE = 0x91C7  # seed of the sample grid, the same at every step so that one sees the digits form
TRAINING_IMAGES = 10_000  # from so many the attribute vector is computed


def draw_pictures(recipe: VAERecipe, folder: Path, step: int) -> None:
    """Write them all. Call it in evaluation mode, without a graph."""
    drawn = recipe.sample(100, Generator(NOISE))["samples"]
    for path in (folder / "samples" / f"step-{step:06d}.png", folder / "samples.png"):
        viz.image_grid(path, drawn, columns=10)
    reconstructions(recipe, folder / "reconstructions.png")
    interpolations(recipe, folder / "interpolation.png")
    attribute(recipe, folder / "attribute.png")
    if recipe.config.latent > 1:
        latents(recipe, folder / "latents.png")
    if recipe.config.latent == 2:
        latent_plane(recipe, folder / "latent-plane.png")


def reconstructions(recipe: VAERecipe, path: Path) -> None:
    """Test images, and below each the mean of p(x|z) at the mean of q(z|x)."""
    x, label = next(recipe.batches_of(recipe.test_images, recipe.dataset.test.labels, 48))
    again = recipe.model.decode(recipe.model.encode(x, label).mean, label).mean
    viz.reconstructions(path, _array(x), _array(again))


def interpolations(recipe: VAERecipe, path: Path, steps: int = 11) -> None:
    """From one test image to another, a pair of rows each: on the straight line and on the great circle."""
    model, labels, classes = recipe.model, recipe.dataset.test.labels, len(recipe.dataset.classes)
    first, second = np.array([np.flatnonzero(labels == k)[:2] for k in range(classes)]).T
    # Where the label is given z says nothing of the class, so the way stays within one.
    ends = (first, second) if recipe.config.conditional else (first[0::2], first[1::2])
    label = recipe.label(labels[first])
    z_a, z_b = (model.encode(sg.as_tensor(recipe.test_images[rows], device=recipe.device), label).mean for rows in ends)
    ways = [model.decode(way(z_a, z_b, steps), label).mean for way in (linear_path, spherical_path)]
    rows = sg.stack(ways, 1).transpose(0, 2).flatten(0, 1)  # (pairs x 2, steps, C, H, W)
    viz.interpolation_grid(path, _array(rows), row_labels=["line", "circle"] * len(z_a))


def attribute(recipe: VAERecipe, path: Path, steps: int = 11) -> None:
    """Test images (middle column) with less and more of one attribute: the amount of ink."""
    train, labels = recipe.train_images[:TRAINING_IMAGES], recipe.dataset.trainval.labels[:TRAINING_IMAGES]
    ink = train.mean((1, 2, 3))
    z = sg.cat([recipe.model.encode(x, label).mean for x, label in recipe.batches_of(train, labels)])
    direction = attribute_vector(z, sg.as_tensor(ink > np.median(ink), device=recipe.device))
    x, label = next(recipe.batches_of(recipe.test_images, recipe.dataset.test.labels, 10))
    amounts = np.linspace(-2, 2, steps, dtype=np.float32)
    shift = sg.as_tensor(amounts[:, None, None], device=recipe.device) * direction
    varied = recipe.model.decode(recipe.model.encode(x, label).mean + shift, label).mean
    viz.film_strip(path, _array(varied.transpose(0, 1)), [f"{amount:+.1f}" for amount in amounts], title="ink")


def latents(recipe: VAERecipe, path: Path) -> None:
    """Posterior means of test images, coloured by class; of more than two dimensions the two principal components."""
    x, label = next(recipe.batches_of(recipe.test_images, recipe.dataset.test.labels))
    means = _array(recipe.model.encode(x, label).mean)
    title = "means of q(z|x)"
    if recipe.config.latent > 2:
        centred = means - means.mean(0)
        means = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
        title += ": two principal components"
    viz.scatter(path, means, recipe.dataset.test.labels[: len(means)], recipe.dataset.classes, title=title)


def latent_plane(recipe: VAERecipe, path: Path, side: int = 20) -> None:
    """What a 2-D latent space holds where, out to the prior's last few percent (figure 4 of the paper)."""
    z = latent_grid(side)
    label = recipe.label(np.zeros(len(z), np.int64))
    images = recipe.model.decode(z.to(recipe.device), label).mean.reshape(side, side, *recipe.dataset.shape)
    across, down = _array(z[:side, 0]), _array(z[::side, 1])
    viz.latent_manifold(path, _array(images), across.tolist(), down.tolist())


def _array(x: Tensor) -> np.ndarray:
    return x.numpy(force=True)
