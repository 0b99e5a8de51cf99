"""The encoder-decoder Transformer, norms first, with one embedding for source, target and output."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..library import Library
from .step import Training


def transformer(L: Library, layers: int, heads: int, width: int, vocabulary: int, batch: int, length: int) -> Training:
    """Random tokens, as many in the source as in the target, so that no data is needed; no dropout."""
    network = L.prepared(_network(L, layers, heads, width, vocabulary, length))
    optimizer = L.adam(network.parameters(), lr=1e-3, betas=(0.9, 0.98))

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        source, target = (rng.integers(vocabulary, size=(batch, length + more)) for more in (0, 1))
        return source, target[:, :-1].copy(), target[:, 1:].copy()

    def step(source: Any, told: Any, targets: Any) -> Any:
        logits = network(source, told)
        loss = L.F.cross_entropy(logits.reshape(-1, vocabulary), targets.reshape(-1), label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        L.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return loss

    return Training({"network": network}, draw, step)


def _network(L: Library, layers: int, heads: int, width: int, vocabulary: int, length: int) -> Any:
    nn, F = L.nn, L.F

    def split(x: Any) -> Any:
        n, t, c = x.shape
        return x.reshape(n, t, heads, c // heads).transpose(1, 2)

    class Attention(nn.Module):  # type: ignore[name-defined,misc]  # mypy: the library is known at run time
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(width, width)
            self.key_value = nn.Linear(width, 2 * width)
            self.project = nn.Linear(width, width)

        def forward(self, x: Any, memory: Any, is_causal: bool) -> Any:
            """The heads' results; ``project`` is left to the block, as one op with the residual."""
            q, (k, v) = split(self.query(x)), (split(u) for u in self.key_value(memory).chunk(2, -1))
            return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal).transpose(1, 2).reshape(x.shape)

    class Block(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self, attentions: int) -> None:
            super().__init__()
            self.attentions = nn.ModuleList([Attention() for _ in range(attentions)])
            self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(attentions + 1)])
            self.widen = nn.Linear(width, 4 * width)
            self.narrow = nn.Linear(4 * width, width)

        def forward(self, x: Any, memory: Any = None) -> Any:
            for i, attention in enumerate(self.attentions):
                h = self.norms[i](x)
                h = attention(h, memory if i else h, is_causal=memory is not None and i == 0)
                x = L.linear_residual(h, attention.project.weight, attention.project.bias, x)
            h = L.linear_relu(self.norms[-1](x), self.widen.weight, self.widen.bias)
            return L.linear_residual(h, self.narrow.weight, self.narrow.bias, x)

    class Transformer(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(vocabulary, width)
            self.places = nn.Embedding(length, width)
            self.encoder = nn.ModuleList([Block(1) for _ in range(layers)])
            self.decoder = nn.ModuleList([Block(2) for _ in range(layers)])
            self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
            nn.init.normal_(self.tokens.weight, 0.0, width**-0.5)

        def forward(self, source: Any, target: Any) -> Any:
            scale = math.sqrt(width)
            memory = self.tokens(source) * scale + self.places.weight
            for block in self.encoder:
                memory = block(memory)
            memory = self.norms[0](memory)
            x = self.tokens(target) * scale + self.places.weight
            for block in self.decoder:
                x = block(x, memory)
            return F.linear(self.norms[1](x), self.tokens.weight)

    return Transformer()
