"""The VAE's recipe: what it shows the model, how it trains, what it reports."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import Generator, data, metrics
from scratchgen.recipes.vae import VAEConfig, VAERecipe, build


def recipe(seed: int = 0, **changes: Any) -> VAERecipe:
    """A recipe for the digits, with a small network."""
    config = VAERecipe.configure("tiny", "digits", **{"hidden": (32,), "latent": 4, **changes})
    return VAERecipe(config, data.load("digits"), sg.cpu, seed)


def train(made: VAERecipe, steps: int) -> list[dict[str, float]]:
    return [made.step() for _ in range(steps)]


def snapshot(made: VAERecipe) -> str:
    """All that training depends on, as text."""

    def plain(value: Any) -> Any:
        return value.numpy(force=True).tolist() if isinstance(value, sg.Tensor) else value

    return json.dumps({name: part.state_dict() for name, part in made.state().items()}, default=plain)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> VAERecipe:
    """A conditional VAE, trained for some seconds, and a cache of its own for the classifier that judges it."""
    made = recipe(
        conditional=True, hidden=(128,), latent=8, dropout=0.0, learning_rate=3e-3, steps=700, warmup_steps=100,
        evaluation_samples=20,
    )  # fmt: skip
    train(made, 700)
    cache = tmp_path_factory.mktemp("cache")
    made.judge.classifier = metrics.feature_classifier(
        "digits", made.train_images, made.dataset.trainval.labels, cache=cache
    )
    return made


# --- what the model is shown


def test_digits_are_one_from_half_grey_on() -> None:
    made = recipe()
    np.testing.assert_array_equal(made.test_images, made.dataset.test.pixels >= 8)
    assert made.test_images.dtype == np.float32


def test_dynamic_binarisation_draws_anew_for_training_and_once_for_testing() -> None:
    first, second = recipe(0, binarise="dynamic"), recipe(1, binarise="dynamic")
    np.testing.assert_array_equal(first.test_images, second.test_images)
    grey = np.tile(first.dataset.test.x[:1], (20_000, 1, 1, 1))
    drawn = first._observe(grey, first.generator).numpy()
    assert set(np.unique(drawn)) == {0, 1}
    error = np.sqrt(grey[0] * (1 - grey[0]) / 20_000)
    assert (np.abs(drawn.mean(0) - grey[0]) <= 4.5 * error).all()
    assert (drawn[0] != drawn[1]).any()
    images = first.dataset.train.x[:8]
    assert (first._observe(images, first.generator).numpy() != first._observe(images, first.generator).numpy()).any()


def test_gaussian_pixels_are_dequantised_levels() -> None:
    made = recipe(likelihood="gaussian")
    levels = np.floor(made.test_images * 17)
    np.testing.assert_array_equal(levels, made.dataset.test.pixels)
    offset = made.test_images * 17 - levels
    assert abs(offset.mean() - 0.5) < 0.01
    assert abs(offset.var() - 1 / 12) < 0.002


def test_all_training_rows_are_used_unless_some_are_held_out() -> None:
    assert recipe().batches.rows == 1437
    made = recipe(hold_out=True)
    assert made.batches.rows == 1437 - len(made.dataset.validation)
    assert recipe().validate() == {}
    assert made.validate().keys() == {"neg_elbo", "reconstruction", "kl"}


# --- training


def test_a_step_reports_the_terms_of_the_bound() -> None:
    reports = train(recipe(warmup_steps=0), 60)
    for report in reports:
        assert report["neg_elbo"] == pytest.approx(report["reconstruction"] + report["kl"], rel=1e-12)
    assert reports[0]["reconstruction"] == pytest.approx(64 * np.log(2), rel=0.05)
    assert reports[-1]["neg_elbo"] < reports[0]["neg_elbo"] - 5


def test_the_kl_is_warmed_up() -> None:
    made = recipe(warmup_steps=4, beta=2.0)
    betas = []
    for _ in range(6):
        betas.append(made._beta())
        made.step()
    assert betas == [0, 0.5, 1, 1.5, 2, 2]
    assert recipe(warmup_steps=0)._beta() == 1


def test_the_learning_rate_falls_to_zero_along_a_cosine() -> None:
    made = recipe(steps=20)
    rates = [made.schedule.get_last_lr()[0] for _ in range(20) if made.step()]
    np.testing.assert_allclose(rates, 1e-3 * 0.5 * (1 + np.cos(np.pi * np.arange(1, 21) / 20)), atol=1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        {"importance_samples": 5},
        {"likelihood": "gaussian", "variance": "fixed"},
        {"likelihood": "gaussian", "variance": "pixel"},
        {"network": "conv", "channels": (8, 16)},
        {"network": "conv", "channels": (8, 16), "conditional": True, "free_bits": 0.1},
        {"binarise": "dynamic", "beta": 4.0},
    ],
    ids=lambda changes: "-".join(f"{value}" for value in changes.values()),
)
def test_every_kind_of_vae_learns(changes: dict[str, Any]) -> None:
    made = recipe(warmup_steps=0, learning_rate=3e-3, dropout=0.0, **changes)
    losses = [next(iter(report.values())) for report in train(made, 120)]
    assert np.mean(losses[-20:]) < np.mean(losses[:5]) - 8


def test_the_same_seed_trains_the_same_model() -> None:
    first, again, other = ((train(made := recipe(seed), 3), snapshot(made)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_looking_changes_nothing(tmp_path: Path) -> None:
    made = recipe(hold_out=True)
    train(made, 2)
    before, drawn = snapshot(made), sg.default_generator.counter
    made.validate()
    made.preview(tmp_path, 2)
    made.sample(3, Generator(0))
    assert snapshot(made) == before
    assert sg.default_generator.counter == drawn
    assert made.model.training


# --- evaluation


def test_evaluation_of_a_conditional_vae_generates_the_class_asked_for(conditional: VAERecipe) -> None:
    found = conditional.evaluate()
    assert found["class_accuracy_test"] > 0.9  # of real images, by the classifier that judges
    assert found["class_accuracy"] > found["class_accuracy_test"] - 0.06
    assert found["neg_elbo"] == pytest.approx(found["reconstruction"] + found["kl"])
    assert found["iw_20"] < found["neg_elbo"] < 21
    assert 1 <= found["active_units"] <= 8
    expected = {"fd", "nfd", "one_nn", "c2st", "coverage", "memorisation"}
    for key in expected | {"neg_elbo", "iw_20"}:
        assert found[f"{key}_se"] >= 0
    assert expected <= found.keys()
    assert all(np.isfinite(value) for value in found.values())


def test_baselines_are_exact(conditional: VAERecipe) -> None:
    found = conditional.baselines()
    independent, mixture = found["independent pixels"], found["mixture of 100 Bernoullis"]
    p = (conditional.train_images.reshape(1437, 64).sum(0, np.float64) + 0.5) / 1438
    nats = -np.where(conditional.test_images.reshape(360, 64) > 0, np.log(p), np.log1p(-p)).sum(1)
    assert independent["neg_elbo"] == independent["iw_20"] == pytest.approx(nats.mean(), rel=1e-9)
    assert independent["neg_elbo_se"] == pytest.approx(nats.std(ddof=1) / np.sqrt(360), rel=1e-9)
    assert independent["neg_elbo"] == pytest.approx(25.21, abs=0.01)
    assert mixture["neg_elbo"] == pytest.approx(17.9, abs=0.3)
    assert {"fd", "c2st", "coverage"} <= mixture.keys()


def test_gaussian_baselines_and_bits() -> None:
    made = recipe(likelihood="gaussian", latent=8)
    found = made.baselines()
    assert found["one Gaussian"]["neg_elbo"] < found["probabilistic PCA"]["neg_elbo"]
    assert found["one Gaussian"]["bits_per_dim"] == pytest.approx(2.94, abs=0.1)
    train(made, 30)
    with made._evaluating():
        bounds = made._bounds()
    bits = (bounds["neg_elbo"] / 64 + np.log(17)) / np.log(2)
    assert bounds["bits_per_dim"] == pytest.approx(bits, rel=1e-9)


def test_reference_figures_only_where_they_compare() -> None:
    assert recipe().references() == []
    (reference,) = _on_mnist().references()
    assert (reference.metric, reference.value) == ("iw_200", 89.78)
    assert _on_mnist(likelihood="gaussian").references() == []


def _on_mnist(**changes: Any) -> VAERecipe:
    made = recipe(**changes)
    made.dataset = dataclasses.replace(made.dataset, name="mnist")
    return made


# --- samples and pictures


def test_samples_are_images_and_repeat_with_the_generator(conditional: VAERecipe) -> None:
    drawn = conditional.sample(23, Generator(5))
    assert drawn["samples"].shape == (23, 1, 8, 8)
    assert drawn["samples"].dtype == np.float32
    assert 0 <= drawn["samples"].min() < drawn["samples"].max() <= 1
    np.testing.assert_array_equal(drawn["labels"], np.arange(23) % 10)
    np.testing.assert_array_equal(conditional.sample(23, Generator(5))["samples"], drawn["samples"])
    assert (conditional.sample(23, Generator(6))["samples"] != drawn["samples"]).any()
    pixels = conditional.sample(23, Generator(5), pixels="drawn")["samples"]
    assert set(np.unique(pixels)) == {0, 1}


def test_one_class_can_be_asked_for(conditional: VAERecipe) -> None:
    drawn = conditional.sample(200, Generator(1), label=3, pixels="drawn")
    np.testing.assert_array_equal(drawn["labels"], 3)
    assert conditional.judge.classifier.accuracy(drawn["samples"], drawn["labels"]) > 0.8


def test_labels_that_make_no_sense(conditional: VAERecipe) -> None:
    with pytest.raises(ValueError, match="label=10: the classes are 0 to 9"):
        conditional.sample(1, Generator(0), label=10)
    with pytest.raises(ValueError, match="does not know classes; train one with conditional=true"):
        recipe().sample(1, Generator(0), label=1)


@pytest.mark.parametrize("latent", [1, 2, 5])
def test_pictures(latent: int, tmp_path: Path) -> None:
    from PIL import Image

    made = recipe(latent=latent, conditional=latent == 5)
    made.preview(tmp_path, 7)
    expected = {"samples.png", "samples/step-000007.png", "reconstructions.png", "interpolation.png", "attribute.png"}
    expected |= {"latents.png"} if latent > 1 else set()
    expected |= {"latent-plane.png"} if latent == 2 else set()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")} == expected
    for name in expected:
        assert len(np.unique(np.asarray(Image.open(tmp_path / name)))) > 10, f"{name} shows nothing"


# --- configuration


def test_every_preset_builds_its_network() -> None:
    for preset, name in itertools.product(VAERecipe.presets, VAERecipe.data_names):
        config = VAERecipe.configure(preset, name)
        again = VAERecipe.configure(preset, name, **json.loads(json.dumps(dataclasses.asdict(config))))
        shape, label = (1, 8, 8) if name == "digits" else (1, 28, 28), sg.tensor([0, 9])
        model = build(again, shape, 10).eval()
        bound = model.elbo(sg.zeros(2, *shape), Generator(0), label if config.conditional else None)
        assert bound.kl.shape == (2, config.latent)
        assert bound.elbo.shape == (2,)


def test_the_full_preset_is_the_published_network() -> None:
    model = build(VAERecipe.configure("full", "mnist"), (1, 28, 28), 10)
    weights = [list(p.shape) for name, p in model.named_parameters() if name.endswith("weight")]
    assert weights == [[400, 784], [40, 400], [40, 400], [400, 40], [784, 400]]


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match=r"network=conv has one dense layer on either side of z, got hidden=\(4, 5\)"):
        VAEConfig(network="conv", hidden=(4, 5))
    with pytest.raises(ValueError, match="free_bits needs the KL of each unit"):
        VAEConfig(importance_samples=5, free_bits=0.1)


@pytest.mark.slow
def test_digits_reach_the_published_bar() -> None:
    """-ELBO <= 18.0 and IW-500 <= 17.3 nats; the best mixture of Bernoullis has 17.9 and no bound."""
    config = VAERecipe.configure("tiny", "digits")
    made = VAERecipe(config, data.load("digits"), sg.cpu, 0)
    train(made, config.steps)
    with made._evaluating():
        found = made._bounds()
    assert found["neg_elbo"] <= 18.0
    assert found["iw_500"] <= 17.3
