"""Ho et al.'s U-Net from what diffusers saves of ``UNet2DModel``: its ``config.json``, and its weights by name.

Our modules have the names that diffusers gives them, so what ``UNet.state_dict()`` writes loads there as it is. What
stands between is the configuration, and the names that attention had in files of before 2023, the published ones of
Ho et al. among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from scratchgen import as_tensor

from .unet import UNet

OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
DEFAULTS: dict[str, Any] = {  # of UNet2DModel, where they are read here
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "dropout": 0.0,
    "resnet_time_scale_shift": "default",
    "num_class_embeds": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "downsample_padding": 1,
}
ONLY: dict[str, Any] = {  # what else it can be told, and the one value that our network has
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "mid_block_type": "UNetMidBlock2D",
    "mid_block_scale_factor": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "act_fn": "silu",
    "add_attention": True,
    "class_embed_type": None,
    "num_train_timesteps": None,
}


def from_diffusers(config: Mapping[str, Any], weights: Mapping[str, Any]) -> UNet:
    """The network of a ``config.json`` with its weights (arrays or tensors by name).

    Classes: the last of diffusers' ``num_class_embeds`` is our null label. Raises ValueError for a setting that this
    network does not have, RuntimeError with the list of weights that are missing, left over or of another shape.
    """
    _refuse(config)
    given = {name: config.get(name, value) for name, value in DEFAULTS.items()}
    original = _original(given)
    groups, scale_shift = given["norm_num_groups"], given["resnet_time_scale_shift"] == "scale_shift"
    # Theirs leaves out the norm of the middle's attention under scale_shift, unless its groups are given.
    if given["attn_norm_num_groups"] not in ({groups} if scale_shift else {groups, None}):
        raise ValueError(f"from_diffusers: attn_norm_num_groups must be norm_num_groups, {groups}; attention is normed")
    down, up = list(given["down_block_types"]), list(given["up_block_types"])
    levels = [level for level, kind in enumerate(down) if kind == "AttnDownBlock2D"]
    model = UNet(
        given["in_channels"],
        given["block_out_channels"],
        attention=levels,
        blocks=given["layers_per_block"],
        outputs=given["out_channels"],
        groups=groups,
        head=given["attention_head_dim"],
        dropout=given["dropout"],
        scale_shift=scale_shift,
        classes=(given["num_class_embeds"] or 1) - 1,
        original=original,
        eps=given["norm_eps"],
    )
    plain = ["DownBlock2D", "UpBlock2D"]
    attends = ["AttnDownBlock2D", "AttnUpBlock2D"]
    pairs = [list(pair) for pair in zip(down, reversed(up), strict=True)]
    if any(pair not in (plain, attends) for pair in pairs):
        raise ValueError(f"from_diffusers: blocks must mirror each other and be of these kinds: {plain + attends}")
    model.load_state_dict({_name(name): as_tensor(np.asarray(value)) for name, value in weights.items()})
    return model


def _refuse(config: Mapping[str, Any]) -> None:
    """Raise ValueError for what is neither read nor as it must be; names with an underscore are notes of diffusers."""
    for name, value in config.items():
        if name in ONLY and value != ONLY[name]:
            raise ValueError(f"from_diffusers: {name}={value!r}; the network here has {ONLY[name]!r}")
        if name not in ONLY and name not in DEFAULTS and not name.startswith("_") and name != "sample_size":
            raise ValueError(f"from_diffusers: unknown setting {name}={value!r}")


def _original(given: Mapping[str, Any]) -> bool:
    """Whether the conventions are those of Ho et al.'s code or those usual now; nothing in between."""
    conventions = given["flip_sin_to_cos"], given["freq_shift"], given["downsample_padding"]
    if conventions not in ((True, 0, 1), (False, 1, 0)):
        raise ValueError(
            f"from_diffusers: flip_sin_to_cos, freq_shift, downsample_padding are {conventions}; "
            "there are (True, 0, 1) and Ho et al.'s own (False, 1, 0)"
        )
    return conventions == (False, 1, 0)


def _name(name: str) -> str:
    """A weight's name as diffusers has it now."""
    return re.sub(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.", lambda m: f"{m[1]}.{OLD_NAMES[m[2]]}.", name)
