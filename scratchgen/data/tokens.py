"""Tokens for pairs of sequences: characters, words or byte pairs, with the four special ids that models need."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, Self

import numpy as np

from scratchgen.data.bpe import BPE
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
        return padded(self.encode(text) for text in texts)


class Subwords:
    """A ``Tokenizer`` of byte pairs, learnt from texts: nothing is unknown to it, and texts keep their spelling.

    Ids are those of ``BPE``, after the four special ones.
    """

    def __init__(self, bpe: BPE) -> None:
        self.bpe = bpe

    @classmethod
    def learn(cls, texts: Iterable[str], vocabulary: int) -> Self:
        """``vocabulary`` tokens in all, or fewer where no pair occurs twice."""
        return cls(BPE.train("\n".join(texts), vocabulary - len(SPECIAL)))

    def __len__(self) -> int:
        return len(SPECIAL) + len(self.bpe)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`; no BOS or EOS."""
        return (self.bpe.encode(text) + len(SPECIAL)).tolist()

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to the first EOS, without the other special ones."""
        until_end = itertools.takewhile(lambda i: i != EOS, ids)
        return self.bpe.decode(i - len(SPECIAL) for i in until_end if i >= len(SPECIAL))

    def encode_all(self, texts: Iterable[str]) -> IntArray:
        """As ``Tokenizer.encode_all``."""
        return padded(self.encode(text) for text in texts)


def padded(rows: Iterable[Sequence[int]]) -> IntArray:
    """Each row with EOS after it, and then PAD up to the longest; (n, longest + 1) int64."""
    ended = [[*row, EOS] for row in rows]
    ids = np.full((len(ended), max(map(len, ended), default=0)), PAD, np.int64)
    for row, values in zip(ids, ended):
        row[: len(values)] = values
    return ids


def split(text: str, unit: Unit) -> list[str]:
    """The tokens of `text`."""
    return list(text) if unit == "characters" else re.findall(r"\w+|[^\w\s]", text.lower())


def trim(ids: IntArray) -> IntArray:
    """A batch (n, length) without the columns at its end that are PAD in every row."""
    used = np.flatnonzero((ids != PAD).any(axis=0))
    return ids[:, : used[-1] + 1 if len(used) else 0]
