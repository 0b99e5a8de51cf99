"""Pairs of sequences, source and target: what a dataset of them looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from scratchgen.data.dataset import Dataset, IntArray, Split
from scratchgen.data.tokens import Tokenizer

TextPair = tuple[str, str]


@dataclass(frozen=True, eq=False, repr=False)
class Pairs(Split):
    """n pairs of texts, and the tokenizers that turn them into ids."""

    source: list[str]
    target: list[str]
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer

    def __len__(self) -> int:
        return len(self.source)

    def take(self, rows: IntArray) -> Self:
        source, target = [self.source[row] for row in rows], [self.target[row] for row in rows]
        return type(self)(source, target, self.source_tokenizer, self.target_tokenizer)

    @cached_property
    def ids(self) -> tuple[IntArray, IntArray]:
        """Source (n, S) and target (n, T) ids, rows ending in EOS and then PAD (see `tokens.trim`)."""
        return self.source_tokenizer.encode_all(self.source), self.target_tokenizer.encode_all(self.target)


@dataclass(frozen=True, eq=False, repr=False)
class PairDataset(Dataset[Pairs]):
    """Pairs of a source and a target text."""

    kind: ClassVar[str] = "pairs"

    @property
    def source_tokenizer(self) -> Tokenizer:
        """The tokenizer of the source texts of all splits."""
        return self.trainval.source_tokenizer

    @property
    def target_tokenizer(self) -> Tokenizer:
        """The tokenizer of the target texts of all splits."""
        return self.trainval.target_tokenizer


def pair_dataset(
    name: str,
    train: Sequence[TextPair],
    validation: Sequence[TextPair],
    test: Sequence[TextPair],
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
) -> PairDataset:
    """The dataset of three lists of pairs."""

    def split(pairs: Sequence[TextPair]) -> Pairs:
        return Pairs([s for s, _ in pairs], [t for _, t in pairs], source_tokenizer, target_tokenizer)

    rows = np.arange(len(train), len(train) + len(validation))
    return PairDataset(name, split([*train, *validation]), split(test), rows)
