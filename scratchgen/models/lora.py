"""LoRA: fine-tuning by a change of low rank.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv:2106.09685). A trained matrix W stays as
it is; what is learned is

    W + (alpha / r) B A,     B (out, r) zeros at the start, A (r, in)                                          (3)

so training starts at W, and few numbers are trained and kept. Here the sum is formed at every call, which costs one
product of W's size however long the sequence is: the adapted layer *is* a dense layer of that sum, works inside fused
ops, and merging changes no bit of what it computes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

from scratchgen import Tensor, nn, no_grad
from scratchgen.nn import functional as F

Layer = TypeVar("Layer", bound=nn.Module)


class LowRankLinear(nn.Module):
    """A dense layer whose weight is a frozen matrix and a trained change of rank ``rank``."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        outputs, inputs = base.weight.shape
        if not 1 <= rank <= min(inputs, outputs):
            raise ValueError(
                f"LoRA: the rank of a {outputs} x {inputs} matrix is 1 to {min(inputs, outputs)}, got {rank}"
            )
        self.scale = alpha / rank
        self.base, self.bias = base.weight, base.bias
        device, dtype = base.weight.device, base.weight.dtype
        self.down = nn.Linear(inputs, rank, bias=False, device=device, dtype=dtype)
        self.up = nn.Linear(rank, outputs, bias=False, device=device, dtype=dtype)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)

    @property
    def weight(self) -> Tensor:
        """(3), (out, in)."""
        return self.base + self.scale * (self.up.weight @ self.down.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def adapt(model: nn.Module, rank: int, alpha: float, names: Sequence[str] = ("qkv", "projection")) -> nn.Module:
    """Freeze ``model`` and give every dense layer called one of ``names`` a change of low rank; in place.

    By default those of attention, as in the paper (section 4.2). Raises ValueError if there are none.
    """
    model.requires_grad_(False)
    found = [(owner, name, layer) for owner, name, layer in _layers(model, nn.Linear) if name in names]
    if not found:
        raise ValueError(f"LoRA: the model has no dense layer named {' or '.join(names)}")
    for owner, name, layer in found:
        setattr(owner, name, LowRankLinear(layer, rank, alpha))
    return model


def merge(model: nn.Module) -> nn.Module:
    """Put the changes into the weights: dense layers again, which compute the very same; in place."""
    for owner, name, layer in list(_layers(model, LowRankLinear)):
        outputs, inputs = layer.base.shape
        made = nn.Linear(inputs, outputs, layer.bias is not None, layer.base.device, layer.base.dtype)
        with no_grad():
            made.weight = nn.Parameter(layer.weight.detach())
        if layer.bias is not None:
            made.bias = layer.bias
        setattr(owner, name, made)
    return model.requires_grad_(True)


def _layers(model: nn.Module, kind: type[Layer]) -> Iterator[tuple[nn.Module, str, Layer]]:
    """All layers of a kind: whose they are, under which name, and the layer."""
    for owner in model.modules():
        for name, layer in owner.named_children():
            if isinstance(layer, kind):
                yield owner, name, layer
