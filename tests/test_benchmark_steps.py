"""Benchmark of whole training steps: both libraries train the same network alike, or the row fails."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from contenders import Local

pytest.importorskip("torch", reason="the peer of the benchmark")

from benchmarks import steps
from benchmarks.library import Scratchgen, Torch
from benchmarks.networks import Step, gpt, gpt_writing, seq2seq, transformer, unet
from benchmarks.stepping import StepBench, agree
from benchmarks.worker import OURS

TINY = {
    "unet": Step("unet", lambda L: unet(L, 8, batch=2), samples=2, images=True, bar=1e-9, agree=2),
    "gpt": Step("gpt", lambda L: gpt(L, 2, 2, 16, batch=2, length=8), samples=2, images=False, bar=1e-9, agree=4),
    "gpt writing": Step(
        "gpt writing", lambda L: gpt_writing(L, 2, 2, 16, batch=2, length=8), samples=2, images=False, bar=1e-9
    ),
    "transformer": Step(
        "transformer", lambda L: transformer(L, 2, 2, 16, 20, batch=2, length=5), samples=2, images=False, bar=1e-9
    ),
    "seq2seq": Step("seq2seq", lambda L: seq2seq(L, 8, 20, batch=2, length=5), samples=2, images=False, bar=1e-9),
}


def train(name, tmp_path, change=lambda training: None):
    weights = str(tmp_path / "weights.npz")
    benches = {
        OURS: StepBench(Scratchgen(), TINY),
        "torch channels-last": StepBench(Torch(channels_last=True, threads=1), TINY),
    }
    benches[OURS].build(name, None)
    benches[OURS].save(weights)
    change(benches[OURS])
    given = {n: Local(n, bench) for n, bench in benches.items()}
    return steps.measure_step(TINY[name], given, weights, budget=0.0)


@pytest.mark.parametrize("name", TINY)
def test_the_same_network_trains_alike_in_both_libraries(name, tmp_path):
    row = train(name, tmp_path)
    assert row["failed"] is None
    (peer,) = row["peers"]
    assert row["loss"] == pytest.approx(peer["loss"], rel=1e-4)
    assert row["samples_per_s"] == pytest.approx(2 / row["ms"] * 1e3)
    assert json.dumps(row)


def test_writing_with_a_cache_is_reading_the_whole_text():
    """What is written is the likeliest at each place, as the whole network says of the whole text."""
    made = {}

    class Kept(Scratchgen):
        def prepared(self, module):
            made["network"] = module
            return module

    library = Kept()
    library.manual_seed(0)
    training = gpt_writing(library, 2, 2, 16, batch=3, length=12)
    tokens = library.tensor(training.draw(np.random.default_rng(0))[0])
    mean_logit = float(library.numpy(training.step(tokens)))
    chosen = []
    for _ in range(9):
        best = made["network"](tokens)[:, -1].max(1)
        chosen.append(library.numpy(best.values))
        tokens = library.cat([tokens, best.indices[:, None]], 1)
    assert tokens.shape[1] == 3 + 9
    assert mean_logit == pytest.approx(np.mean(chosen), abs=1e-6)


def test_steps_whose_losses_part_fail(tmp_path):
    class Quicker(Scratchgen):
        def adamw(self, parameters, lr, fused=None):
            return super().adamw(parameters, 2 * lr)

    def change(bench):
        bench.library = Quicker()

    row = train("gpt", tmp_path, change)
    assert row["failed"].startswith("losses part")
    assert row["ms"] is None


def test_losses_agree_only_if_all_do():
    assert agree([1.0, 2.0], [1.0, 2.0 + 1e-5]) == (pytest.approx(5e-6, rel=1e-4), True)
    assert not agree([1.1, 2.0], [1.0, 2.0])[1]
    assert not agree([1.0, math.nan], [1.0, 2.0])[1]
