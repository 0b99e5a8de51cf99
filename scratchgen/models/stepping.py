"""One more token of each text through a stack of pre-norm blocks, in a single call: for writing token by token.

With one token at a time a block is some twenty ops on a few numbers, and Python between them takes nearly all the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import scratchgen as sg
from scratchgen import Tensor, kernels, nn

from .transformer_blocks import Block, Cache


class Stepper:
    """Takes steps through ``blocks``, where they are such as the kernel has: norms first, plain dense layers."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = blocks
        self.weights: list[Tensor | None] = []
        self.possible = True
        for block in blocks:
            attention = block.attention
            parts = block.norm1, attention.qkv, attention.projection, block.norm2, block.wide, block.back
            # What stands in for a dense layer has more to do, as LoRA's does.
            self.possible &= block.norm_first and all(type(p) in (nn.LayerNorm, nn.Linear) for p in parts)
            self.weights += [w for part in parts for w in (part.weight, part.bias)]

    def step(self, x: Tensor, caches: Sequence[Cache]) -> Tensor | None:
        """What the blocks make of ``x`` (N, 1, width), the token after those in ``caches``, which are extended by it.

        None where ops one by one are the way, or the faster one: while training, on a device without this kernel, for
        many texts, whose products are of matrices.
        """
        first = self.blocks[0]
        if not self.possible or first.training or sg.is_grad_enabled():
            return None
        stores = [cache.stores[i] for i in (0, 1) for cache in caches]
        arrays = (x.array[:, 0], *stores, *[None if w is None else w.array for w in self.weights])
        attrs = {
            "blocks": len(caches), "length": caches[0].length, "eps": first.norm1.eps, "activation": first.activation
        }  # fmt: skip
        chosen = kernels.select("blocks_step", x.device.type, arrays, attrs)
        if chosen.impl == "reference":
            return None
        y, keys, values = chosen.fn(*arrays, **attrs)
        for cache, key, value in zip(caches, keys, values):
            cache.append(key[:, :, None], value[:, :, None])
        return sg.as_tensor(y[:, None], device=x.device)
