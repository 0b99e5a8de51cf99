"""The networks of the diffusion models: the two U-Nets and the one of points."""

from __future__ import annotations

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import Tensor, nn
from scratchgen.models.unet import ResidualBlock, ResidualMLP, SurveyUNet, UNet, sinusoids


def array(x: Tensor) -> np.ndarray:
    return x.numpy(force=True)


def test_sinusoids() -> None:
    found = array(sinusoids(sg.tensor([0.0, 3.0]), 8))
    angle = 3 * 10_000.0 ** (-np.arange(4) / 4)
    np.testing.assert_allclose(found[0], [1, 1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(found[1], np.concatenate([np.cos(angle), np.sin(angle)]), rtol=1e-5)


NETWORKS = {
    "ho": lambda: UNet(3, (8, 16), attention=(1,), blocks=1, groups=4, head=8, classes=4, scale_shift=True),
    "ho, three sizes": lambda: UNet(3, (8, 8, 16), blocks=2, groups=4, head=8, dropout=0.1, classes=4),
    "survey": lambda: SurveyUNet(3, (8, 12, 16), blocks=2, groups=4, embedding=8, classes=4),
    "mlp": lambda: ResidualMLP((3, 8, 8), 32, classes=4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_say_0_at_first_and_learn_from_time_and_class(name: str) -> None:
    sg.manual_seed(0)
    network = NETWORKS[name]().eval()
    x, t, label = sg.randn(2, 3, 8, 8), sg.tensor([3.0, 90.0]), sg.tensor([1, 4])
    assert network(x, t, label).shape == x.shape
    assert abs(array(network(x, t, label))).max() == 0
    for p in network.parameters():
        if not array(p).any():
            nn.init.normal_(p, 0, 0.1)
    y = network(x, t, label)
    assert abs(array(network(x, t + 50, label) - y)).max() > 1e-4
    assert abs(array(network(x, t, sg.tensor([2, 0])) - y)).max() > 1e-4
    (y**2).sum().backward()
    without = [key for key, p in network.named_parameters() if p.grad is None or not array(p.grad).any()]
    assert without == []


@pytest.mark.parametrize("make", [lambda: UNet(1, (8, 8)), lambda: SurveyUNet(1, (8, 8))])
def test_sizes_that_do_not_halve_are_named(make) -> None:
    with pytest.raises(ValueError, match=r"height and width must be divisible by 2, x is \[1, 1, 5, 4\]"):
        make()(sg.zeros(1, 1, 5, 4), sg.zeros(1))


def test_the_unet_has_diffusers_names() -> None:
    keys = set(UNet(3, (32, 64), attention=(1,), blocks=2).state_dict())
    for key in (
        "conv_in.weight", "time_embedding.linear_1.weight", "down_blocks.0.resnets.1.norm1.weight",
        "down_blocks.0.downsamplers.0.conv.bias", "down_blocks.1.attentions.0.to_q.weight",
        "mid_block.attentions.0.to_out.0.bias", "up_blocks.0.upsamplers.0.conv.weight",
        "up_blocks.1.resnets.2.conv_shortcut.weight", "up_blocks.0.resnets.0.time_emb_proj.weight",
        "conv_norm_out.weight", "conv_out.bias",
    ):  # fmt: skip
        assert key in keys


def test_a_block_without_change_of_width_starts_as_the_identity() -> None:
    x = sg.randn(2, 8, 4, 4)
    np.testing.assert_array_equal(array(ResidualBlock(8, 8)(x)), array(x))
