"""The Transformer: sequence to sequence by attention alone.

Vaswani et al. 2017, "Attention Is All You Need" (arXiv:1706.03762); the section numbers are theirs. An encoder of
blocks that attend to the whole source makes a memory; a decoder of blocks that attend to what was written so far, and
to the memory, gives the distribution of the next token:

    P(y_t | y_1 ... y_{t-1}, x) = softmax(E h_t),   h = decoder(y_{<t}, encoder(x))

Embeddings are multiplied by sqrt(width) and shared with the last dense layer (section 3.4). ``norm_first`` puts norms
before the parts of a block, with one more at the end of each stack; the paper has them after (section 3.1), which needs
the warm-up of its schedule. Losses are in nats a token.

Source ids are (N, S), target ids (N, T); ``present`` (N, S) is False at padding. The target is padded at its end, where
causality hides it.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

import scratchgen as sg
from scratchgen import Tensor, nn
from scratchgen.nn import functional as F

from .transformer_blocks import Activation, Block, BlockCache, Rotary, sinusoids

Positions = Literal["sinusoidal", "learned", "rotary"]
Tied = Literal["none", "target", "all"]


class Places(nn.Module):
    """How tokens know their place: numbers that are added to embeddings, or turns of queries and keys."""

    def __init__(self, kind: Positions, longest: int, width: int, heads: int) -> None:
        super().__init__()
        self.kind, self.longest, self.size = kind, longest, width // heads
        if kind == "learned":
            self.table = nn.Parameter(sg.empty((longest, width)))
            nn.init.normal_(self.table, 0.0, width**-0.5)
        elif kind == "sinusoidal":
            self.register_buffer("table", sinusoids(longest, width), persistent=False)

    def forward(self, x: Tensor, start: int) -> tuple[Tensor, Rotary | None]:
        """Embeddings (N, T, width) of tokens ``start`` and on, with their places; and the turns, if they are turned."""
        stop = start + x.shape[1]
        if self.kind == "rotary":
            return x, Rotary.at(sg.arange(start, stop, device=x.device), self.size)
        if stop > self.longest:
            raise ValueError(f"Transformer: {stop} tokens are more than the {self.longest} it has places for")
        return x + self.table[start:stop], None


class DecoderCache:
    """Keys and values of all blocks of the decoder: those of what was written, and those of the memory."""

    def __init__(self, blocks: int) -> None:
        self.blocks = [BlockCache.empty() for _ in range(blocks)]

    @property
    def length(self) -> int:
        """Tokens written so far."""
        return self.blocks[0].own.length

    def select(self, rows: Tensor) -> None:
        """Go on with these rows, in this order; a row may be taken more than once."""
        for block in self.blocks:
            for cache in block:
                cache.select(rows)


class Transformer(nn.Module):
    """Logits of the next target token.

    source_vocabulary, target_vocabulary   numbers of tokens
    hidden     width between the two dense layers of a block
    positions  "sinusoidal" (section 3.5), "learned", or "rotary" (Su et al. 2021); the first two up to ``longest``
    tied       the last dense layer is the target embedding ("target"), and the source embedding too ("all")
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        *,
        width: int = 512,
        heads: int = 8,
        layers: int = 6,
        hidden: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        norm_first: bool = False,
        positions: Positions = "sinusoidal",
        longest: int = 512,
        tied: Tied = "target",
    ) -> None:
        super().__init__()
        if tied == "all" and source_vocabulary != target_vocabulary:
            raise ValueError(
                f"Transformer: tied='all' shares one embedding, but there are {source_vocabulary} source and "
                f"{target_vocabulary} target tokens"
            )
        self.width = width
        self.target_tokens = nn.Embedding(target_vocabulary, width)
        self.source_tokens = self.target_tokens if tied == "all" else nn.Embedding(source_vocabulary, width)
        self.head = nn.Linear(width, target_vocabulary, bias=False) if tied == "none" else None
        self.places = Places(positions, longest, width, heads)
        self.dropout = nn.Dropout(dropout)

        def blocks(cross: bool) -> nn.ModuleList:
            made = [
                Block(width, heads, hidden, dropout=dropout, activation=activation, norm_first=norm_first, cross=cross)
                for _ in range(layers)
            ]
            return nn.ModuleList(made)

        self.encoder, self.decoder = blocks(cross=False), blocks(cross=True)
        self.encoder_norm = nn.LayerNorm(width) if norm_first else None
        self.decoder_norm = nn.LayerNorm(width) if norm_first else None
        self._initialise()

    def _initialise(self) -> None:
        for name, p in self.named_parameters():
            if p.ndim == 2 and "tokens" in name:
                nn.init.normal_(p, 0.0, self.width**-0.5)  # sqrt(width) times that is 1: as large as the places
            elif p.ndim == 2 and "table" not in name:
                nn.init.xavier_uniform_(p)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    # --- the network

    def forward(self, source: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
        """Logits (N, T, target_vocabulary) of the token after each of ``target``."""
        return self.decode(target, self.encode(source, present), present)

    def encode(self, source: Tensor, present: Tensor | None = None) -> Tensor:
        """The memory (N, S, width)."""
        x, rotary = self._embed(self.source_tokens, source, 0)
        mask = None if present is None else present[:, None, None]
        for block in self.encoder:
            x = block(x, mask, rotary=rotary)
        return x if self.encoder_norm is None else self.encoder_norm(x)

    def decode(
        self,
        target: Tensor,
        memory: Tensor,
        present: Tensor | None = None,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """Logits of the token after each of ``target``. With ``cache``, what was given earlier comes before it; then
        it is one token at a time after the first call."""
        start = 0 if cache is None else cache.length
        if start and target.shape[1] != 1:
            raise ValueError(f"Transformer: with a filled cache one token at a time, got {target.shape[1]}")
        x, rotary = self._embed(self.target_tokens, target, start)
        mask = None if present is None else present[:, None, None]
        for i, block in enumerate(self.decoder):
            kept = None if cache is None else cache.blocks[i]
            x = block(x, None, start == 0, rotary, memory, mask, kept)
        x = x if self.decoder_norm is None else self.decoder_norm(x)
        return F.linear(x, self.target_tokens.weight if self.head is None else self.head.weight)

    def _embed(self, tokens: nn.Embedding, ids: Tensor, start: int) -> tuple[Tensor, Rotary | None]:
        x, rotary = self.places(tokens(ids) * math.sqrt(self.width), start)
        return self.dropout(x), rotary

    def new_cache(self) -> DecoderCache:
        """An empty cache for decoding."""
        return DecoderCache(len(self.decoder))

    # --- pictures

    def attention(self, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Where tokens look, by kind, each (layers, N, heads, queries, keys): the encoder's and the decoder's
        attention to themselves, and the decoder's to the memory. No padding."""
        found: dict[str, list[Tensor]] = {"encoder": [], "decoder": [], "cross": []}
        x, rotary = self._embed(self.source_tokens, source, 0)
        for block in self.encoder:
            found["encoder"] += block.look(x, rotary=rotary)
            x = block(x, rotary=rotary)
        memory = x if self.encoder_norm is None else self.encoder_norm(x)
        x, rotary = self._embed(self.target_tokens, target, 0)
        for block in self.decoder:
            own, cross = block.look(x, True, rotary, memory)
            found["decoder"].append(own)
            found["cross"].append(cross)
            x = block(x, None, True, rotary, memory)
        return {kind: sg.stack(weights) for kind, weights in found.items()}


class Writer:
    """A decoder in progress, for ``beam``: keeps the memory and the cache of the hypotheses."""

    def __init__(self, model: Transformer, source: np.ndarray, present: np.ndarray, device: sg.Device) -> None:
        self.model, self.device = model, device
        self._cache = model.new_cache()
        self._present = self._tensor(present)
        self._memory = model.encode(self._tensor(source), self._present)

    def __call__(self, tokens: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """Logits (n, vocabulary) after ``tokens`` (n,), which go on from the earlier hypotheses ``rows`` (n,)."""
        if rows is not None:
            chosen = self._tensor(rows)
            self._cache.select(chosen)
            self._present, self._memory = self._present[chosen], self._memory[chosen]
        logits = self.model.decode(self._tensor(tokens[:, None]), self._memory, self._present, self._cache)
        return logits[:, -1].numpy(force=True)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return sg.as_tensor(array, device=self.device)
