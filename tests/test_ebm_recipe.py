"""The recipe of energy-based models: resuming, going back, samples, pictures."""

from __future__ import annotations

import itertools
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resuming import assert_resumes, snapshot

import scratchgen as sg
from scratchgen import Generator, data
from scratchgen.recipes import ebm
from scratchgen.recipes.ebm import EBMRecipe
from scratchgen.recipes.ebm_guard import LIMIT

SMALL: dict[str, Any] = {
    "steps": 40, "hidden": (16,), "width": 2, "batch_size": 20, "chain_steps": 3, "buffer": 60, "sample_steps": 12,
}  # fmt: skip


def recipe(name: str = "digits", **changes: Any) -> EBMRecipe:
    return EBMRecipe(EBMRecipe.configure("tiny", name, **{**SMALL, **changes}), data.load(name), sg.cpu, 0)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("digits", {}),
        ("digits", {"network": "conv", "spectral": True, "buffer": 0}),
        ("digits", {"pull": 0.05, "start": "pixels"}),
        ("moons", {}),
        ("moons", {"objective": "denoising"}),
    ],
)
def test_training_goes_on_bit_identically_from_a_checkpoint(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    assert_resumes(lambda: recipe(name, **changes), tmp_path)


def weights(made: EBMRecipe) -> np.ndarray:
    return np.concatenate([p.numpy(force=True).reshape(-1) for p in made.model.parameters()])


def test_a_step_leaves_only_its_own_gradient() -> None:
    """Sampling before the update adds nothing to it."""
    made = recipe()
    made.step()
    made.optimizer.zero_grad()
    made._negative(20)
    assert all(p.grad is None or not p.grad.any() for p in made.model.parameters())


@pytest.mark.parametrize("damage", [math.nan, 1e6])
def test_divergence_goes_back_to_the_last_good_state(damage: float, caplog: pytest.LogCaptureFixture) -> None:
    made = recipe()
    for _ in range(2):
        made.step()
    made.guard.note(100)
    good, buffer = weights(made), made.buffer.states.numpy(force=True).copy()
    with sg.no_grad():
        last = list(made.model.parameters())[-2]
        last.fill_(damage) if math.isnan(damage) else last.mul_(damage)
    with caplog.at_level(logging.WARNING, "scratchgen"):
        report = made.step()
    assert "back to the last good state" in caplog.text
    assert report["rollbacks"] == 1
    assert all(map(math.isfinite, report.values()))
    np.testing.assert_array_equal(weights(made), good)
    np.testing.assert_array_equal(made.buffer.states.numpy(force=True), buffer)
    assert made.guard.pace == 0.5
    made.step()
    assert made.optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * made.config.learning_rate * (1 - 4 / 40))
    assert (weights(made) != good).any()


def test_who_diverges_too_often_is_stopped() -> None:
    made = recipe(divergence=-1.0)  # everything counts as divergence
    reports = [made.step() for _ in range(LIMIT + 1)]
    assert [report["rollbacks"] for report in reports[:-1]] == list(range(1, LIMIT + 1))
    assert math.isnan(reports[-1]["energy_gap"])


def test_training_on_points_approaches_their_density(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ebm, "CELLS", 100)
    made = recipe("moons", hidden=(64, 64), batch_size=128, chain_steps=10, buffer=1000, step=0.005, steps=150)
    before = made.quadrature()
    for _ in range(150):
        made.step()
    after = made.quadrature()
    assert after["total_variation"] < 0.75 * before["total_variation"]
    assert after["test_log_likelihood"] > before["test_log_likelihood"] + 0.5


def test_chains_keep_up_with_modes_a_hundredth_of_their_distance_wide() -> None:
    """The preset in a sixth of its steps. Where chains do not follow, one mode soon has all the mass: 7/8 and more."""
    made = EBMRecipe(EBMRecipe.configure("tiny", "ring8", steps=160, average=0.95), data.load("ring8"), sg.cpu, 0)
    for _ in range(160):
        report = made.step()
    assert made.quadrature()["total_variation"] < 0.4
    assert abs(report["energy_gap"]) < 2  # data and chains balance


def test_quadrature_of_the_truth_finds_no_difference() -> None:
    made = recipe("ring8")
    truth = made.dataset.density

    class Exact(sg.nn.Module):
        def forward(self, x: sg.Tensor) -> sg.Tensor:
            return sg.as_tensor(-truth.log_density(x.numpy(force=True) * made.scale))

    made.averaged = lambda: sg.no_grad()  # type: ignore[method-assign, assignment]
    made.model = Exact()
    found = made.quadrature()
    assert found["total_variation"] < 1e-4
    expected = truth.log_density(made.dataset.test.x).mean()
    assert found["test_log_likelihood"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("name", "shape"), [("digits", (12, 1, 8, 8)), ("moons", (12, 2))])
