"""Pictures of a diffusion model: its samples, the way there, the way to noise, what lies between two samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import scratchgen as sg
from scratchgen import Generator, viz
from scratchgen.models import samplers
from scratchgen.models.latents import spherical_path

if TYPE_CHECKING:
    from .ddpm import DDPMRecipe

NOISE = 0x91C7
STAGES = 11  # columns of a film strip
STEPS = 20  # of DDIM


def draw_pictures(recipe: DDPMRecipe, folder: Path, step: int) -> None:
    """Write them all. In training they are drawn in few steps, whatever the evaluation takes."""
    count = 100 if recipe.is_image else 2500
    labels = np.arange(count) % recipe.classes if recipe.classes else None
    drawn = recipe.draw(count, Generator(NOISE), labels, sampler="ddim", steps=STEPS)
    for path in (folder / "samples" / f"step-{step:06d}.png", folder / "samples.png"):
        recipe.judge.draw(path, drawn)
    if recipe.is_image:
        forward(recipe, folder / "forward.png")
        denoising(recipe, folder / "denoising.png")
        interpolation(recipe, folder / "interpolation.png")


def forward(recipe: DDPMRecipe, path: Path, rows: int = 6) -> None:
    """Training images on their way to noise: each stage is one jump from the image."""
    process = recipe.model.process
    x0 = recipe.to_model(recipe.dataset.trainval.x[:rows])
    generator = Generator(NOISE)
    times = np.linspace(0, process.steps - 1, STAGES - 1).round().astype(int)
    stages = [x0]
    for t in times:
        eps = sg.randn(x0.shape, generator=generator, device=recipe.device)
        stages.append(process.jump(x0, np.full(rows, t), eps))
    images = np.stack([recipe.to_data(x) for x in stages], 1)
    viz.film_strip(path, images, ["data", *(f"t = {t + 1}" for t in times)], title="the forward process")


def denoising(recipe: DDPMRecipe, path: Path, rows: int = 6, steps: int = STEPS) -> None:
    """Samples on their way from noise, by DDIM."""
    generator = Generator(NOISE)
    x = recipe.noise(rows, generator)
    label = recipe.label(np.arange(rows) % recipe.classes) if recipe.classes else None
    kept = np.linspace(0, steps, STAGES).round().astype(int)
    with recipe.averaged():
        states = [x, *recipe.states(x, recipe.denoiser(label), generator, "ddim", steps)]
    kept = np.minimum(kept, len(states) - 1)
    images = np.stack([recipe.to_data(states[i]) for i in kept], 1)
    viz.film_strip(path, images, [f"step {i}" for i in kept], title="denoising")


def interpolation(recipe: DDPMRecipe, path: Path, rows: int = 6, steps: int = 11) -> None:
    """Samples of the noise between two draws of it, on the great circle: DDIM without fresh noise is a map."""
    generator = Generator(NOISE).spawn(3)
    a, b = recipe.noise(rows, generator).flatten(1), recipe.noise(rows, generator).flatten(1)
    x = spherical_path(a, b, steps).transpose(0, 1).reshape(rows * steps, *recipe.shape)
    label = recipe.label((np.arange(rows) % recipe.classes).repeat(steps)) if recipe.classes else None
    with recipe.averaged():
        drawn = samplers.last(recipe.states(x, recipe.denoiser(label), generator, "ddim", STEPS))
    viz.interpolation_grid(path, recipe.to_data(drawn).reshape(rows, steps, *recipe.shape))
