"""Networks of the benchmark whose libraries draw random numbers of their own, on the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the peer of the benchmark")

from benchmarks.library import Scratchgen, Torch
from benchmarks.networks import rbm


def test_boltzmann_machines_run_the_same_chains() -> None:
    losses = []
    weights = {}
    for library in (Scratchgen(), Torch(threads=1)):
        training = rbm(library, 9, 6, steps=2, given=True)
        for name, module in training.modules.items():
            weights.setdefault(name, library.weights(module))
            library.load(module, weights[name])
        rng = np.random.default_rng(0)
        batches = [[library.tensor(a) for a in training.draw(rng)] for _ in range(5)]
        losses.append([float(library.numpy(training.step(*batch))) for batch in batches])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert np.ptp(losses[0]) > 0.1
