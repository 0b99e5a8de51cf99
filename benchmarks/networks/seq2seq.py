"""LSTMs with attention: one reads the source both ways, another writes the target and looks back (Luong et al.)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..library import Library
from .step import Training


def seq2seq(L: Library, hidden: int, vocabulary: int, batch: int, length: int) -> Training:
    """Random tokens, as many in the source as in the target, so that no data is needed; no dropout."""
    network = L.prepared(_network(L, hidden, vocabulary))
    optimizer = L.adam(network.parameters(), lr=1e-3)

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        source, target = (rng.integers(vocabulary, size=(length + more, batch)) for more in (0, 1))
        return source, target[:-1].copy(), target[1:].copy()

    def step(source: Any, told: Any, targets: Any) -> Any:
        logits = network(source, told)
        loss = L.F.cross_entropy(logits.reshape(-1, vocabulary), targets.transpose(0, 1).reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        L.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return loss

    return Training({"network": network}, draw, step)


def _network(L: Library, hidden: int, vocabulary: int) -> Any:
    nn, F = L.nn, L.F

    class Seq2Seq(nn.Module):  # type: ignore[name-defined,misc]  # mypy: the library is known at run time
        def __init__(self) -> None:
            super().__init__()
            self.source = nn.Embedding(vocabulary, hidden)
            self.target = nn.Embedding(vocabulary, hidden)
            self.encoder = nn.LSTM(hidden, hidden, bidirectional=True)
            self.bridges = nn.ModuleList([nn.Linear(2 * hidden, hidden) for _ in range(2)])
            self.decoder = nn.LSTM(hidden, hidden)
            self.key = nn.Linear(2 * hidden, hidden, bias=False)
            self.readout = nn.Linear(3 * hidden, hidden)
            self.head = nn.Linear(hidden, vocabulary)

        def forward(self, source: Any, target: Any) -> Any:
            """Logits (N, T, vocabulary) of tokens (S, N) and (T, N)."""
            states, last = self.encoder(self.source(source))
            both = [kind.transpose(0, 1).reshape(1, -1, 2 * hidden) for kind in last]
            first = tuple(L.tanh(bridge(kind)) for bridge, kind in zip(self.bridges, both))
            written, _ = self.decoder(self.target(target), first)
            memory, written = states.transpose(0, 1), written.transpose(0, 1)
            context = F.scaled_dot_product_attention(written, self.key(memory), memory, scale=1.0)
            return self.head(L.tanh(self.readout(L.cat([context, written], -1))))

    return Seq2Seq()
