"""The adversarial recipes: the alternation, resuming, samples, pictures, the alarm."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resuming import assert_resumes

import scratchgen as sg
from scratchgen import Generator, data
from scratchgen.recipes import find
from scratchgen.recipes.adversarial import AdversarialRecipe
from scratchgen.recipes.judges import ImageJudge, PointJudge, StackedJudge, judge_of

SMALL: dict[str, Any] = {"steps": 40, "width": 8, "batch_size": 32, "latent": 4}
KINDS = [
    ("gan", "ring8", {"packed": 2}),
    ("gan", "digits", {"norm": "batch", "instance_noise": 0.1, "smooth": 0.1, "hidden": 16}),
    ("gan", "digits", {"network": "mlp", "norm": "spectral", "loss": "hinge", "gain": 3.0}),
    ("wgan", "moons", {"patience": False}),
    ("wgan-gp", "grid25", {}),
    ("wgan-gp", "digits", {"network": "conv", "norm": "layer", "penalty": "r1"}),
    ("cgan", "digits", {}),
    ("cgan", "digits", {"condition": "auxiliary", "loss": "hinge"}),
]


def recipe(model: str, name: str, seed: int = 0, **changes: Any) -> AdversarialRecipe:
    kind = find(model)
    made = kind(kind.configure("tiny", name, **{**SMALL, **changes}), data.load(name), sg.cpu, seed)
    assert isinstance(made, AdversarialRecipe)
    return made


@pytest.mark.parametrize(("model", "name", "changes"), KINDS)
def test_training_goes_on_bit_identically_from_a_checkpoint(
    model: str, name: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    assert_resumes(lambda: recipe(model, name, **changes), tmp_path)


def test_the_opponent_step_leaves_the_generator_alone_and_the_other_way_round() -> None:
    made = recipe("gan", "ring8")
    made.step()
    real, label = made._real()
    with sg.no_grad():
        fake = made.generate(made._noise(len(real)), label)
    weights = {key: p.numpy(force=True).copy() for key, p in made.model.named_parameters()}
    loss, _ = made.opponent_loss(real, fake, label)
    made._update(made.opponent_optimizer, loss)
    for key, p in made.model.named_parameters():
        np.testing.assert_array_equal(p.numpy(force=True), weights[key])


def test_real_and_generated_samples_have_batch_statistics_of_their_own() -> None:
    """One batch norm pass on a mixed batch would tell the discriminator apart what the batch holds."""
    made = recipe("gan", "digits")
    seen: list[int] = []
    made.opponent.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    real, label = made._real()
    with sg.no_grad():
        fake = made.generate(made._noise(len(real)), label)
    made.opponent_loss(real, fake, label)
    assert seen == [len(real), len(fake)]


def test_with_spectral_norm_the_gain_bounds_the_slope_of_the_discriminator() -> None:
    made: Any = recipe("gan", "grid25", steps=300, norm="spectral", loss="hinge", gain=50.0, opponent_steps=3)
    for _ in range(100):
        made.step()
    points = made._real()[0]
    with sg.no_grad():
        here, there = (made._logits(points + shift) for shift in (0.0, sg.tensor([0.003, 0.004])))
    slope = (abs(there - here) / 0.005).numpy().max()
    assert 1 < slope <= 50 * 1.02  # the power method comes near the largest singular value from below


def test_the_critic_takes_the_steps_it_is_given() -> None:
    made = recipe("wgan", "moons")
    counted: list[int] = []
    made.after_opponent = lambda: counted.append(1)  # type: ignore[method-assign]
    made.step()
    assert len(counted) == 100
    made.steps_done = 30
    counted.clear()
    made.step()
    assert len(counted) == 5


def test_the_critics_estimate_is_held_against_the_exact_distance(tmp_path: Path) -> None:
    made: Any = recipe("wgan", "ring8", steps=100, patience=False)
    estimates = [made.step()["wasserstein"] for _ in range(5)]
    assert made.distances.steps == [2, 4]
    assert made.distances.estimates == pytest.approx([sum(estimates[:2]) / 2, sum(estimates[2:4]) / 2])
    made.step()
    assert made._exact_distance() == pytest.approx(made.distances.exact[-1])
    x = made.dataset.trainval.x[:1000] / made.scale
    z = sg.zeros(1, 2)
    made.model = lambda noise: sg.as_tensor(x + np.float32([0.3, 0.4]))
    made.model.parameters = lambda: iter([z])
    assert made._exact_distance() == pytest.approx(0.5, abs=1e-5)  # a shift is the cheapest way
    made.distances.estimates, made.distances.exact = [3.0, 2.0, 2.5], [6.0, 4.0, 5.0]
    assert made.distances.rank_correlation() == pytest.approx(1.0)
    made.distances.draw(tmp_path / "distance.png")
    assert (tmp_path / "distance.png").exists()


@pytest.mark.parametrize("model", ["gan", "wgan", "wgan-gp"])
def test_both_networks_of_images_take_a_dense_layer(model: str) -> None:
    made = recipe(model, "digits", hidden=16, norm="none") if model != "wgan" else recipe(model, "digits", hidden=16)
    made.step()
    for network in (made.model, made.opponent):
        assert any(16 in p.shape and p.ndim == 2 for p in network.parameters())


def test_clipping_holds_after_each_step() -> None:
    made = recipe("wgan", "moons", patience=False, clip=0.05)
    made.step()
    assert max(abs(p.numpy(force=True)).max() for p in made.opponent.parameters()) <= np.float32(0.05)


def test_samples_are_in_the_units_of_the_data_and_repeat() -> None:
    points = recipe("wgan-gp", "grid25")
    first, again, other = (points.sample(50, Generator(seed))["samples"] for seed in (1, 1, 2))
    assert first.shape == (50, 2)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    images = recipe("cgan", "digits").sample(23, Generator(0))
    assert images["samples"].shape == (23, 1, 8, 8)
    assert 0 <= images["samples"].min() < images["samples"].max() <= 1
    np.testing.assert_array_equal(images["labels"], np.arange(23) % 10)
    threes = recipe("cgan", "digits").sample(5, Generator(0), label=3)
    np.testing.assert_array_equal(threes["labels"], 3)
    with pytest.raises(ValueError, match="label=11: the classes are 0 to 9"):
        recipe("cgan", "digits").sample(5, Generator(0), label=11)


@pytest.mark.parametrize("model", ["wgan-gp", "cgan"])
def test_standing_statistics_are_of_the_averaged_weights_and_leave_the_running_ones(model: str) -> None:
    made: Any = recipe(model, "digits")
    for _ in range(5):
        made.step()
    before = {key: t.numpy().copy() for key, t in made.model.state_dict().items()}
    z, label = made._noise(4000), sg.as_tensor(np.resize(made.dataset.trainval.labels, 4000))
    drawn = {}
    for standing in (0, 4000):
        made.config = dataclasses.replace(made.config, standing=standing)
        with made.averaged():
            assert not made.model.training
            drawn[standing] = made.generate(z, label).numpy()
    with made.averaged():
        np.testing.assert_array_equal(made.generate(z, label).numpy(), drawn[4000])  # of the same draws
    for key, t in made.model.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), before[key], err_msg=key)
    with made.average.swapped(), sg.no_grad():
        made.model.train()
        whole = made.generate(z, label).numpy()  # by the statistics of this one large batch
    assert np.abs(drawn[4000] - whole).mean() < 0.01
    assert np.abs(drawn[0] - whole).mean() > 0.05


def test_dequantised_images_are_brought_back_to_their_grey_levels() -> None:
    made = recipe("wgan-gp", "digits", dequantise=True)
    seen, labels = made._real()
    noisy = seen.numpy()
    made.generate = lambda z, label: seen  # type: ignore[method-assign]
    drawn = made.draw(made._noise(len(labels)))
    assert {x.tobytes() for x in drawn} <= {x.tobytes() for x in made.dataset.trainval.x}
    # Black is -1, the end of tanh, and noise reaches half a level to both sides of it.
    black = noisy[drawn == 0]
    assert black.mean() == pytest.approx(-1, abs=0.005)
    assert black.min() == pytest.approx(-1 - 1 / 16, abs=1e-3)
    assert black.max() == pytest.approx(-1 + 1 / 16, abs=1e-3)


def test_the_alarm_rings_when_modes_are_lost(caplog: pytest.LogCaptureFixture) -> None:
    made = recipe("wgan-gp", "ring8")
    data_rows = made.dataset.trainval.x
    made.sample = lambda count, generator: {"samples": data_rows[-count:]}  # type: ignore[assignment,misc]
    assert made.validate()["coverage"] > 0.9
    assert not caplog.records
    made.sample = lambda count, generator: {"samples": data_rows[:1].repeat(count, 0)}  # type: ignore[assignment,misc]
    with caplog.at_level(logging.WARNING, "scratchgen"):
        made.validate()
    assert "the generator is collapsing" in caplog.text


@pytest.mark.parametrize(("model", "name"), [("gan", "ring8"), ("wgan", "digits"), ("cgan", "digits")])
def test_pictures(model: str, name: str, tmp_path: Path) -> None:
    recipe(model, name).preview(tmp_path, 7)
    expected = {"samples.png", "samples/step-000007.png"}
    expected |= {"interpolation.png", "nearest.png"} if name == "digits" else set()
    expected |= {"critic-weights.png"} if model == "wgan" else set()
    expected |= {"same-noise.png"} if model == "cgan" else set()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")} == expected


def test_the_conditional_gan_refuses_networks_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="convolutional networks only, got network=mlp"):
        recipe("cgan", "digits", network="mlp")


def test_every_preset_configures() -> None:
    for model in ("gan", "wgan", "wgan-gp", "cgan"):
        kind = find(model)
        for preset, name in itertools.product(kind.presets, kind.data_names):
            if name in kind.presets[preset] or "*" in kind.presets[preset]:
                assert kind.configure(preset, name).steps > 0


# --- the judges


def test_the_density_itself_is_judged_well_and_one_gaussian_badly() -> None:
    judge = judge_of(data.load("grid25"))
    assert isinstance(judge, PointJudge)
    found = judge.baselines()
    truth, gaussian = found["the density itself"], found["one Gaussian"]
    assert truth["modes"] == 25
    assert truth["high_quality"] > 0.98
    assert truth["reverse_kl"] < 0.02
    assert abs(truth["c2st"] - 0.5) < 0.05 < gaussian["c2st"] - 0.5
    assert gaussian["high_quality"] < 0.1


def test_the_judge_of_images_names_missing_classes() -> None:
    dataset = data.load("digits")
    judge = judge_of(dataset)
    assert isinstance(judge, ImageJudge)
    rows = dataset.trainval
    some = rows.x[rows.labels < 5][:300]
    assert judge.evaluate(rows.x[:300])["class_min_ratio"] > 0.5
    assert judge.evaluate(some)["class_min_ratio"] == 0


def test_few_test_images_are_held_against_several_draws_and_figures_are_their_means() -> None:
    judge: Any = judge_of(data.load("digits"))
    assert judge.samples == 5 * 360
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    judge._evaluate = lambda x, labels: seen.append((x, labels)) or {"fd": float(len(seen)), "fd_se": 0.5}
    x, labels = np.arange(800.0), np.arange(800)
    assert judge.evaluate(x, labels) == {"fd": 1.5, "fd_se": 0.5, "draws": 2.0}  # 80 are no draw
    for i, (part, own) in enumerate(seen):
        np.testing.assert_array_equal(part, x[360 * i : 360 * (i + 1)])
        np.testing.assert_array_equal(own, labels[360 * i : 360 * (i + 1)])
    assert judge.evaluate(x[:300], labels[:300])["draws"] == 1
    assert judge.evaluate(np.zeros(9999), np.zeros(9999))["draws"] == 5
    assert judge_of(data.load("stacked-digits")).samples == 26_000


def test_the_judge_of_stacked_digits_counts_triples() -> None:
    dataset = data.load("stacked-digits")
    judge = judge_of(dataset)
    assert isinstance(judge, StackedJudge)
    found = judge.baselines()["training images"]
    assert found["modes"] == 1000
    assert found["reverse_kl"] < 0.05


def test_what_has_no_judge_is_named() -> None:
    with pytest.raises(TypeError, match=r"'reverse' .* have no judge; images and points do"):
        judge_of(data.load("reverse"))
