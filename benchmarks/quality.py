"""The same DCGAN trained here and in PyTorch: same initial weights, data, settings and number of steps. The two take
turns of some steps each, so that neighbours and the clock slow both alike; the ratio of times is the median over turns.
Prints the metrics of both, which should differ by their standard errors.

    python -m benchmarks quality --data mnist --json benchmarks/results/quality-mnist.json
"""

from __future__ import annotations

import argparse
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import scratchgen as sg
from scratchgen import Generator, data
from scratchgen.recipes.adversarial import NOISE
from scratchgen.recipes.gan import GANRecipe
from scratchgen.recipes.judges import judge_of

from . import machine, paired, results
from .worker import OURS, Worker

SHOWN = ("fd", "nfd", "one_nn", "c2st", "coverage", "memorisation", "class_min_ratio")
LIBRARIES = (OURS, "torch channels-last")
TURN = 50  # steps


def recipe_of(name: str, steps: int, seed: int) -> GANRecipe:
    """The recipe of ``scratchgen train gan --preset tiny``, for ``steps`` steps (0: as many as the preset has)."""
    config = GANRecipe.configure("tiny", name)
    return GANRecipe(replace(config, steps=steps or config.steps), data.load(name), sg.cpu, seed)


class Trainer(ABC):
    """One library's training. A recipe gives initial weights, batches and settings."""

    def __init__(self, recipe: GANRecipe) -> None:
        self.recipe = recipe

    def train(self, count: int) -> float:
        """Take ``count`` steps; the seconds they took."""
        start = time.perf_counter()
        for _ in range(count):
            self.step()
        return time.perf_counter() - start

    @abstractmethod
    def step(self) -> object:
        """One step of the discriminator and one of the generator."""

    @abstractmethod
    def samples(self) -> np.ndarray:
        """As many as the judge wants, of the averaged generator, in [0, 1]."""


class Ours(Trainer):
    """The recipe itself."""

    def step(self) -> object:
        return self.recipe.step()

    def samples(self) -> np.ndarray:
        return self.recipe.sample(self.recipe.judge.samples, Generator(NOISE))["samples"]


