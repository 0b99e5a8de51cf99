"""The recipes of RealNVP and Glow: resuming, bits, quadrature, samples, pictures, settings that make no sense."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from resuming import assert_resumes

import scratchgen as sg
from scratchgen import Generator, data
from scratchgen.data import shapes
from scratchgen.recipes import find, flows_points, glow_edits
from scratchgen.recipes.flows import FlowRecipe
from scratchgen.recipes.flows_points import by_quadrature, one_gaussian

SMALL: dict[str, dict[str, Any]] = {
    "realnvp": {"steps": 40, "batch_size": 32, "couplings": 4, "hidden": (16,), "width": 8, "blocks": 1},
    "glow": {"steps": 40, "batch_size": 32, "depth": 2, "width": 8},
}
KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("realnvp", "moons", {"network": "dense"}),
    ("realnvp", "grid25", {"network": "spline", "bins": 8}),
    ("realnvp", "digits", {"conditional": True, "noise": "variational"}),
    ("realnvp", "digits", {"network": "conv", "bits": 3, "hold_out": True}),
    ("glow", "digits", {"permute": "plain-conv", "conditional": True}),
    ("glow", "digits", {"levels": 2, "squeeze": 2, "optimizer": "adamax", "weight_decay": 0.0, "recompute": True}),
    ("glow", "digits", {"coupling": "additive", "permute": "shuffle", "pixels": "centre", "noise": "variational"}),
]


def recipe(model: str, name: str, preset: str = "tiny", **changes: Any) -> FlowRecipe:
    kind = find(model)
    made = kind(kind.configure(preset, name, **{**SMALL[model], **changes}), data.load(name), sg.cpu, 0)
    assert isinstance(made, FlowRecipe)
    return made


@pytest.mark.parametrize(("model", "name", "changes"), KINDS)
def test_training_goes_on_bit_identically_from_a_checkpoint(
    model: str, name: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    # Its actnorms have not started: those of the checkpoint have.
    assert_resumes(lambda: recipe(model, name, **changes), tmp_path, astray=False)


@pytest.mark.parametrize("model", ["realnvp", "glow"])
def test_training_lowers_the_bits(model: str) -> None:
    made = recipe(model, "digits", steps=60, warmup_steps=10, learning_rate=5e-3)
    bits = [made.step()["bits_per_dim"] for _ in range(60)]
    assert bits[-1] < bits[0] - 0.1
    assert bits[-1] < math.log2(17)  # of uniform pixels


def test_bits_are_those_of_whole_levels() -> None:
    """A flow that does nothing but centre, on pixels: N(0, I) in known units."""
    made = recipe("glow", "digits", pixels="centre")
    made.model.density.flow = made.model.density.flow.layers[0]
    images = made.dataset.test.x[:5]
    k = made.whole(images)
    np.testing.assert_array_equal(k.numpy(), np.rint(images * 16))
    drawn = made.log_prob(images, made.dataset.test.labels[:5], Generator(3)).numpy()
    u = sg.rand(k.shape, generator=Generator(3)).numpy()
    y = ((k.numpy() + u) / 17 - 0.5).reshape(5, -1)
    np.testing.assert_allclose(drawn, scipy.stats.norm.logpdf(y).sum(1) - 64 * math.log(17), rtol=1e-5)


def test_fewer_bits_keep_the_order_of_the_levels() -> None:
    made = recipe("glow", "digits", bits=2)
    every = made.whole(np.arange(17, dtype=np.float32).reshape(-1, 1, 1, 1) / 16).numpy().ravel()
    assert made.levels == 4
    assert set(every) == {0, 1, 2, 3}
    assert (np.diff(every) >= 0).all()
    samples = made.sample(20, Generator(0))["samples"]
    assert set(np.unique(np.rint(samples * 3))) <= {0, 1, 2, 3}
    assert made.judge.train.max() == 1  # type: ignore[attr-defined]


def test_latents_give_back_the_image() -> None:
    for model, changes in (("realnvp", {}), ("glow", {"levels": 2, "squeeze": 2})):
        made = recipe(model, "digits", **changes)
        for _ in range(3):
            made.step()
        test = made.dataset.test
        with made.averaged():
            again = made.decode(made.encode(test.x[:50], test.labels[:50]))
        np.testing.assert_array_equal(again, test.x[:50])


def test_images_that_overflow_are_black_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    made = recipe("glow", "digits")
    with made.averaged():
        z = made.density.noise(3, Generator(0)).numpy()
        z[1] = np.inf
        with np.errstate(invalid="ignore", over="ignore"):
            images = made.decode(sg.tensor(z))
    assert (images[1] == 0).all()
    assert images[[0, 2]].max() > 0
    assert "1 of 3 images overflowed" in caplog.text


# --- points


@pytest.mark.parametrize("name", ["moons", "rings", "grid25"])
def test_quadrature_knows_the_density_and_the_gaussian(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows_points, "FINENESS", 2)
    dataset = data.load(name)
    found = by_quadrature(dataset.density.log_density, dataset.density)
    assert found["kl"] == pytest.approx(0, abs=1e-12)
    assert found["mass"] == pytest.approx(1, abs=1e-6)
    x = dataset.density.sample(20_000, np.random.default_rng(0))
    exact = scipy.stats.multivariate_normal(dataset.trainval.x.mean(0), np.cov(dataset.trainval.x.T))
    gaps = dataset.density.log_density(x) - exact.logpdf(x)
    assert one_gaussian(dataset)["kl"] == pytest.approx(gaps.mean(), abs=5 * gaps.std() / math.sqrt(len(x)))


def test_an_untrained_flow_on_the_plane_integrates_to_one() -> None:
    made = recipe("realnvp", "moons")
    for _ in range(10):
        made.step()
    with made.averaged():
        found = by_quadrature(made.log_density, made.dataset.density)
    assert found["kl"] > 0.05
    assert 0.9 < found["mass"] < 1.01  # some of its mass is outside the box
    baselines = made.baselines()
    assert baselines["one Gaussian"]["kl"] > 0.1


# --- evaluation and samples


def test_bounds_of_the_evaluation() -> None:
    made = recipe("realnvp", "digits")
    for _ in range(5):
        made.step()
    with made.averaged():
        found = made._likelihoods()
    assert found["iw_64"] < found["bits_per_dim"]
    assert 0 < found["bits_per_dim_se"] < 0.1
    assert made.validate() == {}


def test_class_flip_counts_what_the_classifier_sees() -> None:
    """With pixels for latents and a classifier that says 0: nine of the ninety pairs go there."""
    dataset = data.load("digits")

    class Pixels:
        def encode(self, images: np.ndarray, labels: np.ndarray) -> sg.Tensor:
            return sg.tensor(images.reshape(len(images), -1))

        def decode(self, z: sg.Tensor, labels: np.ndarray | None = None) -> np.ndarray:
            return z.numpy().reshape(-1, 1, 8, 8)

    class Zero:
        def predict(self, images: np.ndarray) -> np.ndarray:
            return np.zeros(len(images), np.int64)

    found = glow_edits.class_flip(Pixels(), dataset.trainval, dataset.test, Zero())  # type: ignore[arg-type]
    assert found == pytest.approx(0.1, abs=1e-6)
    means = glow_edits.means_of(Pixels(), dataset.trainval, dataset.trainval.labels)
    rows, wanted, images = glow_edits.moved(Pixels(), means, dataset.test, dataset.test.labels)
    own = dataset.test.labels[rows]
    assert len(rows) == 10 * 9 * glow_edits.ROWS
    assert (own != wanted).all()
    ways = means.numpy()[wanted] - means.numpy()[own]
    expected = dataset.test.x[rows].reshape(len(rows), -1) + glow_edits.STRENGTH * ways
    np.testing.assert_allclose(images.reshape(len(rows), -1), expected, rtol=1e-6, atol=1e-6)


def scenes(rows: np.ndarray, seed: int | None = None) -> shapes.CaptionedImages:
    """Pictures of combinations of attributes, given by their numbers; with a seed, of varied places and shades."""
    attributes = np.stack(np.unravel_index(rows, shapes.COUNTS), 1)
    variation = None if seed is None else shapes.random_variation(len(rows), np.random.default_rng(seed))
    captions = [shapes.caption(row) for row in attributes]
    pixels = shapes.render(attributes, variation)
    return shapes.CaptionedImages(pixels, attributes[:, 0], 256, attributes, captions)


def test_attribute_edits_are_perfect_where_latents_are_the_attributes() -> None:
    rng = np.random.default_rng(0)
    train, test = (scenes(rng.integers(0, shapes.COMBINATIONS, n), seed=n) for n in (1000, 150))
    edges = np.cumsum((0, *shapes.COUNTS))

    class OneHot:
        """The latent is the one-hot code of every attribute; ``leak``: the colour moves the background too."""

        leak = False

        def encode(self, images: np.ndarray, labels: np.ndarray) -> sg.Tensor:
            own = shapes.recognise(images).attributes
            hot = [np.eye(n)[own[:, i]] - 1 / n for i, n in enumerate(shapes.COUNTS)]
            return sg.tensor(np.concatenate(hot, 1))

        def decode(self, z: sg.Tensor, labels: np.ndarray | None = None) -> np.ndarray:
            parts = [z.numpy()[:, a:b] for a, b in itertools.pairwise(edges)]
            own = np.stack([part.argmax(1) for part in parts], 1)
            if self.leak:
                own[:, 4] = own[:, 1] % 4
            return (shapes.render(own) / 255).astype(np.float32)

    editor = OneHot()
    found = glow_edits.attribute_edits(editor, train, test)
    for key in ("edit_colour", "edit_size", "global_colour", "global_size"):
        assert found[key] > 0.97
        assert found[f"{key}_others"] < 0.03
    editor.leak = True
    assert glow_edits.attribute_edits(editor, train, test)["edit_colour_others"] > 0.5


def test_means_of_scenes_go_from_the_sum_of_their_parts_to_their_own_images() -> None:
    """With latents that are no sum of what colour and background bring: a number for both together."""
    rng, codes = np.random.default_rng(0), np.random.default_rng(1).standard_normal((32, 3)).astype(np.float32)
    seen = rng.integers(0, shapes.COMBINATIONS, 600)
    attributes = np.stack(np.unravel_index(seen, shapes.COUNTS), 1)
    unseen = np.array([0, 0, 0, 4, 0])  # a scene, at any position
    train = scenes(seen[(attributes != unseen)[:, [0, 1, 2, 4]].any(1)])

    class Codes:
        def encode(self, images: np.ndarray, labels: np.ndarray) -> sg.Tensor:
            own = shapes.recognise(images).attributes
            return sg.tensor(codes[own[:, 1] * 4 + own[:, 4]])

        def decode(self, z: sg.Tensor, labels: np.ndarray | None = None) -> np.ndarray:
            raise NotImplementedError

    means = glow_edits.SceneMeans(Codes(), train)
    asked, counts = np.unique(train.attributes[:, [0, 1, 2, 4]], axis=0, return_counts=True)
    asked = np.insert(asked, 3, 4, axis=1)
    fit = np.einsum("nk,nkd->nd", glow_edits._one_hot(asked), means.effects[asked[:, 0] * 2 + asked[:, 2]])
    truth = codes[asked[:, 1] * 4 + asked[:, 4]]
    assert abs(fit - truth).max() > 0.5
    share = (counts / (counts + glow_edits.PRIOR))[:, None]
    np.testing.assert_allclose(means(asked), fit + share * (truth - fit), atol=1e-5)
    alone = means(unseen[None])  # has what its parts bring, and no images of its own
    np.testing.assert_allclose(alone[0], means.effects[0, 0] + means.effects[0, 8], atol=1e-6)


def test_shapes_need_directions_of_their_own() -> None:
    """With pixels for latents: a colour is painted where the shape is, or in the mean of all shapes."""
    rng = np.random.default_rng(0)
    train = scenes(rng.integers(0, shapes.COMBINATIONS, 2000), seed=1)
    test = scenes(rng.integers(0, shapes.COMBINATIONS, 100), seed=2)

    class Pixels:
        def encode(self, images: np.ndarray, labels: np.ndarray) -> sg.Tensor:
            return sg.tensor(images.reshape(len(images), -1))

        def decode(self, z: sg.Tensor, labels: np.ndarray | None = None) -> np.ndarray:
            return z.numpy().reshape(-1, 3, 32, 32).clip(0, 1)

    found = glow_edits.attribute_edits(Pixels(), train, test)
    for name in ("colour", "size"):
        assert found[f"edit_{name}"] > 0.95
        assert found[f"edit_{name}_others"] < 0.05
    assert found["global_size"] < 0.6
    # The mean of a scene is its picture in the middle, whether it was shown or not.
    middle = scenes(np.arange(0, shapes.COMBINATIONS, 5))
    middle = middle.take(np.flatnonzero(middle.attributes[:, 3] == 4))
    means = glow_edits.SceneMeans(Pixels(), train)
    np.testing.assert_allclose(means(middle.attributes), middle.x.reshape(len(middle), -1), atol=0.06)


def test_samples_repeat_and_follow_the_options() -> None:
    made = recipe("realnvp", "digits", conditional=True)
    for _ in range(3):
        made.step()
    first, again, other = (made.sample(12, Generator(seed)) for seed in (1, 1, 2))
    assert first["samples"].shape == (12, 1, 8, 8)
    assert 0 <= first["samples"].min() < first["samples"].max() <= 1
    np.testing.assert_array_equal(first["labels"], np.arange(12) % 10)
    np.testing.assert_array_equal(first["samples"], again["samples"])
    assert (first["samples"] != other["samples"]).any()
    cold = made.sample(200, Generator(1), temperature=0.1)["samples"].std(0).mean()
    assert cold < 0.5 * made.sample(200, Generator(1))["samples"].std(0).mean()
    assert set(made.sample(3, Generator(0), label=4)["labels"]) == {4}


def test_options_that_make_no_sense_are_named() -> None:
    with pytest.raises(ValueError, match=r"temperature=0.0: must be above 0"):
        recipe("realnvp", "moons").sample(1, Generator(0), temperature=0.0)
    with pytest.raises(ValueError, match="label=1: this model knows no classes"):
        recipe("realnvp", "digits").sample(1, Generator(0), label=1)
    with pytest.raises(ValueError, match="label=10: the classes are 0 to 9"):
        recipe("realnvp", "digits", conditional=True).sample(1, Generator(0), label=10)
    with pytest.raises(ValueError, match="network=conv is for images"):
        recipe("realnvp", "moons", network="conv")
    with pytest.raises(ValueError, match="network=spline is for points"):
        recipe("realnvp", "digits", network="spline")
    with pytest.raises(ValueError, match="conditional, bits and noise are settings for images"):
        recipe("realnvp", "moons", noise="variational")
    with pytest.raises(ValueError, match="weight_decay is decoupled, which Adamax does not know"):
        recipe("glow", "digits", optimizer="adamax", weight_decay=0.1)


@pytest.mark.parametrize(("model", "name"), [("realnvp", "moons"), ("realnvp", "digits"), ("glow", "digits")])
def test_pictures(model: str, name: str, tmp_path: Path) -> None:
    recipe(model, name).preview(tmp_path, 7)
    expected = {"samples.png", "samples/step-000007.png"}
    expected |= {"temperature.png", "interpolation.png", "attribute.png"} if name == "digits" else {"density.png"}
    expected |= {"classes.png"} if model == "glow" else set()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")} == expected


@pytest.mark.parametrize("model", ["realnvp", "glow"])
def test_every_preset_builds_its_flow(model: str) -> None:
    kind = find(model)
    shapes = {"digits": (1, 8, 8), "shapes": (3, 32, 32)} | dict.fromkeys(("moons", "rings", "grid25"), (2,))
    for preset, name in itertools.product(kind.presets, kind.data_names):
        choices, shape = kind.presets[preset], shapes.get(name, (1, 28, 28))
        if name not in choices and len(shape) == 1:
            continue
        config = kind.configure(preset, name, width=8, **({"depth": 1} if model == "glow" else {"blocks": 1}))
        made = object.__new__(kind)  # without its data
        made.__dict__.update(config=config, shape=shape, dims=math.prod(shape), classes=0, is_image=len(shape) == 3)
        flow = made.build()  # type: ignore[attr-defined]
        z, log_det = flow.eval()(sg.zeros(2, *shape))
        assert z.flatten(1).shape == (2, math.prod(shape))
        assert log_det.shape == (2,)
