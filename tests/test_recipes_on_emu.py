"""One training step of every model in the CUDA emulator, beside the same step on the CPU."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

import scratchgen as sg
from scratchgen import data
from scratchgen.recipes import RECIPES, find

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator needs g++")

IMAGES: dict[str, Any] = {"width": 4, "batch_size": 8, "latent": 4, "steps": 10}
BRIEF: dict[str, Any] = {"prompt": 3, "response": 3, "pretrain_steps": 0, "reward_steps": 0, "epochs": 2}  # PPO at once
SMALL: dict[str, tuple[str, dict[str, Any]]] = {  # model -> (data, settings that make a step small)
    "autoencoder": ("digits", {"network": "conv", "hidden": (16,), "channels": (4, 4), "batch_size": 8}),
    "vae": ("digits", {"hidden": (16,), "batch_size": 8}),
    "gan": ("digits", IMAGES),
    "wgan": ("digits", {**IMAGES, "patience": False, "opponent_steps": 1}),
    "wgan-gp": ("digits", {**IMAGES, "network": "conv", "norm": "layer", "opponent_steps": 1}),
    "cgan": ("digits", {**IMAGES, "opponent_steps": 1}),
    "ddpm": ("digits", {"network": "ho", "widths": (8, 8), "blocks": 1, "attention": (1,), "batch_size": 4}),
    "gpt": ("addition", {"layers": 1, "heads": 2, "width": 16, "batch_size": 4}),
    "rlhf": ("manual", {"layers": 1, "heads": 2, "width": 16, "batch_size": 4, **BRIEF}),
    "transformer": ("dates", {"layers": 1, "heads": 2, "width": 8, "hidden": 16, "batch_size": 4}),
    "seq2seq": ("dates", {"embedding": 8, "hidden": 12, "batch_size": 4}),
    "vit": ("digits", {"layers": 1, "heads": 2, "width": 16, "hidden": 32, "batch_size": 4, "dropout": 0.0}),
    "rbm": ("digits", {"hidden": 6, "batch_size": 8, "chains": 5}),
    "ebm": ("digits", {"network": "conv", "width": 2, "chain_steps": 2, "batch_size": 4, "buffer": 8}),
    "realnvp": ("digits", {"couplings": 2, "hidden": (16,), "batch_size": 8}),
    "glow": ("digits", {"levels": 2, "squeeze": 2, "depth": 1, "width": 8, "batch_size": 8}),
}


def one_step(model: str, device: str) -> dict[str, float]:
    kind = find(model)
    name, changes = SMALL[model]
    return kind(kind.configure("tiny", name, **changes), data.load(name), sg.Device(device), 0).step()


@pytest.mark.parametrize("model", RECIPES)
def test_a_step_is_the_same_in_the_emulator(model: str) -> None:
    expected, found = one_step(model, "cpu"), one_step(model, "emu")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-4), key


def test_the_surveys_unet_too() -> None:
    changes: dict[str, Any] = {"network": "survey", "widths": (8, 8), "blocks": 1, "batch_size": 4}
    changes |= {"target": "v", "times": "even", "censored": True}  # as the presets for 28x28 have it
    kind = find("ddpm")
    config = kind.configure("tiny", "digits", **changes)
    steps = [kind(config, data.load("digits"), sg.Device(device), 0).step() for device in ("cpu", "emu")]
    assert steps[1]["loss"] == pytest.approx(steps[0]["loss"], rel=1e-4)
