"""GPT: a decoder-only transformer that predicts the next token.

Radford et al. 2018 ("Improving Language Understanding by Generative Pre-Training") and 2019 ("Language Models are
Unsupervised Multitask Learners", GPT-2, whose network this is). A text of tokens x_1 ... x_T has the log-likelihood

    L = sum_t log P(x_t | x_1 ... x_{t-1})                                                          (2018, eq. 1)

and the network is  h_0 = E[x] + P,  h_l = block(h_{l-1}),  P(x_{t+1}) = softmax(norm(h_L) E')             (2018, eq. 2)

with norms before the parts of a block and one at the end, and the projections that end in the residual stream
initialised smaller by the square root of their number (2019, section 2.3). Losses are in nats a token.

``rotary`` positions in place of the learned P need no table, but are GPT-2's no longer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Tensor, nn
from scratchgen.nn import functional as F

from .stepping import Stepper
from .transformer_blocks import Block, BlockCache, Rotary

IGNORED = -100  # a target that no loss is taken of: padding, and what the user said


class GPTCache:
    """Keys and values of all blocks, while decoding."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        blocks = list(blocks)
        self.blocks = [BlockCache.empty() for _ in blocks]
        self._stepper = Stepper(blocks)

    @property
    def length(self) -> int:
        """Tokens seen so far."""
        return self.blocks[0].own.length

    def step(self, x: Tensor) -> Tensor | None:
        """All blocks on one more token (N, 1, width) in one call, or None where there is no such call."""
        return self._stepper.step(x, [cache.own for cache in self.blocks])


