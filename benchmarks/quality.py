"""The same DCGAN trained here and in PyTorch, one after the other: same initial weights, data, settings and number of
steps. Prints the metrics of both, which should differ by their standard errors, and the seconds each took.

    python -m benchmarks quality --data mnist
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import scratchgen as sg
from scratchgen import Generator, data
from scratchgen.recipes.adversarial import NOISE
from scratchgen.recipes.gan import GANRecipe
from scratchgen.recipes.judges import judge_of

SHOWN = ("fd", "nfd", "one_nn", "c2st", "coverage", "memorisation", "class_min_ratio")


def recipe_of(name: str, steps: int, seed: int) -> GANRecipe:
    """The recipe of ``scratchgen train gan --preset tiny``, for ``steps`` steps (0: as many as the preset has)."""
    config = GANRecipe.configure("tiny", name)
    return GANRecipe(replace(config, steps=steps or config.steps), data.load(name), sg.cpu, seed)


def ours(recipe: GANRecipe) -> tuple[np.ndarray, float]:
    """Samples after training, and its seconds."""
    start = time.perf_counter()
    for _ in range(recipe.config.steps):
        recipe.step()
    seconds = time.perf_counter() - start
    return recipe.sample(recipe.judge.samples, Generator(NOISE))["samples"], seconds


def torch_networks(recipe: GANRecipe) -> tuple[Any, Any]:
    """The recipe's generator and discriminator as PyTorch's modules, with the same weights."""
    from torch import nn

    config, (channels, height, width), wide = recipe.config, recipe.dataset.shape, recipe.config.width
    generator = nn.Sequential(
        nn.Unflatten(1, (config.latent, 1, 1)),
        nn.ConvTranspose2d(config.latent, 2 * wide, (height // 4, width // 4), bias=False),
        nn.BatchNorm2d(2 * wide), nn.ReLU(),
        nn.ConvTranspose2d(2 * wide, wide, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(),
        nn.ConvTranspose2d(wide, channels, 4, stride=2, padding=1), nn.Tanh(),
    )  # fmt: skip
    body = nn.Sequential(
        nn.Conv2d(channels, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(wide, 2 * wide, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * wide), nn.LeakyReLU(0.2),
        nn.Flatten(),
    )  # fmt: skip
    discriminator = nn.Sequential(body, nn.Linear(recipe.opponent.body.features, 1), nn.Flatten(0))
    model: Any = recipe.model
    _copy(model.layers, generator)
    _copy(recipe.opponent.body.layers, body)
    _copy(recipe.opponent.head, discriminator[1])
    return generator, discriminator


def torchs(recipe: GANRecipe, seed: int) -> tuple[np.ndarray, float]:
    """The same of PyTorch: the recipe gives initial weights, batches and settings, and takes no step."""
    import torch
    from torch.nn import functional as F

    config, (generator, discriminator) = recipe.config, torch_networks(recipe)
    betas = config.beta1, config.beta2
    optimizers = [torch.optim.Adam(n.parameters(), config.learning_rate, betas) for n in (generator, discriminator)]
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, recipe._rate) for optimizer in optimizers]
    average = {name: value.clone() for name, value in generator.state_dict().items()}
    draw = torch.Generator().manual_seed(seed)
    start = time.perf_counter()
    for step in range(config.steps):
        real = torch.from_numpy(2 * next(recipe.batches)[0] - 1)
        with torch.no_grad():
            fake = generator(torch.randn(len(real), config.latent, generator=draw))
        on_real, on_fake = discriminator(real), discriminator(fake)
        loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        loss = F.softplus(-discriminator(generator(torch.randn(len(real), config.latent, generator=draw)))).mean()
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
        decay = min(config.average, (1 + step) / (10 + step))
        parameters = dict(generator.named_parameters())
        for name, value in generator.state_dict().items():
            average[name].copy_(average[name].lerp(value, 1 - decay) if name in parameters else value)
        for schedule in schedules:
            schedule.step()
    seconds = time.perf_counter() - start
    generator.load_state_dict(average)
    with torch.no_grad():
        images = generator.eval()(torch.randn(recipe.judge.samples, config.latent, generator=draw))
    return ((images.numpy() + 1) / 2).clip(0, 1), seconds


def _copy(source: Any, target: Any) -> None:
    """Our weights into PyTorch's module of the same make."""
    import torch

    state = {name: torch.as_tensor(np.array(value.numpy(force=True))) for name, value in source.state_dict().items()}
    target.load_state_dict(state)


def main(arguments: list[str]) -> int:
    """Train in both libraries, a process each, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks quality", description=__doc__)
    parser.add_argument("--data", default="mnist", help="a dataset of images (default: mnist)")
    parser.add_argument("--steps", type=int, default=0, help="training steps (default: the preset's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="of each library (default: 2)")
    parser.add_argument("--only", choices=("scratchgen", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only:
        recipe = recipe_of(options.data, options.steps, options.seed)
        samples, seconds = ours(recipe) if options.only == "scratchgen" else torchs(recipe, options.seed)
        np.savez(options.out, samples=samples, seconds=seconds)
        return 0
    judge, found = judge_of(data.load(options.data)), {}
    with tempfile.TemporaryDirectory() as folder:
        for library in ("scratchgen", "torch"):
            out = Path(folder) / f"{library}.npz"
            threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
            command = [sys.executable, "-m", "benchmarks", "quality", *arguments, "--only", library, "--out", str(out)]
            subprocess.run(command, check=True, env=dict(os.environ) | threads)
            with np.load(out) as file:
                found[library] = judge.evaluate(file["samples"]) | {"seconds": float(file["seconds"])}
    print(table(found))
    return 0


def table(found: dict[str, dict[str, float]]) -> str:
    """A row for each metric, a column for each library."""
    lines = [f"{'':18}" + "".join(f"{library:>20}" for library in found)]
    for key in (*SHOWN, "seconds"):
        cells = []
        for metrics in found.values():
            error = metrics.get(f"{key}_se")
            cells.append(f"{metrics[key]:.4g}" + (f" ± {error:.2g}" if error is not None else ""))
        lines.append(f"{key:18}" + "".join(f"{cell:>20}" for cell in cells))
    lines.append(f"PyTorch's time / ours: {found['torch']['seconds'] / found['scratchgen']['seconds']:.2f}")
    return "\n".join(lines)

