"""The vision transformer: its parts beside equal ones, positions for other sizes, rollout, the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resuming import assert_resumes

import scratchgen as sg
from scratchgen import Generator, data
from scratchgen.models.vit import ViT, patches
from scratchgen.nn import functional as F
from scratchgen.recipes.vit import ViTRecipe, mirrored, shifted

SMALL: dict[str, Any] = {"steps": 40, "layers": 2, "heads": 2, "width": 16, "hidden": 32}


def small(pool: str = "class") -> ViT:
    made = ViT((3, 8, 12), 4, 10, 2, 2, 16, 32, pool=pool).eval()  # type: ignore[arg-type]
    sg.nn.init.normal_(made.head.weight, 0.0, 0.1)
    return made


def recipe(**changes: Any) -> ViTRecipe:
    config = ViTRecipe.configure("tiny", "digits", **{**SMALL, **changes})
    return ViTRecipe(config, data.load("digits"), sg.cpu, 0)


def test_patches_in_reading_order() -> None:
    x = sg.arange(32).reshape(1, 2, 4, 4)
    found = patches(x, 2).numpy()
    assert found.shape == (1, 4, 8)
    assert found[0, 1].tolist() == [2, 3, 6, 7, 18, 19, 22, 23]  # top right, both channels
    with pytest.raises(ValueError, match="patches of 3 pixels do not divide an image of 4 x 4"):
        patches(x, 3)


def test_embedding_patches_is_a_convolution_of_their_stride() -> None:
    model, x = small(), sg.randn((2, 3, 8, 12))
    kernel = model.embed.weight.reshape(16, 3, 4, 4)
    expected = F.conv2d(x, kernel, model.embed.bias, stride=4).flatten(2).mT
    np.testing.assert_allclose(model.embed(patches(x, 4)).numpy(force=True), expected.numpy(force=True), atol=1e-5)


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_positions_are_what_tells_patches_apart(pool: str) -> None:
    model, x = small(pool), sg.randn((2, 3, 8, 12))
    moved = sg.cat([x[..., 4:], x[..., :4]], -1)  # the same patches in other places
    with sg.no_grad():
        assert np.abs(model(x).numpy() - model(moved).numpy()).max() > 1e-4
        first = int(pool == "class")
        model.places[:, first:] = 0
        np.testing.assert_allclose(model(x).numpy(), model(moved).numpy(), atol=1e-5)


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_positions_of_other_sizes_are_interpolated(pool: str) -> None:
    model = small(pool)
    first = int(pool == "class")
    with sg.no_grad():
        # A plane stays a plane: rows 0 and 1 become 1/4 and 3/4 steps apart, held at the edges.
        plane = sg.arange(2, dtype=sg.float32)[:, None].expand(2, 3).reshape(1, 6, 1)
        model.places[:, first:] = plane.expand(1, 6, 16)
        found = model.positions(4, 3).numpy()[0, first:, 0].reshape(4, 3)
        np.testing.assert_allclose(found, np.array([0, 0.25, 0.75, 1])[:, None] + np.zeros(3), atol=1e-6)
        assert model.positions(2, 3) is model.places
        assert model(sg.randn((1, 3, 16, 12))).shape == (1, 10)


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_rollout_is_a_distribution_over_patches(pool: str) -> None:
    model, x = small(pool), sg.randn((3, 3, 8, 12))
    flow = model.rollout(x).numpy(force=True)
    assert flow.shape == (3, 2, 3)
    assert (flow > 0).all()
    np.testing.assert_allclose(flow.sum((1, 2)), 1, rtol=1e-5)


def test_rollout_where_every_token_attends_evenly() -> None:
    model = small()
    for block in model.blocks:
        sg.nn.init.zeros_(block.attention.qkv.weight)
        sg.nn.init.zeros_(block.attention.qkv.bias)
    np.testing.assert_allclose(model.rollout(sg.randn((2, 3, 8, 12))).numpy(force=True), 1 / 6, rtol=1e-5)


def test_shifts_move_each_image_and_bring_in_zeros() -> None:
    images = np.arange(1, 2 * 4 * 5 + 1, dtype=np.float32).reshape(1, 2, 4, 5).repeat(400, 0)
    moved = shifted(images, 1, Generator(0))
    padded = np.pad(images[0], ((0, 0), (1, 1), (1, 1)))
    wanted = {padded[:, i : i + 4, j : j + 5].tobytes() for i in range(3) for j in range(3)}
    assert {image.tobytes() for image in moved} == wanted


def test_mirrored_images_are_half_of_all() -> None:
    images = np.arange(2 * 3 * 4, dtype=np.float32).reshape(1, 2, 3, 4).repeat(400, 0)
    found = mirrored(images, Generator(0))
    swapped = (found == images[..., ::-1]).all((1, 2, 3))
    np.testing.assert_array_equal(found[~swapped], images[~swapped])
    assert 160 < swapped.sum() < 240  # 4 standard deviations


# --- the recipe


def test_the_network_is_given_pixels_of_mean_0_and_standard_deviation_1() -> None:
    made = recipe()
    given: list[np.ndarray] = []
    patched = made.model.forward
    made.model.forward = lambda x: given.append(x.numpy()) or patched(x)  # type: ignore[func-returns-value,method-assign]
    made.logits(made.dataset.trainval.x)
    pixels = np.concatenate(given)
    assert abs(pixels.mean()) < 1e-5
    assert pixels.std() == pytest.approx(1, abs=1e-5)


def test_training_goes_on_bit_identically_from_a_checkpoint(tmp_path: Path) -> None:
    assert_resumes(lambda: recipe(shift=1, mirror=True, hold_out=True), tmp_path)


def test_digits_are_learnt_and_reported_beside_methods_without_a_network() -> None:
    made = recipe(steps=200, heads=4, width=64, hidden=128, learning_rate=3e-3, warmup_steps=10, dropout=0.0)
    for _ in range(200):
        made.step()
    found, counted = made.evaluate(), made.baselines()
    assert found["accuracy"] > 0.8
    assert found["nll"] < 0.9
    assert found["accuracy_se"] == pytest.approx(np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / 360))
    assert counted["logistic regression"]["accuracy"] > 0.94
    assert counted["3 nearest neighbours"]["accuracy"] > 0.97
    drawn = made.sample(50, Generator(0))
    assert drawn["samples"].shape == (50, 1, 8, 8)
    np.testing.assert_array_equal(drawn["labels"], made.logits(drawn["samples"]).argmax(1))


def test_the_first_loss_is_that_of_knowing_nothing() -> None:
    assert recipe(label_smoothing=0.0).step()["loss"] == pytest.approx(np.log(10), abs=1e-4)


def test_pictures(tmp_path: Path) -> None:
    recipe().preview(tmp_path, 7)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png")} == {"rollout.png", "samples/step-000007.png"}


def test_every_preset_builds_its_network() -> None:
    for preset in ViTRecipe.presets:
        for name in ("digits", "mnist-5k"):
            config = ViTRecipe.configure(preset, name, **({"patch": 2} if name == "digits" else {}))
            made = ViTRecipe(config, data.load(name), sg.cpu, 0)
            assert made.logits(made.dataset.test.x[:2]).shape == (2, 10)