class GPT(nn.Module):
    """Logits of the next token for sequences of tokens (N, T), T up to ``block``.

    vocabulary  number of tokens
    positions   "learned", a table of ``block`` rows, or "rotary"
    tied        the head is the embedding's transpose
    """

    def __init__(
        self,
        vocabulary: int,
        block: int,
        layers: int,
        heads: int,
        width: int,
        *,
        dropout: float = 0.0,
        bias: bool = True,
        positions: Literal["learned", "rotary"] = "learned",
        tied: bool = True,
    ) -> None:
        super().__init__()
        if min(vocabulary, block, layers) < 1:
            raise ValueError(f"GPT: needs at least one token, position and layer, got {vocabulary}, {block}, {layers}")
        self.block, self.heads = block, heads
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(block, width) if positions == "learned" else None
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            [Block(width, heads, 4 * width, dropout=dropout, bias=bias, activation="gelu_tanh") for _ in range(layers)]
        )
        self.norm = nn.LayerNorm(width, bias=bias)
        self.head = None if tied else nn.Linear(width, vocabulary, bias=False)
        self._initialise(layers)

    def _initialise(self, layers: int) -> None:
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            elif p.ndim == 2:
                into_residual = name.endswith(("projection.weight", "back.weight"))
                nn.init.normal_(p, 0.0, 0.02 / math.sqrt(2 * layers) if into_residual else 0.02)

    # --- the network

    def forward(
        self, ids: Tensor, present: Tensor | None = None, cache: GPTCache | None = None, last: bool = False
    ) -> Tensor:
        """Logits (N, T, vocabulary) of the token after each of ``ids`` (N, T); of the last only with ``last``.

        ``cache``: the tokens of earlier calls come first. ``present`` (N, S) bools: False at padding, over these
        tokens and those in the cache; positions count present tokens only.
        """
        return self.logits(self.hidden(ids, present, cache, last))

    def hidden(
        self, ids: Tensor, present: Tensor | None = None, cache: GPTCache | None = None, last: bool = False
    ) -> Tensor:
        """norm(h_L), (N, T, width), of which the logits are made; arguments as of ``forward``."""
        seen = cache.length if cache is not None else 0
        x, mask, rotary = self._begin(ids, present, seen)
        single = seen > 0 and ids.shape[1] == 1 and mask is None and rotary is None
        stepped = cache.step(x) if cache is not None and single else None
        x = self._through(x, mask, rotary, cache) if stepped is None else stepped
        return self.norm(x[:, -1:] if last else x)

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: (..., width) -> (..., vocabulary)."""
        return F.linear(hidden, self.tokens.weight if self.head is None else self.head.weight)

    def _through(self, x: Tensor, mask: Tensor | None, rotary: Rotary | None, cache: GPTCache | None) -> Tensor:
        """All blocks, op by op."""
        causal = mask is None and (cache is None or cache.length == 0)
        for block, kept in zip(self.blocks, [None] * len(self.blocks) if cache is None else cache.blocks):
            x = block(x, mask, is_causal=causal, rotary=rotary, cache=kept)
        return x

    def _begin(self, ids: Tensor, present: Tensor | None, seen: int) -> tuple[Tensor, Tensor | None, Rotary | None]:
        """h_0, the mask, and the turns of rotary positions."""
        positions, mask = self._layout(ids, present, seen)
        x, rotary = self.tokens(ids), None
        if self.places is not None:
            x = x + self.places(positions)
        else:
            rotary = Rotary.at(positions[:, None], x.shape[-1] // self.heads)
        return self.dropout(x), mask, rotary

    def _layout(self, ids: Tensor, present: Tensor | None, seen: int) -> tuple[Tensor, Tensor | None]:
        """Positions (N or 1, T), and a mask where being causal does not say it all."""
        length, device = ids.shape[1], ids.device
        total = seen + length
        if total > self.block:
            raise ValueError(f"GPT: {total} tokens are more than the block of {self.block}")
        place = sg.arange(seen, total, device=device)
        if present is None and (seen == 0 or length == 1):
            return place[None], None
        mask = sg.arange(total, device=device) <= place[:, None]
        if present is None:
            return place[None], mask
        if present.shape != (ids.shape[0], total):
            raise ValueError(f"GPT: present must be {[ids.shape[0], total]}, got {list(present.shape)}")
        positions = (present.to(sg.int64).cumsum(1) - 1).clamp(min=0)[:, seen:]
        return positions, mask & present[:, None, None]

    def new_cache(self) -> GPTCache:
        """An empty cache for decoding."""
        return GPTCache(self.blocks)

    # --- the objective

    def loss(self, ids: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy of ``targets`` (N, T), the token after each of ``ids``; ``IGNORED`` ones do not count."""
        return F.cross_entropy(self(ids).flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction=reduction)

    def attention(self, ids: Tensor) -> Tensor:
        """Where each token looks, in all layers and heads: (layers, N, heads, T, T)."""
        x, _, rotary = self._begin(ids, None, 0)
        found = []
        for block in self.blocks:
            found.append(block.attention.weights(block.norm1(x), is_causal=True, rotary=rotary))
            x = block(x, is_causal=True, rotary=rotary)
        return sg.stack(found)


def nats(model: GPT, ids: np.ndarray, stride: int, device: sg.Device = sg.cpu, rows: int = 64) -> np.ndarray:
    """-log P of each token of a long text (n,) but the first, (n - 1,), each predicted once.

    Windows of ``model.block`` tokens begin ``stride`` apart, and each counts for the tokens that no earlier one had:
    with ``stride = block`` they lie side by side, with less every token but the first ones has at least
    ``block - stride`` before it. The model must be in evaluation mode.
    """
    block = min(model.block, len(ids) - 1)
    if not 1 <= stride <= model.block:
        raise ValueError(f"nats: stride must be in 1 ... {model.block}, the block, got {stride}")
    last = len(ids) - 1 - block
    starts = np.unique(np.minimum(np.arange(0, last + stride, stride), last))
    found, done = np.empty(len(ids) - 1, np.float64), 0
    with sg.no_grad():
        for some in np.array_split(starts, -(-len(starts) // rows)):
            windows = ids[some[:, None] + np.arange(block + 1)]
            inputs, targets = (sg.as_tensor(x, device=device) for x in (windows[:, :-1], windows[:, 1:]))
            losses = model.loss(inputs, targets, reduction="none").numpy(force=True).reshape(len(some), block)
            for start, row in zip(some.tolist(), losses):
                found[done : start + block] = row[done - start :]
                done = start + block
    return found


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for AdamW: matrices and embeddings decay, norms and biases do not. Frozen ones are left out."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
