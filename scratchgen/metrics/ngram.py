"""Counting baseline for characters and tokens: interpolated n-grams with Witten-Bell smoothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class _Order:
    """Counts of one history length. A history is named by its index among the grams of the order below."""

    grams: NDArray[np.int64]  # sorted history * vocabulary + token
    counts: NDArray[np.int64]  # of each gram
    tokens_after: NDArray[np.int64]  # of each history: how many tokens followed it
    types_after: NDArray[np.int64]  # of each history: how many different tokens followed it


@dataclass(frozen=True)
class WittenBell:
    """p_o(c | h) = (count(hc) + T(h) p_{o-1}(c | h')) / (count(h) + T(h)), h' = h without its first token.

    T(h) is the number of different tokens seen after h; p_{-1} is uniform (Witten and Bell 1991; Chen and
    Goodman 1999, sec. 2.5). A history never seen passes its weight to the shorter one.
    """

    vocabulary: int
    orders: tuple[_Order, ...]

    @classmethod
    def fit(cls, tokens: ArrayLike, vocabulary: int, max_order: int = 7) -> WittenBell:
        """Count ``tokens`` (N,), integers in 0..vocabulary-1, for history lengths 0..max_order."""
        text = _tokens(tokens, vocabulary)
        if max_order < 0:
            raise ValueError(f"WittenBell.fit: max_order must not be negative, got {max_order}")
        orders: list[_Order] = []
        history, histories = np.zeros(len(text), np.int64), 1
        for length in range(max_order + 1):
            grams, gram_at, counts = np.unique(
                history * vocabulary + text[length:], return_inverse=True, return_counts=True
            )
            owner = grams // vocabulary
            orders.append(
                _Order(
                    grams,
                    counts,
                    np.bincount(owner, counts, histories).astype(np.int64),
                    np.bincount(owner, minlength=histories),
                )
            )
            # The gram that ends one token earlier is the history one token longer.
            history, histories = gram_at[:-1], len(grams)
            if len(history) == 0:
                break
        return cls(vocabulary, tuple(orders))

    def log_prob(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """Log-probability in nats of each token of a text, for each history length: (orders, N).

        Row o uses at most o tokens of history (fewer at the start of the text, none before it).
        """
        text = _tokens(tokens, self.vocabulary)
        probability = np.full(len(text), 1.0 / self.vocabulary)
        history = np.zeros(len(text), np.int64)  # -1: never seen
        rows = []
        for length, order in enumerate(self.orders):
            here = probability[length:]
            key = history * self.vocabulary + text[length:]
            index = np.minimum(np.searchsorted(order.grams, key), len(order.grams) - 1)
            seen = order.grams[index] == key
            total = np.where(history >= 0, order.tokens_after[history], 0)
            types = np.where(history >= 0, order.types_after[history], 0)
            count = np.where(seen, order.counts[index], 0)
            known = total > 0
            interpolated = (count + types * here) / np.where(known, total + types, 1)
            probability = np.concatenate([probability[:length], np.where(known, interpolated, here)])
            rows.append(np.log(probability))
            history = np.where(seen, index, -1)[:-1]
        return np.array(rows)

    def nats_per_token(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """Mean negative log-probability in nats a token, one figure for each history length."""
        return -self.log_prob(tokens).mean(axis=1)


def _tokens(tokens: ArrayLike, vocabulary: int) -> NDArray[np.int64]:
    text = np.asarray(tokens)
    if text.ndim != 1 or text.size == 0 or text.dtype.kind not in "iu":
        raise ValueError(f"an n-gram model needs integer tokens (N,), got {text.dtype} of shape {text.shape}")
    if text.min() < 0 or text.max() >= vocabulary:
        raise ValueError(f"tokens must lie in 0..{vocabulary - 1}, got {text.min()}..{text.max()}")
    return text.astype(np.int64)
