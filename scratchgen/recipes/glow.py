"""Training Glow: presets, and how well its latents can be edited (``glow_edits``). The model is in
``scratchgen.models.glow``, what all flows share in ``flows``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import scratchgen as sg
from scratchgen.data.shapes import CaptionedImages
from scratchgen.models.flow import Chain, Flow
from scratchgen.models.glow import glow
from scratchgen.models.realnvp import scale

from .base import Reference, setting
from .flows import IMAGES, FlowConfig, FlowRecipe
from .glow_edits import attribute_edits, class_flip, draw_edits, draw_flips
from .judges import ImageJudge


@dataclass(frozen=True)
class GlowConfig(FlowConfig):
    """Settings of Glow."""

    levels: int = setting(2, "levels; after each but the last half of the channels leave")
    depth: int = setting(8, "steps of the flow in a level")
    width: int = setting(128, "channels of a coupling network")
    squeeze: int = setting(2, "how much the first level squeezes; the others halve the image")
    coupling: Literal["affine", "additive"] = setting("affine", "kind of coupling")
    permute: Literal["conv", "plain-conv", "shuffle", "reverse"] = setting(
        "conv", "what mixes channels: the 1x1 convolution as P L U or as one matrix, a fixed shuffle, their reverse"
    )
    optimizer: Literal["adamax", "adamw"] = setting("adamax", "Adamax is what the paper's code takes")
    recompute: bool = setting(False, "compute steps again in the backward pass instead of keeping them in memory")


class GlowRecipe(FlowRecipe):
    """Glow, a normalizing flow of invertible 1x1 convolutions."""

    name: ClassVar[str] = "glow"
    paper: ClassVar[str] = "Kingma and Dhariwal 2018, Glow: Generative Flow with Invertible 1x1 Convolutions"
    default_data: ClassVar[str] = "digits"
    data_names: ClassVar[tuple[str, ...]] = (*IMAGES, "shapes")
    presets: ClassVar[Mapping[str, Mapping[str, GlowConfig]]] = {
        "tiny": {
            "digits": GlowConfig(steps=450, dropout=0.1, weight_decay=3e-3, depth=8, width=96, optimizer="adamw"),
            # Few grey levels and a volume that couplings do not change, as in the paper's pictures: the inverse stays
            # tame where an edit leads. Few previews, for which thousands of images are encoded.
            "shapes": GlowConfig(
                steps=900, batch_size=32, learning_rate=2e-3, levels=3, depth=6, width=64, coupling="additive", bits=5,
                pixels="centre", clip_gradients=10.0, evaluate_every=300,
            ),
            "*": GlowConfig(steps=3000, batch_size=64, width=64, pixels="centre"),
        },
        # The paper's settings for CIFAR-10: 32 steps in a level, 512 channels, Adamax 1e-3; its three levels where the
        # image can be halved so often.
        "full": {
            name: GlowConfig(
                steps=100_000, batch_size=64, levels=levels, depth=32, width=512, pixels="centre", average=0.9999,
                warmup_steps=10_000, clip_gradients=0.0, recompute=True,
            )
            for name, levels in (("digits", 2), ("shapes", 3), ("*", 2))
        },
    }  # fmt: skip
    expected: ClassVar[str] = (
        "tiny on digits: 2.036 bits a pixel, IW-64 1.935 (mixture of categoricals: 2.214), 51 s on two cores; "
        "on shapes edits change a colour in 98 % and a size in 100 %, something else in at most 3 %, 1 minute"
    )

    config: GlowConfig

    def build(self) -> Flow:
        config = self.config
        return glow(
            self.shape, config.levels, config.depth, config.width, factor=config.squeeze, coupling=config.coupling,
            permute=config.permute, condition=self.classes, dropout=config.dropout, recompute=config.recompute,
        )  # fmt: skip

    def build_noise(self) -> Chain:
        return scale(self.shape, self.config.width, 1, self.shape[0])

    def make_optimizer(self) -> Any:
        config = self.config
        if config.optimizer == "adamw":
            return sg.optim.AdamW(self.groups(), config.learning_rate)
        if config.weight_decay:
            raise ValueError("weight_decay is decoupled, which Adamax does not know; take optimizer=adamw")
        return sg.optim.Adamax(self.model.parameters(), config.learning_rate)

    def evaluate(self) -> dict[str, float]:
        found = super().evaluate()
        if self.classes:  # the latents hold no class to move along
            return found
        train, test = self.dataset.trainval, self.dataset.test
        with self.averaged():
            if isinstance(train, CaptionedImages):
                return found | attribute_edits(self, train, test)
            assert isinstance(self.judge, ImageJudge)
            return found | {"class_flip": class_flip(self, train, test, self.judge.classifier)}

    def preview(self, folder: Path, step: int) -> None:
        super().preview(folder, step)
        if not self.classes:
            train, test = self.dataset.trainval, self.dataset.test
            with self.averaged():
                if isinstance(train, CaptionedImages):
                    draw_edits(self, folder / "edits.png", train, test)
                else:
                    draw_flips(self, folder / "classes.png", train, test, self.dataset.classes)

    def references(self) -> list[Reference]:
        return []
