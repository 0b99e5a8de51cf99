"""Weights of GPT-2 in the names of ``transformers.GPT2LMHeadModel``: reading them, and writing ours.

Its dense layers are "Conv1D": their matrices are (in, out), ours (out, in).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from scratchgen import as_tensor

from .gpt import GPT

# ours, theirs, whether the matrix is transposed; {} is the number of the layer
NAMES = (
    ("tokens.weight", "wte.weight", False),
    ("places.weight", "wpe.weight", False),
    ("blocks.{}.norm1.weight", "h.{}.ln_1.weight", False),
    ("blocks.{}.norm1.bias", "h.{}.ln_1.bias", False),
    ("blocks.{}.attention.qkv.weight", "h.{}.attn.c_attn.weight", True),
    ("blocks.{}.attention.qkv.bias", "h.{}.attn.c_attn.bias", False),
    ("blocks.{}.attention.projection.weight", "h.{}.attn.c_proj.weight", True),
    ("blocks.{}.attention.projection.bias", "h.{}.attn.c_proj.bias", False),
    ("blocks.{}.norm2.weight", "h.{}.ln_2.weight", False),
    ("blocks.{}.norm2.bias", "h.{}.ln_2.bias", False),
    ("blocks.{}.wide.weight", "h.{}.mlp.c_fc.weight", True),
    ("blocks.{}.wide.bias", "h.{}.mlp.c_fc.bias", False),
    ("blocks.{}.back.weight", "h.{}.mlp.c_proj.weight", True),
    ("blocks.{}.back.bias", "h.{}.mlp.c_proj.bias", False),
    ("norm.weight", "ln_f.weight", False),
    ("norm.bias", "ln_f.bias", False),
)
PREFIX = "transformer."
HEAD = "lm_head.weight"
MASKS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # causal masks that old files carry


def to_gpt2(model: GPT) -> dict[str, np.ndarray]:
    """The weights of a GPT with learned positions, biases and a tied head, under GPT-2's names."""
    if model.places is None or model.norm.bias is None or model.head is not None:
        raise ValueError("to_gpt2: GPT-2 has learned positions, biases and a tied head; this model differs")
    state = {name: value.numpy(force=True) for name, value in model.state_dict().items()}
    written = {}
    for ours, theirs, transposed in _names(len(model.blocks)):
        value = state.pop(ours)
        written[PREFIX + theirs] = np.ascontiguousarray(value.T) if transposed else value.copy()
    if state:
        raise ValueError(f"to_gpt2: weights that GPT-2 has no name for: {', '.join(state)}")
    written[HEAD] = written[f"{PREFIX}wte.weight"]
    return written


def from_gpt2(state: Mapping[str, Any], heads: int | None = None) -> GPT:
    """The GPT of GPT-2's weights (arrays or tensors by name, with or without the prefix "transformer.").

    ``heads``: 64 numbers each by default, as in all published sizes; the weights do not say. Every weight must be
    there once and be used: raises ValueError with the names that are missing or left over.
    """
    given = {name.removeprefix(PREFIX): np.asarray(value) for name, value in state.items()}
    given = {name: value for name, value in given.items() if not MASKS.fullmatch(name)}
    if missing := {"wte.weight", "wpe.weight"} - given.keys():
        raise ValueError(f"from_gpt2: not weights of GPT-2, there is no {' or '.join(sorted(missing))}")
    head = given.pop(HEAD, given["wte.weight"])
    if not np.array_equal(head, given["wte.weight"]):
        raise ValueError(f"from_gpt2: {HEAD} is not wte.weight: GPT-2's head is tied to its embedding")
    (vocabulary, width), block = given["wte.weight"].shape, len(given["wpe.weight"])
    layers = len({name.split(".")[1] for name in given if name.startswith("h.")})
    names = list(_names(layers))
    if unlike := given.keys() ^ {theirs for _, theirs, _ in names}:
        raise ValueError(f"from_gpt2: missing or unknown weights: {', '.join(sorted(unlike))}")
    model = GPT(vocabulary, block, layers, heads or max(1, width // 64), width)
    model.load_state_dict(
        {ours: as_tensor(given[theirs].T if transposed else given[theirs]) for ours, theirs, transposed in names}
    )
    return model


def _names(layers: int) -> list[tuple[str, str, bool]]:
    """``NAMES`` for so many layers."""
    return [
        (ours.format(i), theirs.format(i), transposed)
        for ours, theirs, transposed in NAMES
        for i in (range(layers) if "{}" in ours else range(1))
    ]
