"""Pictures of an RBM: samples, a chain on its way, what hidden units look for, images completed from their upper half.

Test images are only looked at here; nothing of this reaches training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, viz

if TYPE_CHECKING:
    from .rbm import RBMRecipe

NOISE = 0x91C7  # seed of the pictures, the same at every step
STAGES = (1, 3, 10, 30, 100, 300, 1000)  # Gibbs steps at which a chain is shown
FILTERS = 100  # hidden units shown
COMPLETION_STEPS = 200


def draw_pictures(recipe: RBMRecipe, folder: Path, step: int) -> None:
    """Write them all. Call it in evaluation mode, without a graph."""
    drawn = recipe.sample(100, Generator(NOISE))["samples"]
    for path in (folder / "samples" / f"step-{step:06d}.png", folder / "samples.png"):
        viz.image_grid(path, drawn, columns=10)
    chains(recipe, folder / "chains.png")
    filters(recipe, folder / "filters.png")
    completions(recipe, folder / "inpainting.png")


def chains(recipe: RBMRecipe, path: Path, rows: int = 6) -> None:
    """Chains from independent pixels, at growing numbers of steps."""
    generator = Generator(NOISE)
    v, done, frames = recipe.model.independent(rows, recipe.base, generator), 0, []
    for stage in STAGES:
        moved = recipe.model.gibbs(v, stage - done, generator)
        v, done = moved.visible, stage
        frames.append(recipe.to_images(moved.mean))
    viz.film_strip(path, np.stack(frames, 1), [str(stage) for stage in STAGES], title="Gibbs steps")


def filters(recipe: RBMRecipe, path: Path) -> None:
    """The weights of hidden units, those with the largest first: black and white are weights of either sign."""
    weight = recipe.model.weight.numpy(force=True)
    order = np.argsort(-np.linalg.norm(weight, axis=1), kind="stable")[:FILTERS]
    chosen = weight[order] / (np.abs(weight[order]).max(1, keepdims=True) + 1e-12)
    # One colour channel after the other, so that filters of colour images are seen too.
    images = (0.5 + 0.5 * chosen).reshape(-1, 1, *recipe.dataset.shape[1:])
    viz.image_grid(path, images, columns=10)


def completions(recipe: RBMRecipe, path: Path, count: int = 24) -> None:
    """Test images whose lower half is hidden, and below each what the machine puts there."""
    seen = recipe.test_rows[:count]
    known = np.zeros(recipe.dataset.shape, bool)
    known[:, : recipe.dataset.shape[1] // 2] = True
    mask = sg.as_tensor(np.broadcast_to(known.reshape(-1), seen.shape).copy(), device=recipe.device)
    completed = complete(recipe, seen, mask, Generator(NOISE))
    shown = np.where(known, recipe.to_images(seen), 0.5)
    viz.reconstructions(path, shown, recipe.to_images(completed), labels=("seen", "completed"))


def complete(recipe: RBMRecipe, v: Tensor, known: Tensor, generator: Generator) -> Tensor:
    """Means of the units that are not ``known`` given those that are: a chain with the known ones clamped."""
    start = sg.where(known, v, recipe.model.independent(len(v), recipe.base, generator))
    return recipe.model.gibbs(start, COMPLETION_STEPS, generator, clamped=known).mean
