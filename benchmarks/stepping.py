"""One library at whole training steps: what a worker process of ``steps`` holds."""

from __future__ import annotations

import importlib
import itertools
import time
from pathlib import Path

import numpy as np

from .library import Library, Scratchgen
from .networks import STEPS, Step, Training

BATCHES = 4  # that steps take turns with


class StepBench:
    """Builds a network, trains it for some steps, times further ones; ``Worker`` calls these methods."""

    def __init__(self, library: Library, steps: dict[str, Step] | None = None) -> None:
        self.library = library
        self.steps = STEPS if steps is None else steps
        self.training: Training | None = None
        if isinstance(library, Scratchgen):
            importlib.import_module("scratchgen.kernels.numba_config")  # torch's import brings its kernels too
        self.imported = memory("VmRSS")

    def build(self, name: str, weights: str | None, seed: int = 0) -> None:
        """Build a network and draw its batches; ``weights``: a file to start from."""
        _forget_peak()
        self.library.manual_seed(seed)
        step = self.steps[name]
        self.training = step.build(self.library)
        if weights is not None:
            with np.load(weights) as saved:
                for part, module in self.training.modules.items():
                    of_part = {k.partition("/")[2]: saved[k] for k in saved.files if k.startswith(f"{part}/")}
                    self.library.load(module, of_part)
        rng = np.random.default_rng(seed)
        batches = [[self.library.tensor(a, step.images) for a in self.training.draw(rng)] for _ in range(BATCHES)]
        self.batches = itertools.cycle(batches)

    def save(self, weights: str) -> None:
        """Write the weights to a file that ``build`` reads."""
        assert self.training is not None
        state = {
            f"{part}/{name}": values
            for part, module in self.training.modules.items()
            for name, values in self.library.weights(module).items()
        }
        np.savez(weights, **state)  # type: ignore[arg-type]

    def losses(self, count: int) -> list[float]:
        """Train for ``count`` steps; the loss of each."""
        assert self.training is not None
        return [float(self.library.numpy(self.training.step(*next(self.batches)))) for _ in range(count)]

    def time(self, warm: int, count: int) -> list[float]:
        """Seconds of each of ``count`` steps, after ``warm`` that nobody times."""
        assert self.training is not None
        for _ in range(warm):
            self.training.step(*next(self.batches))
        samples = []
        for _ in range(count):
            batch = next(self.batches)
            start = time.perf_counter()
            self.training.step(*batch)
            samples.append(time.perf_counter() - start)
        return samples

    def megabytes(self) -> float | None:
        """How far the process grew, at most, beyond what it took with its libraries loaded; None if nobody says."""
        peak = memory("VmHWM")
        return None if peak is None or self.imported is None else peak - self.imported

    def version(self) -> str:
        """The library's version."""
        return str(self.library.module.__version__)


def memory(entry: str) -> float | None:
    """``VmRSS``, the memory this process has now, or ``VmHWM``, the most it ever had, in megabytes; only on Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    kilobytes = next((text.split()[1] for text in lines if text.startswith(entry)), None)
    return None if kilobytes is None else int(kilobytes) * 1024 / 1e6


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # then the import's peak may count too


def agree(losses: list[float], others: list[float], tolerance: float = 1e-4) -> tuple[float, bool]:
    """The relative difference of the last losses, and whether all of them are within ``tolerance``."""
    differences = [abs(a - b) / abs(b) for a, b in zip(losses, others, strict=True)]
    return differences[-1], all(difference <= tolerance for difference in differences)  # NaN is not
