"""Tokens for pairs of sequences: characters or words, with the four special ids that sequence models need."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, Self

import numpy as np

from scratchgen.data.dataset import IntArray

PAD, BOS, EOS, UNK = range(4)
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")

Unit = Literal["characters", "words"]


class Tokenizer:
    """Text <-> ids. The first four ids are PAD, BOS, EOS and UNK; the id of `tokens[i]` is i + 4.

    unit  "characters", or "words": lower-cased runs of letters and digits, and single punctuation marks.
          Words come back from `decode` with one blank between them.
    """

    def __init__(self, tokens: Sequence[str], unit: Unit) -> None:
        if unit not in ("characters", "words"):
            raise ValueError(f"Tokenizer: unit must be 'characters' or 'words', got {unit!r}")
        self.tokens = tuple(tokens)
        self.unit = unit
        self._all = SPECIAL + self.tokens
        self._ids = {token: i for i, token in enumerate(self._all)}
        if len(self._ids) != len(self._all):
            repeated = [token for token, count in Counter(self._all).items() if count > 1]
            raise ValueError(f"Tokenizer: tokens must be distinct; repeated: {repeated[:5]}")

    @classmethod
    def learn(cls, texts: Iterable[str], unit: Unit, min_count: int = 1) -> Self:
        """The tokens that occur at least `min_count` times in `texts`, the most frequent first."""
        counts = Counter(token for text in texts for token in split(text, unit))
        kept = [token for token, count in counts.items() if count >= min_count]
        return cls(sorted(kept, key=lambda token: (-counts[token], token)), unit)

    def __len__(self) -> int:
        return len(self._all)

    def encode(self, text: str) -> list[int]:
        """The ids of the tokens of `text`, UNK for those that are not known; no BOS or EOS."""
        return [self._ids.get(token, UNK) for token in split(text, self.unit)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to the first EOS, without PAD and BOS."""
        tokens = []
        for i in ids:
            if i == EOS:
                break
            if not 0 <= i < len(self):
                raise ValueError(f"Tokenizer.decode: id {i} is not in 0 ... {len(self) - 1}")
            if i not in (PAD, BOS):
                tokens.append(self._all[i])
        return ("" if self.unit == "characters" else " ").join(tokens)

    def encode_all(self, texts: Iterable[str]) -> IntArray:
        """One row for each text: its ids, EOS, then PAD up to the longest; (n, longest + 1) int64."""
        rows = [[*self.encode(text), EOS] for text in texts]
        ids = np.full((len(rows), max(map(len, rows), default=0)), PAD, np.int64)
        for row, values in zip(ids, rows):
            row[: len(values)] = values
        return ids


def split(text: str, unit: Unit) -> list[str]:
    """The tokens of `text`."""
    return list(text) if unit == "characters" else re.findall(r"\w+|[^\w\s]", text.lower())


def trim(ids: IntArray) -> IntArray:
    """A batch (n, length) without the columns at its end that are PAD in every row."""
    used = np.flatnonzero((ids != PAD).any(axis=0))
    return ids[:, : used[-1] + 1 if len(used) else 0]
