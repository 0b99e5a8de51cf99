"""The autoencoder against principal components, exact Jacobians and its own promises."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import Generator, data, metrics, nn
from scratchgen.models.autoencoder import Autoencoder, contraction, convolutional, corrupt, dense
from scratchgen.recipes.autoencoder import AutoencoderConfig, AutoencoderRecipe, build


def digits() -> Any:
    return data.load("digits")


def recipe(seed: int = 0, **changes: Any) -> AutoencoderRecipe:
    config = AutoencoderRecipe.configure("tiny", "digits", **{"hidden": (64,), "latent": 8, **changes})
    return AutoencoderRecipe(config, digits(), sg.cpu, seed)


# --- exact anchors


@pytest.mark.parametrize("latent", [2, 8, 16])
def test_the_linear_autoencoder_is_principal_component_analysis(latent: int) -> None:
    """Baldi and Hornik 1989: no other minimum. On test images, within 1 % of the closed form."""
    rows = digits()
    sg.manual_seed(0)
    model = dense(rows.shape, (), latent)
    x = sg.tensor(rows.trainval.x)
    optimizer = sg.optim.Adam(model.parameters(), 2e-2)
    steps = 1500
    schedule = sg.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(model.encode(x), x).backward()
        optimizer.step()
        schedule.step()
    test = sg.tensor(rows.test.x)
    (best,) = metrics.pca_reconstruction_mse(rows.trainval.x, rows.test.x, [latent]).values()
    assert float(model.errors(test).mean().item()) == pytest.approx(best, rel=0.01)


def _small(seed: int = 0) -> tuple[Autoencoder, np.ndarray]:
    """A small network in float64, and images for it."""
    sg.manual_seed(seed)
    model = dense((1, 3, 2), (5,), 4).to(dtype=sg.float64)
    return model, np.random.default_rng(seed).random((7, 1, 3, 2))


def test_contraction_estimates_the_squared_norm_of_the_jacobian() -> None:
    model, images = _small()
    x = sg.tensor(images).requires_grad_()
    z = model.encode(x)
    exact = 0.0
    for unit in range(4):
        (row,) = sg.grad(z[:, unit].sum(), x, retain_graph=True)
        exact += float((row**2).sum().item()) / len(images)
    generator = Generator(3)
    draws = np.array([contraction(model.encode(x), x, generator).item() for _ in range(600)])
    assert abs(draws.mean() - exact) < 3 * draws.std() / np.sqrt(len(draws))
    assert draws.std() / np.sqrt(len(draws)) < 0.05 * exact


def test_the_gradient_of_the_contraction_is_of_second_order() -> None:
    """Against central differences in the first encoder weight."""
    model, images = _small()
    weight = next(p for name, p in model.named_parameters() if name.endswith("1.weight"))

    def penalty() -> Any:
        x = sg.tensor(images).requires_grad_()
        return contraction(model.encode(x), x, Generator(5))

    (g,) = sg.grad(penalty(), weight)
    direction = np.random.default_rng(1).standard_normal(weight.shape)
    start, step = weight.array.copy(), 1e-5
    values = []
    for sign in (1, -1):
        weight.data = sg.tensor(start + sign * step * direction)
        values.append(penalty().item())
    slope = (values[0] - values[1]) / (2 * step)
    assert float((g.numpy() * direction).sum()) == pytest.approx(slope, rel=1e-7)


def test_bce_and_mse_agree_on_the_best_image() -> None:
    """Both distances have their minimum at g(z) = x."""
    images = np.random.default_rng(0).random((7, 1, 3, 2))
    logits = sg.tensor(np.log(images / (1 - images))).requires_grad_()
    model = Autoencoder(nn.Identity(), nn.Identity(), latent=6)
    for distance in ("mse", "bce"):
        (g,) = sg.grad(model.loss(logits, sg.tensor(images), distance), logits)
        assert abs(g.numpy()).max() < 1e-12


# --- its parts


def test_corruption() -> None:
    x = sg.full((200, 1, 10, 10), 0.5)
    noisy = corrupt(x, 0.2, 0.0, Generator(0)).numpy() - 0.5
    assert abs(noisy.mean()) < 0.01
    assert noisy.std() == pytest.approx(0.2, rel=0.03)
    masked = corrupt(x, 0.0, 0.3, Generator(0)).numpy()
    assert set(np.unique(masked)) == {0.0, 0.5}
    assert (masked == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert corrupt(x, 0.0, 0.0, Generator(0)) is x


@pytest.mark.parametrize("upsampling", ["transposed", "upsample"])
def test_both_decoders_give_images_of_the_size_they_came_in(upsampling: str) -> None:
    model = convolutional((3, 12, 8), (4, 5), 6, 7, upsampling=upsampling)
    x = sg.rand(2, 3, 12, 8)
    assert model.encode(x).shape == (2, 7)
    assert model(x).shape == x.shape


def test_sizes_that_do_not_halve_are_named() -> None:
    with pytest.raises(ValueError, match=r"2 layers of stride 2 need height and width divisible by 4.*\(1, 6, 8\)"):
        convolutional((1, 6, 8), (4, 5), 6, 7)


def test_a_linear_autoencoder_has_no_logits() -> None:
    model = dense((1, 2, 2), (), 2)
    x = sg.rand(3, 1, 2, 2)
    with pytest.raises(ValueError, match="bce reads the decoder's output as logits"):
        model.loss(model.encode(x), x, "bce")


# --- the recipe


@pytest.fixture(scope="module")
def trained() -> AutoencoderRecipe:
    made = recipe(hidden=(128,), steps=1000, learning_rate=3e-3)
    for _ in range(1000):
        made.step()
    return made


def test_training_beats_principal_components(trained: AutoencoderRecipe) -> None:
    pca = metrics.pca_reconstruction_mse(trained.dataset.trainval.x, trained.dataset.test.x, [8])[8]
    assert trained._errors(trained.dataset.test.x).mean() < 0.85 * pca


@pytest.mark.parametrize(
    "changes",
    [{"noise": 0.3, "masked": 0.2}, {"sparsity": 0.1}, {"contraction": 0.01}, {"loss": "bce"}, {"hold_out": True}],
)
def test_every_form_trains_and_repeats_with_its_seed(changes: dict[str, Any]) -> None:
    runs = []
    for _ in range(2):
        made = recipe(**changes)
        runs.append([made.step() for _ in range(30)])
    assert runs[0] == runs[1]
    key = "bce" if changes.get("loss") == "bce" else "mse"
    assert runs[0][-1][key] < runs[0][0][key]


def test_sparsity_and_contraction_press_what_they_name() -> None:
    def after(**changes: Any) -> tuple[float, float]:
        made = recipe(**changes)
        for _ in range(150):
            made.step()
        x = sg.tensor(made.dataset.test.x[:100]).requires_grad_()
        z = made.model.encode(x)
        return float(z.abs().mean().item()), float(contraction(z, x, Generator(0)).item())

    size, norm = after()
    assert after(sparsity=0.1)[0] < 0.5 * size
    assert after(contraction=0.01)[1] < 0.5 * norm


def test_samples_come_from_the_codes_and_repeat_with_the_generator(trained: AutoencoderRecipe) -> None:
    first, again, other = (trained.sample(20, Generator(seed))["samples"] for seed in (1, 1, 2))
    assert first.shape == (20, 1, 8, 8)
    assert 0 <= first.min() < first.max() <= 1
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_pictures(trained: AutoencoderRecipe, tmp_path: Path) -> None:
    trained.preview(tmp_path, 7)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")}
    expected = {"samples.png", "reconstructions.png", "interpolation.png", "traversal.png", "latents.png"}
    assert names == expected | {"samples/step-000007.png"}


def test_every_preset_builds_its_network() -> None:
    for preset, name in itertools.product(AutoencoderRecipe.presets, AutoencoderRecipe.data_names):
        config = AutoencoderRecipe.configure(preset, name)
        shape = (1, 8, 8) if name == "digits" else (1, 28, 28)
        model = build(config, shape).eval()
        z = model.encode(sg.zeros(2, *shape))
        assert z.shape == (2, config.latent)
        assert model.decode(z).shape == (2, *shape)


def test_a_convolutional_network_has_one_dense_layer() -> None:
    with pytest.raises(ValueError, match=r"one dense layer on either side of the code, got hidden=\(4, 5\)"):
        AutoencoderConfig(network="conv", hidden=(4, 5))
