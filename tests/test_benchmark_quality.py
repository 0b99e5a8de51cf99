"""The benchmark of quality: the DCGAN in PyTorch is the recipe's, and takes its turns beside it."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_a_step_of_pytorch_is_the_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same noise come the same networks and the same averaged generator."""
    ours, recipe = quality.Ours(quality.recipe_of("mnist-5k", 3, 0)), quality.recipe_of("mnist-5k", 3, 0)
    config = recipe.config
    theirs = quality.Torchs(recipe, 0)
    draws = np.random.default_rng(0).standard_normal((6, config.batch_size, config.latent)).astype(np.float32)
    noise = {"ours": iter(draws), "theirs": iter(draws)}
    monkeypatch.setattr(ours.recipe, "_noise", lambda count: sg.as_tensor(next(noise["ours"])))
    monkeypatch.setattr(torch, "randn", lambda *_, **__: torch.from_numpy(next(noise["theirs"])))
    names = [name for name, _ in ours.recipe.model.named_parameters()]

    def apart() -> list[float]:
        """How far averaged generators, generators and discriminators are, in learning rates: the worst array's mean."""
        assert ours.recipe.average is not None
        pairs = [
            ([ours.recipe.average.average[name] for name in names], theirs.average),
            (ours.recipe.model.parameters(), theirs.networks[0].parameters()),
            (ours.recipe.opponent.parameters(), theirs.networks[1].parameters()),
        ]
        return [
            max(
                float(abs(a.numpy(force=True) - b.detach().numpy()).mean()) / config.learning_rate
                for a, b in zip(mine, others, strict=True)
            )
            for mine, others in pairs
        ]

    for trainer in (ours, theirs):
        assert trainer.train(1) > 0
    average, generator, discriminator = apart()
    assert discriminator < 1e-3
    assert max(average, generator) < 0.1  # Adam turns some gradients of almost 0 around
    for trainer in (ours, theirs):
        trainer.train(2)
    assert max(apart()) < 0.4  # and these are followed by more
    z = draws[:40].reshape(-1, config.latent)[: recipe.judge.samples]
    z = np.resize(z, (recipe.judge.samples, config.latent))
    monkeypatch.setattr(torch, "randn", lambda *_, **__: torch.from_numpy(z))
    assert abs(theirs.samples() - ours.recipe.draw(sg.as_tensor(z))).mean() < 1e-3


def test_both_train_in_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "quality.json"
    arguments = ["--data", "digits", "--steps", "60", "--threads", "1", "--json", str(out)]
    assert quality.main(arguments) == 0
    found = json.loads(out.read_text())
    assert [row["library"] for row in found["rows"]] == list(quality.LIBRARIES)
    assert [len(row["seconds"]) for row in found["rows"]] == [2, 2]  # 50 steps and 10
    assert all(0 < row["metrics"]["fd"] < 200 for row in found["rows"])
    text = out.with_suffix(".md").read_text()
    assert text == capsys.readouterr().out
    assert "digits, 60 steps, seed 0" in text
    ratio = found["rows"][1]["seconds"][1] / found["rows"][0]["seconds"][1]
    assert f"PyTorch's time / ours: {ratio:.2f} " in text
