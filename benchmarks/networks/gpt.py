"""GPT as in nanoGPT: pre-norm Transformer, weights of embedding and output tied, AdamW, gradients clipped to 1.

It trains, and it writes, token by token with the keys and values of earlier tokens kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..library import Library
from .step import Training

VOCABULARY = 65  # characters of tiny Shakespeare


def gpt(L: Library, layers: int, heads: int, width: int, batch: int, length: int) -> Training:
    """A character model; the tokens are random, so that no data is needed."""
    network = L.prepared(_network(L, layers, heads, width, length))
    optimizer = L.adamw(network.parameters(), lr=1e-3)

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        text = rng.integers(VOCABULARY, size=(batch, length + 1))
        return text[:, :-1].copy(), text[:, 1:].copy()

    def step(tokens: Any, targets: Any) -> Any:
        loss = L.F.cross_entropy(network(tokens).reshape(-1, VOCABULARY), targets.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        L.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return loss

    return Training({"network": network}, draw, step)


def gpt_writing(L: Library, layers: int, heads: int, width: int, batch: int, length: int) -> Training:
    """Each step writes texts of ``length`` tokens to their end, the likeliest token always; a quarter is given.

    What it returns is no loss, but the mean logit of the tokens that it chose.
    """
    network = L.prepared(_network(L, layers, heads, width, length))
    given = length // 4

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        return (rng.integers(VOCABULARY, size=(batch, given)),)

    def step(tokens: Any) -> Any:
        shape = batch, heads, length, width // heads
        chosen = []
        with L.no_grad():
            cache = [(L.empty(shape), L.empty(shape)) for _ in range(layers)]
            for start in [0, *range(given, length - 1)]:
                best = network(tokens, cache, start)[:, -1].max(1)
                chosen.append(best.values)
                tokens = best.indices[:, None]
            return L.stack(chosen).mean()

    return Training({"network": network}, draw, step)


def _network(L: Library, layers: int, heads: int, width: int, length: int) -> Any:
    nn, F = L.nn, L.F

    def add_norm(norm: Any, x: Any, change: Any) -> tuple[Any, Any]:
        """The norm of x + change, and x + change."""
        return L.layer_norm_residual(x, change, norm.weight, norm.bias)

    class Attention(nn.Module):  # type: ignore[name-defined,misc]  # mypy: the library is known at run time
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(width, 3 * width)
            self.project = nn.Linear(width, width)

        def forward(self, x: Any, cache: Any, start: int) -> Any:
            n, t, c = x.shape
            q, k, v = (u.reshape(n, t, heads, c // heads).transpose(1, 2) for u in self.qkv(x).chunk(3, -1))
            if cache is not None:
                for kept, new in zip(cache, (k, v)):
                    kept[:, :, start : start + t] = new
                k, v = (kept[:, :, : start + t] for kept in cache)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=start == 0)
            return self.project(mixed.transpose(1, 2).reshape(n, t, c))

    class MLP(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.widen = nn.Linear(width, 4 * width)
            self.project = nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            return self.project(L.linear_gelu(x, self.widen.weight, self.widen.bias))

    class GPT(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Embedding(VOCABULARY, width)
            self.place = nn.Embedding(length, width)
            self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2 * layers + 1)])
            self.attentions = nn.ModuleList([Attention() for _ in range(layers)])
            self.mlps = nn.ModuleList([MLP() for _ in range(layers)])
            for table in (self.token, self.place):
                nn.init.normal_(table.weight, 0.0, 0.02)
            parts = [
                (self.norms[2 * i], a.qkv, a.project, self.norms[2 * i + 1], m.widen, m.project)
                for i, (a, m) in enumerate(zip(self.attentions, self.mlps))
            ]
            self.weights = [w for block in parts for part in block for w in (part.weight, part.bias)]

        def forward(self, tokens: Any, cache: Any = None, start: int = 0) -> Any:
            """``cache``: keys and values of each block, of which ``start`` are there; one token at a time then."""
            x = self.token(tokens)
            change = self.place.weight[start : start + tokens.shape[1]].expand(x.shape)
            stepped = L.blocks_step(x + change, cache, start, self.weights) if start else None
            if stepped is not None:
                return F.linear(self.norms[-1](stepped), self.token.weight)
            for i in range(layers):
                h, x = add_norm(self.norms[2 * i], x, change)
                h, x = add_norm(self.norms[2 * i + 1], x, self.attentions[i](h, cache and cache[i], start))
                change = self.mlps[i](h)
            h, _ = add_norm(self.norms[-1], x, change)
            return F.linear(h, self.token.weight)

    return GPT()
