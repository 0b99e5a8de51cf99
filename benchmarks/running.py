"""One library at work on the rows of the table: what a worker process holds."""

from __future__ import annotations

import gc
import itertools
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .cases import BOTH, CASES, Case
from .library import Library

ROTATION = 3  # sets of inputs that calls take turns with


class Bench:
    """Opens a row, checks it against float64, times it; ``Worker`` calls these methods in another process.

    ``precision``: float64 makes the truth that all others are held against.
    """

    def __init__(self, library: Library, cases: dict[str, Case] | None = None) -> None:
        self.library = library
        self.cases = CASES if cases is None else cases
        self.close()

    def close(self) -> None:
        """Give back the memory of the row."""
        self.case: Case | None = None
        self.calls: Any = iter(())
        self.results: Callable[[], list[np.ndarray]] = list
        self.cotangents: list[np.ndarray] = []
        gc.collect()

    def open(self, name: str, direction: str, precision: str = "float32", sets: int = ROTATION) -> None:
        """Draw the inputs of row ``name`` and prepare its calls."""
        self.close()
        self.case = self.cases[name]
        prepared = [self._prepare(self.case, direction, precision, number) for number in range(sets)]
        self.calls = itertools.cycle([call for call, _ in prepared])
        self.results = prepared[0][1]

    def _prepare(self, case: Case, direction: str, precision: str, number: int) -> tuple[Callable, Callable]:
        """The call to time on input set ``number``, and a function that calls it and gives its results as arrays."""
        L = self.library
        arrays = [a.astype(precision) if a.dtype.kind == "f" else a for a in case.draw(number)]
        tensors = [L.tensor(a, case.images) for a in arrays]
        if case.stateful:
            call, values = case.function(L, *tensors)

            def after() -> list[np.ndarray]:
                call()
                return [L.numpy(t) for t in values()]

            return call, after

        leaves = [t.requires_grad_(True) for t, draw in zip(tensors, case.inputs) if draw.differentiate]
        function = L.compiled(case.function)
        if direction != BOTH:
            return self._forward(function, tensors)

        with L.no_grad():
            given = cotangents([L.numpy(y).shape for y in _several(case.function(L, *tensors))], precision)
        self.cotangents = given
        seeds = [L.tensor(a, case.images) for a in given]

        def both() -> list[Any]:
            for leaf in leaves:
                leaf.grad = None
            outputs = _several(function(L, *tensors))
            L.backward(outputs, seeds)
            return outputs

        return both, lambda: [L.numpy(t) for t in [*both(), *(leaf.grad for leaf in leaves)]]

    def _forward(self, function: Callable, tensors: list[Any]) -> tuple[Callable, Callable]:
        L = self.library

        def forward() -> list[Any]:
            with L.no_grad():
                return _several(function(L, *tensors))

        return forward, lambda: [L.numpy(t) for t in forward()]

    def _comparable(self) -> list[np.ndarray]:
        assert self.case is not None
        results = self.results()
        if self.case.same:
            return self.case.same(self.case.draw(), self.cotangents, results)
        return results

    def truth(self, folder: str) -> dict[str, list[int]]:
        """Write the results of the open row into ``folder``; returns the bytes they have in float32."""
        assert self.case is not None
        results = self._comparable()
        for i, array in enumerate(results):
            np.save(Path(folder) / f"{i}.npy", array)
        sizes = [4 * a.size for a in results]
        differentiated = sum(d.differentiate for d in self.case.inputs) if self.cotangents else 0
        outputs = len(sizes) - differentiated
        inputs = [a.nbytes for a in self.case.draw()]
        return {"inputs": inputs, "outputs": sizes[:outputs], "gradients": sizes[outputs:]}

    def error(self, folder: str) -> float:
        """The largest deviation of any result from the truth in ``folder``, relative to that result's largest value."""
        errors = [0.0]
        for i, got in enumerate(self._comparable()):
            true = np.load(Path(folder) / f"{i}.npy", mmap_mode="r")
            if got.shape != true.shape:
                return math.inf
            difference = float(np.abs(got - true).max(initial=0.0))
            errors.append(difference / max(float(np.abs(true).max(initial=0.0)), 1e-300) if difference else 0.0)
        return math.nan if any(math.isnan(e) for e in errors) else max(errors)

    def time(self, warm: int, count: int) -> list[float]:
        """Seconds of each of ``count`` calls, after ``warm`` that nobody times."""
        for _ in range(warm):
            self.library.finish(next(self.calls)())
        samples = []
        for _ in range(count):
            call = next(self.calls)
            start = time.perf_counter()
            result = call()
            self.library.finish(result)
            samples.append(time.perf_counter() - start)
            del result
        return samples

    def version(self) -> str:
        """The library's version."""
        return str(self.library.module.__version__)

    def roof(self, threads: int) -> dict[str, Any]:
        """What this machine can do, measured here so that it has the same threads."""
        from .roof import measure

        return measure(threads)

    def cpu_seconds(self) -> float:
        """Processor time of all threads so far: shows whether an idle worker burns the other's core."""
        return sum(os.times()[:2])


def cotangents(shapes: list[tuple[int, ...]], precision: str) -> list[np.ndarray]:
    """What is propagated back from outputs of these shapes: 1 from a loss, normal numbers from others."""
    rng = np.random.default_rng(1)
    return [np.asarray(rng.standard_normal(s, np.float32) if s else 1.0).astype(precision) for s in shapes]


def _several(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
