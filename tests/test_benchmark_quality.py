"""The DCGAN of the benchmark of quality is the recipe's."""

from __future__ import annotations

import numpy as np
import pytest

import scratchgen as sg

torch = pytest.importorskip("torch")

from benchmarks import quality  # noqa: E402


def test_both_libraries_begin_with_the_same_networks() -> None:
    recipe = quality.recipe_of("digits", 1, 0)
    generator, discriminator = quality.torch_networks(recipe)
    rng = np.random.default_rng(0)
    z = rng.standard_normal((16, recipe.config.latent)).astype(np.float32)
    x = recipe.model(sg.as_tensor(z)).numpy(force=True)
    np.testing.assert_allclose(generator(torch.from_numpy(z)).detach().numpy(), x, atol=1e-5)
    judged = recipe.opponent(sg.as_tensor(x)).numpy(force=True)
    np.testing.assert_allclose(discriminator(torch.from_numpy(x)).detach().numpy(), judged, atol=1e-5)


def test_training_and_table() -> None:
    found = {}
    for library in ("scratchgen", "torch"):
        recipe = quality.recipe_of("digits", 2, 0)
        samples, seconds = quality.ours(recipe) if library == "scratchgen" else quality.torchs(recipe, 0)
        assert samples.shape == (recipe.judge.samples, 1, 8, 8)
        assert 0 <= samples.min() < samples.max() <= 1
        found[library] = {"fd": 1.5, "fd_se": 0.1} | dict.fromkeys(quality.SHOWN[1:], 0.5) | {"seconds": seconds}
    text = quality.table(found)
    assert "1.5 ± 0.1" in text
    assert f"PyTorch's time / ours: {found['torch']['seconds'] / found['scratchgen']['seconds']:.2f}" in text
