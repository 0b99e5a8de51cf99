"""The RBM's recipe: resuming, learning, samples, pictures, scores."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resuming import assert_resumes, snapshot

import scratchgen as sg
from scratchgen import Generator, data, metrics
from scratchgen.models import rbm_likelihood as likelihood
from scratchgen.recipes.rbm import RBMRecipe

SMALL: dict[str, Any] = {"steps": 40, "hidden": 12, "batch_size": 50, "chains": 20, "annealing_temperatures": 100}


def recipe(preset: str = "tiny", **changes: Any) -> RBMRecipe:
    return RBMRecipe(RBMRecipe.configure(preset, "digits", **{**SMALL, **changes}), data.load("digits"), sg.cpu, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"negative": "cd", "pixels": "mean", "centre": 0.0, "binarise": "dynamic", "l1": 1e-4},
        {"negative": "tempered", "momentum": 0.9, "momentum_steps": 4, "invert": True, "sparsity_cost": 0.1},
        {"visible": "gaussian", "learning_rate": 0.01},
    ],
)
def test_training_goes_on_bit_identically_from_a_checkpoint(changes: dict[str, Any], tmp_path: Path) -> None:
    assert_resumes(lambda: recipe(**changes), tmp_path)


def test_training_raises_the_exact_likelihood() -> None:
    """Two epochs' steps and some: from independent pixels to well above them, on test images."""
    made = recipe(steps=400, learning_rate=0.5, batch_size=100)
    before = made._likelihood()
    for _ in range(400):
        made.step()
    after = made._likelihood()
    independent = made._scored(independent_pixels(made))["test_log_likelihood"]
    assert before["test_log_likelihood"] == pytest.approx(independent, abs=0.3)
    assert after["test_log_likelihood"] > independent + 3
    assert after["log_z_ais"] == pytest.approx(after["log_z"], abs=0.2)
    assert after["log_z_reverse"] == pytest.approx(after["log_z"], abs=0.2)


def independent_pixels(made: RBMRecipe) -> np.ndarray:
    train, test = (v.numpy(force=True) for v in (made.train_rows, made.test_rows))
    return metrics.independent_bernoulli(train).log_prob(test)


def test_momentum_rises_and_the_rate_falls() -> None:
    made = recipe(momentum=0.9, momentum_steps=2, learning_rate=1.0)
    seen = []
    for _ in range(4):
        made.step()
        group = made.optimizer.param_groups[0]
        seen.append((group["momentum"], group["lr"] / (1 - group["momentum"])))
    assert [momentum for momentum, _ in seen] == [0.5, 0.5, 0.9, 0.9]
    np.testing.assert_allclose([rate for _, rate in seen], [1, 1 - 1 / 40, 1 - 2 / 40, 1 - 3 / 40])


@pytest.mark.parametrize("changes", [{}, {"invert": True}, {"visible": "gaussian"}])
def test_images_come_back_from_units(changes: dict[str, Any]) -> None:
    made = recipe(**changes)
    images = made.dataset.test.x
    back = made.to_images(made.observe(images, Generator(0)))
    expected = images if made.gaussian else images >= 0.5
    np.testing.assert_allclose(back, expected, atol=1 / 16 if made.gaussian else 0)


def test_gaussian_scores_are_densities_of_pixels() -> None:
    """A machine without weights is one Gaussian with independent pixels, of known density."""
    made = recipe(visible="gaussian", noise=1.0, centre=0.0)
    with sg.no_grad():
        made.model.weight.zero_()
    found = made._likelihood()["test_log_likelihood"]
    x = made.test_rows.numpy(force=True).astype(np.float64) * made.scale + made.mean
    z = (x - made.mean) / made.scale
    expected = (-0.5 * z**2 - np.log(made.scale) - 0.5 * np.log(2 * np.pi)).sum(1).mean()
    assert found == pytest.approx(expected, abs=1e-3)


def test_samples_repeat_and_are_images() -> None:
    made = recipe()
    first, again, other = (made.sample(12, Generator(seed), steps=20)["samples"] for seed in (1, 1, 2))
    assert first.shape == (12, 1, 8, 8)
    assert 0 <= first.min() < first.max() <= 1
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert set(np.unique(made.sample(12, Generator(1), steps=2, pixels="drawn")["samples"])) == {0.0, 1.0}


def test_options_that_make_no_sense_are_named() -> None:
    with pytest.raises(ValueError, match="negative=tempered needs at least 2 temperatures"):
        recipe(negative="tempered", temperatures=1)
    with pytest.raises(ValueError, match="pixels=mean is for negative=cd"):
        recipe(pixels="mean")
    with pytest.raises(ValueError, match="centre is a rate from 0 to 1"):
        recipe(centre=2.0)
    with pytest.raises(ValueError, match="sparsity is a mean activity"):
        recipe(sparsity=0.0)
    with pytest.raises(ValueError, match="steps=0: a chain takes at least one step"):
        recipe().sample(1, Generator(0), steps=0)


def test_held_out_rows_give_a_curve() -> None:
    made = recipe(hold_out=True)
    assert len(made.batches.arrays[0]) == len(made.dataset.train)
    assert set(made.validate()) == {"pseudo_likelihood", "free_energy_gap"}
    assert recipe().validate() == {}


def test_pictures(tmp_path: Path) -> None:
    made = recipe()
    before = snapshot(made)
    made.preview(tmp_path, 7)
    expected = {"samples.png", "samples/step-000007.png", "chains.png", "filters.png", "inpainting.png"}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")} == expected
    assert snapshot(made) == before


def test_every_preset_configures() -> None:
    for preset, name in itertools.product(RBMRecipe.presets, RBMRecipe.data_names):
        assert RBMRecipe.configure(preset, name).steps > 0


def test_plain_machines_lose_their_hidden_units_to_a_bright_background() -> None:
    """From visible biases of 0, as Melchior et al. 2016 find: on negatives every hidden unit of a plain machine is on
    for good before the biases have learnt that most pixels are bright, and what is left is independent pixels. A
    centred machine does not mind; nor does a plain one whose biases start at the means."""

    def nats(**changes: Any) -> float:
        made = recipe(preset="exact", steps=600, batch_size=100, hidden=16, invert=True, hidden_bias=0.0, **changes)
        for _ in range(600):
            made.step()
        log_z = likelihood.exact_log_z(made.model)
        return float(likelihood.log_likelihood(made.model, made.test_rows, log_z).mean())

    plain, centred, started = nats(visible_bias="zero", centre=0.0), nats(visible_bias="zero"), nats(centre=0.0)
    assert centred > plain + 3
    assert started > plain + 3