def torch_networks(recipe: GANRecipe) -> tuple[Any, Any]:
    """The recipe's generator and discriminator as PyTorch's modules, with the same weights."""
    from torch import nn

    config, (channels, height, width), wide = recipe.config, recipe.dataset.shape, recipe.config.width
    dense, first = config.hidden, config.hidden or config.latent
    generator = nn.Sequential(
        *([nn.Linear(config.latent, dense, bias=False), nn.BatchNorm1d(dense), nn.ReLU()] if dense else []),
        nn.Unflatten(1, (first, 1, 1)),
        nn.ConvTranspose2d(first, 2 * wide, (height // 4, width // 4), bias=False),
        nn.BatchNorm2d(2 * wide), nn.ReLU(),
        nn.ConvTranspose2d(2 * wide, wide, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(),
        nn.ConvTranspose2d(wide, channels, 4, stride=2, padding=1), nn.Tanh(),
    )  # fmt: skip
    body = nn.Sequential(
        nn.Conv2d(channels, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(wide, 2 * wide, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * wide), nn.LeakyReLU(0.2),
        nn.Flatten(),
    )  # fmt: skip
    features = recipe.opponent.body.features
    head = nn.Sequential(
        *([nn.Linear(features, dense, bias=False), nn.BatchNorm1d(dense), nn.LeakyReLU(0.2)] if dense else []),
        nn.Linear(dense or features, 1),
    )
    discriminator = nn.Sequential(body, head, nn.Flatten(0))
    model: Any = recipe.model
    _copy(model.layers, generator)
    _copy(recipe.opponent.body.layers, body)
    _copy(recipe.opponent.head, head)
    return generator, discriminator


class Torchs(Trainer):
    """The same in PyTorch, channels-last and with fused Adam, its fastest here; the recipe takes no step."""

    def __init__(self, recipe: GANRecipe, seed: int) -> None:
        import torch

        super().__init__(recipe)
        config = recipe.config
        self.networks = tuple(n.to(memory_format=torch.channels_last) for n in torch_networks(recipe))
        betas = config.beta1, config.beta2
        self.optimizers = [
            torch.optim.Adam(n.parameters(), config.learning_rate, betas, fused=True) for n in self.networks
        ]
        self.schedules = [torch.optim.lr_scheduler.LambdaLR(o, recipe._rate) for o in self.optimizers]
        self.average = [p.detach().clone() for p in self.networks[0].parameters()]
        self.draws = torch.Generator().manual_seed(seed)
        self.steps = 0

    def step(self) -> object:
        import torch
        from torch.nn import functional as F

        generator, discriminator = self.networks
        real = torch.from_numpy(self.recipe._real()[0].numpy())
        with torch.no_grad():
            fake = self._generated(len(real))
        on_real, on_fake = discriminator(real), discriminator(fake)
        self._update(1, F.softplus(-on_real).mean() + F.softplus(on_fake).mean())
        self._update(0, F.softplus(-discriminator(self._generated(len(real)))).mean())
        decay = min(self.recipe.config.average, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for average, now in zip(self.average, generator.parameters(), strict=True):
                average.lerp_(now, 1 - decay)
        for schedule in self.schedules:
            schedule.step()
        self.steps += 1
        return self.steps

    def _generated(self, count: int) -> Any:
        import torch

        return self.networks[0](torch.randn(count, self.recipe.config.latent, generator=self.draws))

    def _update(self, which: int, loss: Any) -> None:
        self.optimizers[which].zero_grad()
        loss.backward()
        self.optimizers[which].step()

    def samples(self) -> np.ndarray:
        import torch

        generator = self.networks[0]
        with torch.no_grad():
            for average, now in zip(self.average, generator.parameters(), strict=True):
                now.copy_(average)
            generator.eval()
            images = self._generated(self.recipe.judge.samples)
        return ((images.numpy() + 1) / 2).clip(0, 1)


def _copy(source: Any, target: Any) -> None:
    """Our weights into PyTorch's module of the same make."""
    import torch

    state = {name: torch.as_tensor(np.array(value.numpy(force=True))) for name, value in source.state_dict().items()}
    target.load_state_dict(state)


class QualityBench:
    """What a worker process of ``quality`` holds; ``Worker`` calls these methods."""

    def __init__(self, library: str) -> None:
        self.library = library
        self.trainer: Trainer | None = None

    def open(self, name: str, steps: int, seed: int) -> None:
        """Build the networks."""
        recipe = recipe_of(name, steps, seed)
        self.trainer = Ours(recipe) if self.library == OURS else Torchs(recipe, seed)

    def train(self, count: int) -> float:
        """Seconds of ``count`` further steps."""
        assert self.trainer is not None
        return self.trainer.train(count)

    def samples(self) -> np.ndarray:
        """Samples of the averaged generator."""
        assert self.trainer is not None
        return self.trainer.samples()

    def version(self) -> str:
        """Of the library."""
        return machine.versions()[self.library.split()[0]]


def main(arguments: list[str]) -> int:
    """Train in both libraries, a process each, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks quality", description=__doc__)
    parser.add_argument("--data", default="mnist", help="a dataset of images (default: mnist)")
    parser.add_argument("--steps", type=int, default=0, help="training steps (default: the preset's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="of each library (default: 2)")
    parser.add_argument("--json", type=Path, help="a file for the figures; a table goes beside it")
    options = parser.parse_args(arguments)
    steps = options.steps or GANRecipe.configure("tiny", options.data).steps
    seconds: dict[str, list[float]] = {library: [] for library in LIBRARIES}
    workers = {library: Worker(library, options.threads, "quality") for library in LIBRARIES}
    try:
        for worker in workers.values():
            worker.call("open", options.data, steps, options.seed)
        for done in range(0, steps, TURN):
            for library in LIBRARIES[:: 1 if done // TURN % 2 else -1]:  # each begins every other round
                seconds[library].append(workers[library].call("train", min(TURN, steps - done)))
        drawn = {library: worker.call("samples") for library, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.end()
    judge = judge_of(data.load(options.data))
    found = {library: judge.evaluate(samples) for library, samples in drawn.items()}
    header = machine.header(options.threads) | {"data": options.data, "steps": steps, "seed": options.seed}
    text = table(found, seconds, header)
    print(text)
    if options.json:
        rows = [{"library": k, "metrics": found[k], "seconds": seconds[k]} for k in LIBRARIES]
        results.write({"suite": "quality", "header": header, "rows": rows}, options.json)
        options.json.with_suffix(".md").write_text(text + "\n")
    return 0


def table(found: dict[str, dict[str, float]], seconds: dict[str, list[float]], header: dict[str, Any]) -> str:
    """A row for each metric, a column for each library, in Markdown; the ratio of times below."""
    lines = [
        f"# The DCGAN here and in PyTorch: {header['data']}, {header['steps']} steps, seed {header['seed']}",
        "",
        "|" + "|".join(f" {cell} " for cell in ("", *found)) + "|",
        "|" + "---|" * (1 + len(found)),
    ]
    for key in SHOWN:
        cells = []
        for metrics in found.values():
            error = metrics.get(f"{key}_se")
            cells.append(f"{metrics[key]:.4g}" + (f" ± {error:.2g}" if error is not None else ""))
        lines.append("|" + "|".join(f" {cell} " for cell in (f"`{key}`", *cells)) + "|")
    lines.append("| seconds | " + " | ".join(f"{sum(seconds[library]):.0f}" for library in found) + " |")
    # The first turn holds imports and compilation.
    ours, theirs = (np.array(seconds[library][1:] or seconds[library]) for library in LIBRARIES)
    ratio = paired.ratio(theirs, ours)
    lines += [
        "",
        f"PyTorch's time / ours: {ratio}, median over turns of {TURN} steps and its 95 % interval; "
        f"{header['threads']} thread{'s' * (header['threads'] != 1)} each, {header['cpu']}, "
        f"load {header['load'][0]:.1f}, commit {header['git'] or 'none'}, {header['date'][:10]}.",
    ]
    return "\n".join(lines)
