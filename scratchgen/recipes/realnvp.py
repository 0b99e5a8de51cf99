"""Training RealNVP: architectures and presets. The model is in ``scratchgen.models.realnvp``, what all flows share in
``flows``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import scratchgen as sg
from scratchgen.models.flow import Flow
from scratchgen.models.realnvp import dense, multi_scale, scale
from scratchgen.models.spline import spline_flow

from .base import Reference, setting
from .flows import IMAGES, POINTS, FlowConfig, FlowRecipe


@dataclass(frozen=True)
class RealNVPConfig(FlowConfig):
    """Settings of RealNVP."""

    network: Literal["dense", "conv", "spline"] = setting(
        "dense", "couplings with dense networks, with convolutions at several scales, or (points) by splines"
    )
    couplings: int = setting(8, "dense, spline: how many")
    hidden: tuple[int, ...] = setting((128, 128), "dense, spline: widths of a coupling network's hidden layers")
    bins: int = setting(24, "spline: pieces of a spline")
    scales: int = setting(2, "conv: scales")
    width: int = setting(32, "conv: channels of a coupling network")
    blocks: int = setting(2, "conv: its residual blocks")


class RealNVPRecipe(FlowRecipe):
    """RealNVP, a normalizing flow of masked affine couplings."""

    name: ClassVar[str] = "realnvp"
    paper: ClassVar[str] = "Dinh et al. 2017, Density estimation using Real NVP"
    default_data: ClassVar[str] = "digits"
    data_names: ClassVar[tuple[str, ...]] = POINTS + IMAGES
    presets: ClassVar[Mapping[str, Mapping[str, RealNVPConfig]]] = {
        "tiny": {
            "moons": RealNVPConfig(steps=2000, batch_size=512, learning_rate=2e-3, hidden=(64, 64)),
            "rings": RealNVPConfig(
                steps=1000, batch_size=512, learning_rate=6e-3, network="spline", couplings=2, hidden=(128, 128, 128),
                bins=40,
            ),
            "grid25": RealNVPConfig(
                steps=1500, batch_size=512, learning_rate=6e-3, network="spline", couplings=2, hidden=(64, 64), bins=40,
            ),
            "digits": RealNVPConfig(steps=1800, dropout=0.2, weight_decay=3e-3),
            "*": RealNVPConfig(steps=3000, batch_size=64, network="conv"),
        },
        # The paper's settings for CIFAR-10, at the size of its figure 4: Adam 1e-3, batch 64, 8 blocks of 64 channels.
        "full": {"*": RealNVPConfig(steps=100_000, batch_size=64, network="conv", width=64, blocks=8, average=0.9999)},
    }  # fmt: skip
    expected: ClassVar[str] = (
        "tiny on digits: 2.095 bits a pixel, IW-64 1.938 (mixture of categoricals: 2.214), 20 s on two cores"
    )

    config: RealNVPConfig

    def build(self) -> Flow:
        config = self.config
        if config.network == "dense":
            return dense(self.shape, config.couplings, config.hidden, self.classes, config.dropout)
        if self.is_image == (config.network == "spline"):
            kind = "points; images" if self.is_image else "images; points"
            raise ValueError(f"network={config.network} is for {kind} take network=dense, among others")
        if config.network == "spline":
            return spline_flow(self.shape, config.couplings, config.hidden, config.bins)
        return multi_scale(self.shape, config.scales, config.width, config.blocks, self.classes, config.dropout)

    def build_noise(self) -> Flow:
        config = self.config
        if config.network == "dense":
            return dense(self.shape, 4, config.hidden[:1], self.dims)
        return scale(self.shape, config.width, 1, self.shape[0])

    def make_optimizer(self) -> Any:
        return sg.optim.AdamW(self.groups(), self.config.learning_rate)

    def references(self) -> list[Reference]:
        if self.dataset.name != "mnist" or self.config.bits or self.config.conditional:
            return []
        source = "UvA Deep Learning tutorial 11: 8 couplings with gated convolutions, 200 epochs"
        return [Reference("bits_per_dim", 1.078, source)]
