"""Pictures of an energy-based model: fresh chains, their way from noise, energies of what is and what is not data.

Test samples are only looked at here; nothing of this reaches training.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scratchgen import Generator, viz
from scratchgen.models.ebm import grid_density

if TYPE_CHECKING:
    from .ebm import EBMRecipe

NOISE = 0x91C7  # seed of the pictures, the same at every step
STAGES = 10  # of a chain that are shown
HISTOGRAM = 1000  # samples of each kind


def draw_pictures(recipe: EBMRecipe, folder: Path, step: int) -> None:
    """Write them all."""
    drawn = recipe.sample(100 if recipe.is_image else 1000, Generator(NOISE))["samples"]
    for path in (folder / "samples" / f"step-{step:06d}.png", folder / "samples.png"):
        recipe.judge.draw(path, drawn)
    energies(recipe, folder / "energies.png", drawn)
    if recipe.is_image:
        chains(recipe, folder / "chains.png")
    else:
        density(recipe, folder / "density.png")


def chains(recipe: EBMRecipe, path: Path, rows: int = 6) -> None:
    """Chains on their way from noise, at numbers of steps that grow by a constant factor."""
    last = recipe.config.sample_steps
    stages = sorted({round(last ** (i / (STAGES - 1))) for i in range(STAGES)})
    generator = Generator(NOISE)
    with recipe.averaged():
        states = recipe.sampler.states(recipe.model, recipe.fresh(rows, generator), generator)
        frames = [recipe.to_data(x) for k, x in enumerate(islice(states, last), 1) if k in stages]
    viz.film_strip(path, np.stack(frames, 1), [str(stage) for stage in stages], title="Langevin steps")


def energies(recipe: EBMRecipe, path: Path, drawn: np.ndarray) -> None:
    """Energies of test data, of fresh chains, of the buffer, and of images that are no digits."""
    shown = {"test data": recipe.dataset.test.x[:HISTOGRAM], "fresh chains": drawn}
    if recipe.buffer is not None:
        shown["buffer"] = recipe.to_data(recipe.buffer.states[:HISTOGRAM])
    if recipe.is_image:
        shown |= {name: x[:HISTOGRAM] for name, x in recipe.strangers().items()}
    viz.histogram(path, {name: recipe.energies(x) for name, x in shown.items()}, x="energy")


def density(recipe: EBMRecipe, path: Path) -> None:
    """The true density and the model's, normalised by quadrature."""
    low, high = [-recipe.reach] * 2, [recipe.reach] * 2
    with recipe.averaged():
        _, log_z = grid_density(recipe.model, low, high, 200, recipe.device)
    truth = recipe.dataset.density

    def model(points: np.ndarray) -> np.ndarray:
        return np.exp(-recipe.energies(points.astype(np.float32)).astype(np.float64) - log_z) / recipe.scale**2

    corners = truth.bounds
    extent = (float(corners[0][0]), float(corners[1][0]), float(corners[0][1]), float(corners[1][1]))
    viz.density_2d(path, {"truth": lambda points: np.exp(truth.log_density(points)), "model": model}, extent)
