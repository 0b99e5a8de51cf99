"""A restricted Boltzmann machine by persistent contrastive divergence: a Gibbs chain and an update by SGD.

Each library draws random numbers of its own, so losses agree but for what chance makes of the samples. With ``given``
ones, which are those that ours draws, both run the same chains; a test holds them together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchgen.kernels.gibbs.reference import blocks_of, words
from scratchgen.kernels.philox.reference import philox_uniform

from ..library import Library
from .step import Training, normal

BATCH = 100  # of data, and of chains


def rbm(L: Library, visible: int, hidden: int, *, steps: int, given: bool = False) -> Training:
    """``steps`` Gibbs steps before each update, weight decay 1e-3."""
    machine = L.nn.Linear(visible, hidden)  # W and the hidden biases
    biases = L.nn.ParameterList([L.nn.Parameter(L.zeros(visible))])
    optimizer = L.sgd([*machine.parameters(), *biases.parameters()], lr=0.05, weight_decay=1e-3)
    chains = [L.tensor((normal(np.random.default_rng(0), BATCH, visible) > 0).astype(np.float32))]

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        pixels = (rng.random((BATCH, visible), np.float32) < 0.2).astype(np.float32)
        key = np.array([rng.integers(1 << 62)], np.int64)
        return (pixels, key, *(_uniforms(key.astype(np.uint64), visible, hidden, steps) if given else ()))

    def step(x: Any, key: Any, *uniforms: Any) -> Any:
        chains[0] = L.gibbs(chains[0], machine.weight, biases[0], machine.bias, steps, key, uniforms)
        both = L.cat([x, chains[0]])  # the product with the weights is one, and so is its gradient's
        energy = L.free_energy(both, machine.weight, biases[0], machine.bias)
        of_data, of_samples = (part.mean() for part in energy.chunk(2))
        loss = of_data - of_samples
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return of_data  # the loss itself is a difference near zero

    return Training({"machine": machine, "biases": biases}, draw, step)


def _uniforms(key: np.ndarray, visible: int, hidden: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of stream ``key`` that hidden and visible units are compared with: (steps, chains, units) each."""
    every = philox_uniform(key, counter=0, count=words(BATCH, visible, hidden, steps), dtype=np.float32)
    split = 4 * BATCH * blocks_of(hidden)
    parts = np.split(every.reshape(steps, -1), [split], axis=1)
    shaped = [part.reshape(steps, BATCH, -1)[:, :, :n] for part, n in zip(parts, (hidden, visible), strict=True)]
    return np.ascontiguousarray(shaped[0]), np.ascontiguousarray(shaped[1])
