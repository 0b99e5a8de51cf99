"""Sequence to sequence with recurrent networks and attention.

Sutskever et al. 2014 and Cho et al. 2014 had one network read the source, and another write the target from what the
first had in mind at the end. Bahdanau et al. 2015 (arXiv:1409.0473) let the writer look back at all of the source at
each step; Luong et al. 2015 (arXiv:1508.04025) put the look after the step, which is the order here. With the states
h_j of a bidirectional encoder, s_t of the decoder and the embedding e(y_{t-1}) of the last token:

    s_t = RNN(s_{t-1}, e(y_{t-1}))              with input feeding  [e(y_{t-1}); a_{t-1}]       (Luong, section 3.3)
    w_tj = softmax_j score(s_t, h_j)                                                            (Luong, eq. 7)
    c_t = sum_j w_tj h_j                        the context, a weighted sum                     (Bahdanau, eq. 5)
    a_t = tanh(W [c_t; s_t])                                                                    (Luong, eq. 5)
    P(y_t | y_1 ... y_{t-1}, x) = softmax(V a_t)                                                (Luong, eq. 6)

    score   dot       s' (h_forward + h_backward)
            general   s' W h                                                                    (Luong, eq. 8)
            additive  v' tanh(W s + U h)                                                        (Bahdanau, A.1.2)
            none      c_t is the encoder's last states, at every step

Where the targets are told and nothing is fed back, the steps do not wait for the looks: the decoder is one op over the
whole target, and attention another.

Source ids are (N, S), target ids (N, T); ``present`` (N, S) is False at padding, which is at the end.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, nn
from scratchgen.nn import functional as F

Cell = Literal["rnn", "gru", "lstm"]
Score = Literal["additive", "general", "dot", "none"]

_CELLS: dict[str, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class Memory(NamedTuple):
    """What the encoder leaves: all its states (N, S, 2 H), what they are compared by (N, S, H), where they are, and its
    last states (N, 2 H)."""

    values: Tensor
    keys: Tensor | None
    present: Tensor | None
    summary: Tensor

    def select(self, rows: Tensor) -> Memory:
        """Of these rows, in this order."""
        keys = None if self.keys is None else self.keys[rows]
        present = None if self.present is None else self.present[rows]
        return Memory(self.values[rows], keys, present, self.summary[rows])


class State(NamedTuple):
    """Where the decoder is: its states, (layers, N, H) each, and the a_t (N, H) that is fed back."""

    hidden: tuple[Tensor, ...]
    fed: Tensor

    def select(self, rows: Tensor) -> State:
        """Of these rows, in this order."""
        return State(tuple(x[:, rows] for x in self.hidden), self.fed[rows])


class Seq2Seq(nn.Module):
    """Logits of the next target token.

    hidden   size of a state: the decoder's, and the encoder's in each direction
    layers   recurrent layers, of both
    feeding  feed a_t into the decoder's next step
    tied     the last dense layer is the target embedding, so ``embedding`` must be ``hidden``
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        *,
        cell: Cell = "gru",
        embedding: int = 64,
        hidden: int = 128,
        layers: int = 1,
        attention: Score = "additive",
        feeding: bool = True,
        dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        if tied and embedding != hidden:
            raise ValueError(f"Seq2Seq: tied shares one matrix: embedding {embedding} must be hidden, {hidden}")
        kind, self.attention, self.feeding = _CELLS[cell], attention, feeding
        self.source_tokens = nn.Embedding(source_vocabulary, embedding)
        self.target_tokens = nn.Embedding(target_vocabulary, embedding)
        self.encoder = kind(embedding, hidden, num_layers=layers, dropout=dropout, bidirectional=True)
        states = 2 if cell == "lstm" else 1
        self.bridges = nn.ModuleList([nn.Linear(2 * hidden, hidden) for _ in range(states)])
        self.decoder = kind(embedding + hidden * feeding, hidden, num_layers=layers, dropout=dropout)
        self.key = nn.Linear(2 * hidden, hidden, bias=False) if attention in ("additive", "general") else None
        self.query = nn.Linear(hidden, hidden) if attention == "additive" else None
        self.energy = nn.Linear(hidden, 1, bias=False) if attention == "additive" else None
        self.readout = nn.Linear(3 * hidden, hidden)
        self.head = nn.Linear(hidden, target_vocabulary)
        self.dropout = nn.Dropout(dropout)
        if tied:
            nn.init.normal_(self.target_tokens.weight, 0.0, hidden**-0.5)
            self.head.weight = self.target_tokens.weight

    # --- the network

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        present: Tensor | None = None,
        told: float = 1.0,
        generator: Generator | None = None,
    ) -> Tensor:
        """Logits (N, T, target_vocabulary) of the token after each of ``target``.

        ``told``: each token but the first is the target's with this probability, and the likeliest by the model's own
        opinion otherwise (scheduled sampling, Bengio et al. 2015); ``generator`` throws the coins.
        """
        memory, state = self.encode(source, present)
        if told >= 1:
            return self.decode(target, memory, state)[0]
        if generator is None:
            raise ValueError("Seq2Seq: to write some tokens itself (told below 1), it needs a generator")
        rows, length = target.shape
        keep = np.asarray(generator.uniform((rows, length))) < told
        found: list[Tensor] = []
        for t, kept in enumerate(keep.T):
            token = target[:, t]
            if t and not kept.all():
                own = found[-1].detach()[:, 0].argmax(1)
                token = sg.where(sg.as_tensor(kept, device=target.device), token, own)
            logits, state = self.decode(token.unsqueeze(1), memory, state)
            found.append(logits)
        return sg.cat(found, 1)

    def encode(self, source: Tensor, present: Tensor | None = None) -> tuple[Memory, State]:
        """What the encoder leaves, and where the decoder begins: s_0 = tanh(W h), h the last states both ways."""
        x = self.dropout(self.source_tokens(source.transpose(0, 1)))
        lengths = None if present is None else present.to(sg.int64).sum(1)
        states, last = self.encoder(x, lengths=lengths)
        kinds = last if isinstance(last, tuple) else (last,)
        both = [_both_ways(kind) for kind in kinds]
        hidden = tuple(sg.tanh(bridge(kind)) for bridge, kind in zip(self.bridges, both, strict=True))
        values = states.transpose(0, 1)
        memory = Memory(values, self._keys(values), present, both[0][-1])
        return memory, State(hidden, sg.zeros(hidden[0].shape[1:], dtype=values.dtype, device=values.device))

    def decode(self, target: Tensor, memory: Memory, state: State) -> tuple[Tensor, State]:
        """Logits of the token after each of ``target``, and where the decoder is then."""
        _, attentional, state = self._run(target, memory, state)
        return self.head(self.dropout(attentional)), state

    def _run(self, target: Tensor, memory: Memory, state: State) -> tuple[Tensor, Tensor, State]:
        """The states s_t and the a_t, (N, T, H) each, and where the decoder is then."""
        x = self.dropout(self.target_tokens(target.transpose(0, 1)))
        if not self.feeding:
            return self._steps(x, memory, state)
        states, attentional = [], []
        for t in range(len(x)):
            given = sg.cat([x[t], state.fed], 1).unsqueeze(0)
            s, a, state = self._steps(given, memory, state)
            states.append(s)
            attentional.append(a)
        return sg.cat(states, 1), sg.cat(attentional, 1), state

    def _steps(self, x: Tensor, memory: Memory, state: State) -> tuple[Tensor, Tensor, State]:
        hidden = state.hidden if len(state.hidden) > 1 else state.hidden[0]
        s, last = self.decoder(x, hidden)
        s = s.transpose(0, 1)
        a = sg.tanh(self.readout(sg.cat([self._context(s, memory), s], -1)))
        return s, a, State(last if isinstance(last, tuple) else (last,), a[:, -1])

    # --- attention

    def _keys(self, values: Tensor) -> Tensor | None:
        if self.attention == "dot":
            forward, backward = values.chunk(2, -1)
            return forward + backward
        return None if self.key is None else self.key(values)

    def _context(self, s: Tensor, memory: Memory) -> Tensor:
        """c_t for each s_t (N, T, H): (N, T, 2 H)."""
        if memory.keys is None:
            return memory.summary.unsqueeze(1).expand(s.shape[0], s.shape[1], memory.summary.shape[1])
        if self.attention == "additive":
            return self._weights(s, memory) @ memory.values
        mask = None if memory.present is None else memory.present.unsqueeze(1)
        return F.scaled_dot_product_attention(s, memory.keys, memory.values, mask, scale=1.0)

    def _weights(self, s: Tensor, memory: Memory) -> Tensor:
        """w_tj: (N, T, S)."""
        assert memory.keys is not None
        if self.query is None or self.energy is None:
            scores = s @ memory.keys.mT
        else:
            both = self.query(s).unsqueeze(2) + memory.keys.unsqueeze(1)
            scores = self.energy(sg.tanh(both)).squeeze(-1)
        if memory.present is not None:
            scores = sg.where(memory.present.unsqueeze(1), scores, -math.inf)
        return F.softmax(scores, -1)

    def align(self, source: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
        """Where the decoder looks as it reads ``target`` (N, T) and writes the token after each: (N, T, S)."""
        if self.attention == "none":
            raise ValueError("Seq2Seq: without attention there is nothing to align")
        memory, state = self.encode(source, present)
        s, _, _ = self._run(target, memory, state)
        return self._weights(s, memory)


def _both_ways(last: Tensor) -> Tensor:
    """Last states of each layer and direction (2 layers, N, H) as (layers, N, 2 H)."""
    return sg.cat([last[0::2], last[1::2]], -1)


class Writer:
    """A decoder in progress, for ``beam``: keeps the memory and the states of the hypotheses."""

    def __init__(self, model: Seq2Seq, source: np.ndarray, present: np.ndarray, device: sg.Device) -> None:
        self.model, self.device = model, device
        self._memory, self._state = model.encode(self._tensor(source), self._tensor(present))

    def __call__(self, tokens: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """Logits (n, vocabulary) after ``tokens`` (n,), which go on from the earlier hypotheses ``rows`` (n,)."""
        if rows is not None:
            chosen = self._tensor(rows)
            self._memory, self._state = self._memory.select(chosen), self._state.select(chosen)
        logits, self._state = self.model.decode(self._tensor(tokens[:, None]), self._memory, self._state)
        return logits[:, -1].numpy(force=True)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return sg.as_tensor(array, device=self.device)