def test_samples_are_in_the_units_of_the_data_and_repeat(name: str, shape: tuple[int, ...]) -> None:
    made = recipe(name)
    first, again, other = (made.sample(12, Generator(seed), steps=4)["samples"] for seed in (1, 1, 2))
    assert first.shape == shape
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    if name == "digits":
        assert 0 <= first.min() < first.max() <= 1
    before = snapshot(made)
    made.sample(2, Generator(0))
    assert snapshot(made) == before


@pytest.mark.parametrize("name", ["digits", "mnist-5k"])
def test_dequantised_images_come_back_as_they_were(name: str) -> None:
    """Rounded to the nearest level instead, almost half of all black pixels would become grey, which a judge sees."""
    made = recipe(name)
    x = made.dataset.trainval.x[:50]
    np.testing.assert_array_equal(made.to_data(made.to_model(x, Generator(0))), x)
    np.testing.assert_array_equal(made.to_data(made.to_model(x)), x)
    np.testing.assert_array_equal(made.to_data(sg.tensor([-1.0, 1.0])), [0, 1])  # the bounds of chains


def test_energies_are_of_images_as_training_shows_them() -> None:
    made = recipe()
    seen = []
    made.model.forward = lambda x: (seen.append(x.numpy(force=True)), sg.zeros(len(x)))[1]
    x, levels = made.dataset.test.x, made.dataset.levels
    made.energies(x)
    grey, place = np.divmod((np.concatenate(seen) + 1) * levels / 2, 1)
    np.testing.assert_array_equal(grey, np.rint(x * (levels - 1)))
    assert np.quantile(place, [0.05, 0.5, 0.95]) == pytest.approx([0.05, 0.5, 0.95], abs=0.01)


def test_strangers_resemble_the_data_in_one_way_each() -> None:
    made = recipe()
    test, found = made.dataset.test.x, made.strangers()
    assert set(found) == {"noise", "shuffled", "noisy", "inverted"}
    np.testing.assert_allclose(np.sort(found["shuffled"].reshape(360, -1)), np.sort(test.reshape(360, -1)))
    np.testing.assert_allclose(found["inverted"] + test, 1)
    assert all(x.shape == test.shape and x.min() >= 0 and x.max() <= 1 for x in found.values())


def test_options_that_make_no_sense_are_named() -> None:
    with pytest.raises(ValueError, match="network=conv is for images"):
        recipe("moons", network="conv")
    for change in ({"pull": 0.1}, {"start": "pixels"}):
        with pytest.raises(ValueError, match="pull and start=pixels are for images"):
            recipe("moons", **change)
    with pytest.raises(ValueError, match="restarts is a share"):
        recipe(restarts=1.5)
    with pytest.raises(ValueError, match="buffer=5 holds less than a batch of 20"):
        recipe(buffer=5)
    with pytest.raises(ValueError, match="steps=0: a chain takes at least one step"):
        recipe().sample(1, Generator(0), steps=0)


@pytest.mark.parametrize("name", ["digits", "ring8"])
def test_pictures(name: str, tmp_path: Path) -> None:
    made = recipe(name)
    before = snapshot(made)
    made.preview(tmp_path, 7)
    expected = {"samples.png", "samples/step-000007.png", "energies.png"}
    expected |= {"chains.png"} if name == "digits" else {"density.png"}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")} == expected
    assert snapshot(made) == before


def test_the_bowl_is_around_the_mean_image_and_chains_may_begin_there() -> None:
    made = recipe(pull=0.05, start="pixels")
    images = made.to_model(made.dataset.trainval.x).numpy().astype(np.float64)
    np.testing.assert_allclose(made.model.centre.numpy(force=True), images.mean(0), atol=1e-5)
    drawn = made.fresh(4000, Generator(0)).numpy()
    assert abs(drawn).max() == 1  # those outside are put on the border, which narrows the deviation
    noise = images.mean(0) + images.std(0) * np.random.default_rng(0).standard_normal((4000, 1, 8, 8))
    np.testing.assert_allclose(drawn.mean(0), noise.clip(-1, 1).mean(0), atol=0.06)
    np.testing.assert_allclose(drawn.std(0), noise.clip(-1, 1).std(0), atol=0.06)


def test_every_preset_configures() -> None:
    for preset, name in itertools.product(EBMRecipe.presets, EBMRecipe.data_names):
        assert EBMRecipe.configure(preset, name).steps > 0
