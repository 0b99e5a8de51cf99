"""Pictures of a diffusion model: its samples, the way there, the way to noise, what lies between two samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, viz
from scratchgen.models import samplers
from scratchgen.models.latents import spherical_path

if TYPE_CHECKING:
    from .ddpm import DDPMRecipe

NOISE = 0x91C7
STAGES = 11  # columns of a film strip
WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)  # of guidance
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
    if recipe.is_image and step == recipe.config.steps:  # what takes longer, once
        edits(recipe, folder / "edits.png")
        inpainting(recipe, folder / "inpainting.png")
        by_step(recipe, folder / "by-step.png")
        if recipe.classes:
            guidance(recipe, folder / "guidance.png")


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


def edits(recipe: DDPMRecipe, path: Path, rows: int = 6) -> None:
    """Image to image (SDEdit, Meng et al. 2022): images noised part of the way, and denoised by DDIM from there."""
    process, generator = recipe.model.process, Generator(NOISE).spawn(4)
    x0, label = _validation(recipe, rows)
    shares = np.linspace(0.1, 1.0, STAGES - 1)
    stages = [x0]
    with recipe.averaged():
        for share in shares:
            start = max(int(share * process.steps) - 1, 0)
            eps = sg.randn(x0.shape, generator=generator, device=recipe.device)
            x = process.jump(x0, np.full(rows, start), eps)
            states = recipe.states(x, recipe.denoiser(label), generator, "ddim", STEPS, start=start)
            stages.append(samplers.last(states))
    images = np.stack([recipe.to_data(x) for x in stages], 1)
    viz.film_strip(path, images, ["data", *(f"{share:.0%}" for share in shares)], title="noised so far, then denoised")


def inpainting(recipe: DDPMRecipe, path: Path, rows: int = 6, guesses: int = 5) -> None:
    """Images whose lower half is hidden, and what the model puts there."""
    x0, label = _validation(recipe, rows)
    mask = np.ones(recipe.shape, np.float32)
    mask[:, recipe.shape[1] // 2 :] = 0
    known, seen = x0.repeat(guesses, 1, 1, 1), sg.as_tensor(mask, device=recipe.device)
    generator, process = Generator(NOISE).spawn(5), recipe.model.process
    with recipe.averaged():
        denoise = recipe.denoiser(label.repeat(guesses) if label is not None else None)
        times, x = samplers.spaced(process, min(STEPS, process.steps)), recipe.noise(rows * guesses, generator)
        drawn = samplers.last(samplers.inpaint(process, denoise, x, times, generator, known, seen))
    made = recipe.to_data(drawn).reshape(guesses, rows, *recipe.shape)
    images = np.stack([recipe.to_data(x0), recipe.to_data(x0) * mask, *made], 1)
    viz.film_strip(path, images, ["data", "seen", *[""] * guesses], title="the lower half is drawn anew")


def by_step(recipe: DDPMRecipe, path: Path, rows: int = 100) -> None:
    """Where on the way from data to noise the network errs, and where the bound's bits are."""
    held = recipe.dataset.validation
    t, errors, terms = recipe.by_step(held.x[:rows], held.labels[:rows])
    panels = {"squared error of the noise": {"error": errors}, "the bound's term, bits a dimension": {"term": terms}}
    viz.lines(path, t + 1, panels, label="t", log=True)


def guidance(recipe: DDPMRecipe, path: Path, samples: int = 500) -> None:
    """What guidance buys and costs: the class is plainer, the classes poorer. Against test images, after training."""
    labels = recipe.dataset.test.labels[: min(recipe.judge.samples, samples)]
    found = []
    for weight in WEIGHTS:
        drawn = recipe.draw(len(labels), Generator(NOISE), labels, sampler="ddim", steps=STEPS, guidance=weight)
        found.append(recipe.judge.evaluate(drawn, labels))
    shown = {"class_accuracy": "class accuracy", "recall": "recall", "fd": "Frechet distance"}
    panels = {title: {key: [metrics[key] for metrics in found]} for key, title in shown.items()}
    viz.lines(path, WEIGHTS, panels, label="weight of guidance")


def _validation(recipe: DDPMRecipe, rows: int) -> tuple[Tensor, Tensor | None]:
    """The first images of different classes, in the network's units, and their labels if it is told them."""
    held = recipe.dataset.validation
    first = np.unique(held.labels, return_index=True)[1][:rows]
    return recipe.to_model(held.x[first]), recipe.label(held.labels[first]) if recipe.classes else None
