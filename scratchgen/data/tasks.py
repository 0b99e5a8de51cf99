"""Sequence tasks with an exact rule: copy, reverse, sort and addition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scratchgen.data.dataset import IntArray
from scratchgen.data.pairs import PairDataset, pair_dataset
from scratchgen.data.registry import dataset
from scratchgen.data.tokens import Tokenizer

TRAIN, VALIDATION, TEST = 50_000, 2_000, 2_000
SIZE = f"{TRAIN + VALIDATION:,} + {TEST:,}"
SHAPE = "20 tokens of 50 -> 20"


def _sequences(name: str, rule: Callable[[IntArray], IntArray], length: int, vocabulary: int, seed: int) -> PairDataset:
    """Random sequences of the tokens "1" ... "vocabulary", and what `rule` makes of each; all distinct."""
    if length < 1 or vocabulary < 2:
        raise ValueError(f"{name}: needs length >= 1 and vocabulary >= 2, got {length} and {vocabulary}")
    total = TRAIN + VALIDATION + TEST
    if length * np.log(vocabulary) < np.log(10 * total):
        raise ValueError(
            f"{name}: too few sequences of length {length} over a vocabulary of {vocabulary} "
            f"for {total:,} distinct ones"
        )
    # Duplicates are dropped, so that no test sequence is in the training data; a tenth more leaves enough.
    drawn = np.random.default_rng(seed).integers(1, vocabulary + 1, size=(total + total // 10, length))
    _, first = np.unique(drawn, axis=0, return_index=True)
    source = drawn[np.sort(first)[:total]]
    texts = ([" ".join(map(str, row)) for row in rows.tolist()] for rows in (source, rule(source)))
    pairs = list(zip(*texts))
    tokenizer = Tokenizer([str(i) for i in range(1, vocabulary + 1)], "words")
    train, validation, test = pairs[:TRAIN], pairs[TRAIN : TRAIN + VALIDATION], pairs[TRAIN + VALIDATION :]
    return pair_dataset(name, train, validation, test, tokenizer, tokenizer)


@dataset(
    "copy",
    kind="pairs",
    what="a random sequence -> itself",
    size=SIZE,
    shape=SHAPE,
    source="generated",
    terms="generated",
)
def copy(length: int = 20, vocabulary: int = 50, seed: int = 0) -> PairDataset:
    """Sequences of `length` tokens out of `vocabulary`, to be repeated."""
    return _sequences("copy", lambda rows: rows, length, vocabulary, seed)


@dataset(
    "reverse",
    kind="pairs",
    what="a random sequence -> backwards",
    size=SIZE,
    shape=SHAPE,
    source="generated",
    terms="generated",
)
def reverse(length: int = 20, vocabulary: int = 50, seed: int = 0) -> PairDataset:
    """Sequences of `length` tokens out of `vocabulary`, to be reversed."""
    return _sequences("reverse", lambda rows: rows[:, ::-1], length, vocabulary, seed)


@dataset(
    "sort",
    kind="pairs",
    what="a random sequence -> in ascending order",
    size=SIZE,
    shape=SHAPE,
    source="generated",
    terms="generated",
)
def sort(length: int = 20, vocabulary: int = 50, seed: int = 0) -> PairDataset:
    """Sequences of `length` tokens out of `vocabulary`, to be sorted by value; tokens may repeat."""
    return _sequences("sort", lambda rows: np.sort(rows, axis=1), length, vocabulary, seed)


ADDITION_HELD_BACK = 500  # sums for validation, and as many for the test, as in minGPT


@dataset(
    "addition",
    kind="pairs",
    what="all sums of two digits, last digit first, e.g. '85+50=' -> '531'; digits=3 for longer ones",
    size="9,500 + 500",
    shape="characters, 6 -> 3",
    source="generated, as minGPT's adder",
    terms="generated",
)
def addition(digits: int = 2, seed: int = 0) -> PairDataset:
    """Sums of two numbers below 10**digits, each once, in fixed width.

    The sum is written from its last digit on, the order in which carries arise. For two digits these are all
    the sums, for more a random selection.
    """
    if not 2 <= digits <= 9:
        raise ValueError(f"addition: digits must be in 2 ... 9, got {digits}")
    rng = np.random.default_rng(seed)
    count = min(100**digits, TRAIN + VALIDATION + ADDITION_HELD_BACK)
    numbers = rng.choice(100**digits, size=count, replace=False, shuffle=True)
    pairs = []
    for number in numbers.tolist():
        a, b = divmod(number, 10**digits)
        pairs.append((f"{a:0{digits}}+{b:0{digits}}=", f"{a + b:0{digits + 1}}"[::-1]))
    held = ADDITION_HELD_BACK
    train, validation, test = pairs[: -2 * held], pairs[-2 * held : -held], pairs[-held:]
    source, target = Tokenizer("+=0123456789", "characters"), Tokenizer("0123456789", "characters")
    return pair_dataset("addition", train, validation, test, source, target)
