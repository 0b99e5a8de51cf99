"""U-Net and samplers beside diffusers': what `fixtures/make_diffusers.py` wrote where diffusers was installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

import scratchgen as sg
from scratchgen import Generator, Tensor
from scratchgen.models import samplers
from scratchgen.models.diffusion import Diffusion, Prediction, Process, Times
from scratchgen.models.unet_diffusers import from_diffusers

HERE = Path(__file__).parent / "fixtures"
Arrays = dict[str, np.ndarray]


def read(name: str) -> tuple[Arrays, dict[str, str]]:
    with safe_open(HERE / name, "np") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118 (not a dict)


def part(golden: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}


# --- networks


@pytest.fixture(scope="module")
def networks() -> tuple[Arrays, dict[str, str]]:
    return read("unet.safetensors")


@pytest.mark.parametrize("kind", ["usual", "original"])
def test_outputs_and_gradients_are_those_of_unet2dmodel(networks, kind: str) -> None:
    golden, about = part(networks[0], f"{kind}."), networks[1]
    model = from_diffusers(json.loads(about[kind]), part(golden, "weights.")).eval()
    x = sg.tensor(golden["x"], requires_grad=True)
    label = sg.as_tensor(golden["label"]) if "label" in golden else None
    y = model(x, sg.as_tensor(golden["t"].astype(np.float32)), label)
    np.testing.assert_allclose(y.numpy(force=True), golden["y"], atol=1e-5)
    (y**2).mean().backward()
    np.testing.assert_allclose(x.grad.numpy(), golden["x_gradient"], atol=1e-5)
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
    expected = part(golden, "gradients.")
    assert not expected or expected.keys() == gradients.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(gradients[name], value, atol=1e-5, err_msg=name)


def test_what_we_write_has_diffusers_names_and_shapes(networks) -> None:
    golden = part(networks[0], "usual.weights.")
    written = from_diffusers(json.loads(networks[1]["usual"]), golden).state_dict()
    assert {name: tuple(value.shape) for name, value in written.items()} == {
        name: value.shape for name, value in golden.items()
    }


def test_names_of_attention_in_old_files(networks) -> None:
    golden, config = part(networks[0], "original."), json.loads(networks[1]["original"])
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = part(golden, "weights.")
    for new, name in old.items():
        weights = {key.replace(new, name): value for key, value in weights.items()}
    assert any("proj_attn" in key for key in weights)
    y = from_diffusers(config, weights)(sg.as_tensor(golden["x"]), sg.as_tensor(golden["t"].astype(np.float32)))
    np.testing.assert_allclose(y.numpy(force=True), golden["y"], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"act_fn": "gelu"}, "act_fn='gelu'; the network here has 'silu'"),
        ({"resnet_time_scale_shift": "scale_shift"}, "attn_norm_num_groups must be norm_num_groups, 2"),
        ({"colour": 1}, "unknown setting colour=1"),
        ({"freq_shift": 0}, r"are \(False, 0, 0\)"),
        ({"up_block_types": ["UpBlock2D"] * 3}, "blocks must mirror each other"),
    ],
)
def test_settings_that_the_network_does_not_have_are_named(networks, changes: dict[str, Any], message: str) -> None:
    config = json.loads(networks[1]["original"])
    with pytest.raises(ValueError, match=message):
        from_diffusers(config | changes, part(networks[0], "original.weights."))


def test_weights_that_are_missing_are_named(networks) -> None:
    weights = part(networks[0], "original.weights.")
    del weights["conv_out.bias"]
    with pytest.raises(RuntimeError, match=r"missing: conv_out\.bias"):
        from_diffusers(json.loads(networks[1]["original"]), weights)


# --- samplers


class Formula(sg.nn.Module):
    """eps (or v) as the fixture's script says it, and a constant learned share."""

    def __init__(self, learned: bool) -> None:
        super().__init__()
        self.learned = learned

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        said = 0.9 * sg.tanh(x) + 0.2 * sg.sin(t / 150)[:, None, None, None]
        return sg.cat([said, sg.full_like(said, 0.3)], 1) if self.learned else said


@pytest.fixture(scope="module")
def schedulers() -> Arrays:
    return read("schedulers.safetensors")[0]


# name -> schedule, what the network says, whether x_0 is clipped
SCHEDULERS = {
    "ddpm-small": ("linear", "eps", True),
    "ddpm-large": ("cosine", "eps", True),
    "ddpm-learned": ("linear", "eps", True),
    "ddpm-v": ("cosine", "v", True),
    "ddim": ("cosine", "eps", True),
    "ddim-noise": ("linear", "eps", False),
    "dpm-solver": ("linear", "eps", False),
    "heun": ("linear", "eps", False),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_states_are_those_of_diffusers_schedulers(schedulers: Arrays, name: str, monkeypatch) -> None:
    schedule, target, clip = SCHEDULERS[name]
    process = Process.of(schedule, 1000)
    model = Diffusion(Formula(name == "ddpm-learned"), process, target, learned_variance=name == "ddpm-learned")

    def denoise(x: Tensor, t: Times) -> Prediction:
        return model.predict(x, t, clip=clip)

    noise = iter(schedulers["noise"])
    monkeypatch.setattr(samplers.sg, "randn", lambda *_, **__: sg.as_tensor(next(noise)))
    x, times = sg.as_tensor(schedulers["x"]), schedulers[f"{name}.times"].tolist()
    states: Iterator[Tensor]
    if name.startswith("ddpm"):
        variance = {"ddpm-large": "large", "ddpm-learned": "learned"}.get(name, "small")
        states = samplers.ancestral(process, denoise, x, times, Generator(0), variance)
    elif name.startswith("ddim"):
        states = samplers.ddim(process, denoise, x, times, Generator(0), 0.7 if name == "ddim-noise" else 0.0)
    elif name == "heun":
        states = samplers.heun(process, denoise, x, times, "sigma")
    else:
        states = samplers.dpm_solver(process, denoise, x, times)
    expected = schedulers[f"{name}.states"]
    found = np.stack([state.numpy(force=True) for state in states])
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    assert abs(np.diff(expected, axis=0)).max() > 0.1
