"""Byte-level byte-pair encoding: text of any kind as tokens of one or more bytes.

Sennrich et al. 2016 ("Neural Machine Translation of Rare Words with Subword Units"), on bytes as in GPT-2 (Radford et
al. 2019, section 2.2). Text is split into words with the blank before them, and each word into its bytes; then pairs of
neighbours become one token, in the order in which the pairs were learnt. No merge crosses words, nothing is unknown,
and every sequence of bytes comes back from its tokens.

Ids are GPT-2's: bytes first, in its order (printable ones before others), then one id for each merge, then special
tokens. So its table of merges alone gives its ids.
"""

from __future__ import annotations

import heapq
import itertools
import json
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Self

import numpy as np

from scratchgen.data.dataset import IntArray

Pair = tuple[int, int]

# What \s means in Unicode; Python's re adds four control characters.
SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

VOCABULARY, MERGES = "vocab.json", "merges.txt"  # GPT-2 calls them encoder.json and vocab.bpe
VERSION = "#version: 0.2"


class BPE:
    """Text <-> ids by byte-pair encoding.

    merges   pairs of ids, in the order they were learnt: pair i becomes the token 256 + i
    special  tokens that no text contains, such as "<|endoftext|>"; their ids come last. They are found in a text
             only if `encode` is told so.
    """

    def __init__(self, merges: Iterable[Sequence[int]], special: Sequence[str] = ()) -> None:
        self.merges: list[Pair] = [(int(a), int(b)) for a, b in merges]
        self.special = tuple(special)
        if len(set(self.special)) != len(self.special) or "" in self.special:
            raise ValueError(f"BPE: special tokens must be distinct and not empty, got {list(self.special)}")
        self._bytes = [bytes([b]) for b in BYTES]
        self._rank: dict[Pair, int] = {}
        for i, (a, b) in enumerate(self.merges):
            if not (0 <= a < 256 + i and 0 <= b < 256 + i) or (a, b) in self._rank:
                raise ValueError(f"BPE: merge {i} is {(a, b)}: not a new pair of ids below {256 + i}")
            self._rank[a, b] = 256 + i
            self._bytes.append(self._bytes[a] + self._bytes[b])
        self._special_ids = {token: len(self._bytes) + i for i, token in enumerate(self.special)}
        self._bytes += [token.encode() for token in self.special]
        self._words: dict[bytes, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._bytes)

    # --- learning

    @classmethod
    def train(cls, text: str | bytes, vocabulary: int, special: Sequence[str] = ()) -> Self:
        """Learn merges from `text` until there are `vocabulary` tokens, or no pair occurs twice.

        Each merge is the most frequent pair; of equally frequent ones the one with the lowest ids.
        """
        count = vocabulary - 256 - len(special)
        if count < 0:
            raise ValueError(
                f"BPE.train: {vocabulary} tokens are too few for 256 bytes and {len(special)} special ones"
            )
        counted = Counter(_words(text))
        words = [[BYTE_ID[b] for b in word] for word in counted]
        weights = list(counted.values())
        pairs: Counter[Pair] = Counter()
        places: defaultdict[Pair, set[int]] = defaultdict(set)  # words that a pair has occurred in
        for i, word in enumerate(words):
            for pair in itertools.pairwise(word):
                pairs[pair] += weights[i]
                places[pair].add(i)
        # A heap of counts that may be out of date: what is taken from it counts only if it still holds.
        heap = [(-n, pair) for pair, n in pairs.items()]
        heapq.heapify(heap)
        merges: list[Pair] = []
        while heap and len(merges) < count:
            n, best = heapq.heappop(heap)
            if -n != pairs[best]:
                continue
            if -n < 2:
                break
            new = 256 + len(merges)
            merges.append(best)
            changed: Counter[Pair] = Counter()
            for i in places.pop(best):
                before, words[i] = words[i], _merge(words[i], best, new)
                for pair in itertools.pairwise(before):
                    changed[pair] -= weights[i]
                for pair in itertools.pairwise(words[i]):
                    changed[pair] += weights[i]
                    places[pair].add(i)
            for pair, difference in changed.items():
                if difference:
                    pairs[pair] += difference
                    heapq.heappush(heap, (-pairs[pair], pair))
        return cls(merges, special)

    # --- text to ids and back

    def encode(self, text: str | bytes, special: bool = False) -> IntArray:
        """The ids of `text`, (n,) int64. `special`: special tokens in a str stand for themselves, not for letters."""
        if special and self.special and isinstance(text, str):
            ids: list[int] = []
            for i, part in enumerate(self._special_split.split(text)):
                ids += [self._special_ids[part]] if i % 2 else self.encode(part).tolist()  # every second one is special
            return np.array(ids, np.int64)
        return np.array([id for word in _words(text) for id in self._encode_word(word)], np.int64)

    @cached_property
    def _special_split(self) -> re.Pattern[str]:
        longest_first = sorted(self.special, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, longest_first))})")

    def _encode_word(self, word: bytes) -> tuple[int, ...]:
        known = self._words.get(word)
        if known is None:
            ids = [BYTE_ID[b] for b in word]
            while len(ids) > 1:
                pair = min(itertools.pairwise(ids), key=lambda p: self._rank.get(p, sys.maxsize))
                if pair not in self._rank:
                    break
                ids = _merge(ids, pair, self._rank[pair])
            known = self._words[word] = tuple(ids)
        return known

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids. Bytes that are not UTF-8, as half a character is, become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids. Raises ValueError if one is out of range."""
        found = [int(i) for i in ids]
        if outside := [i for i in found if not 0 <= i < len(self)]:
            raise ValueError(f"BPE.decode: id {outside[0]} is not in 0 ... {len(self) - 1}")
        return b"".join([self._bytes[i] for i in found])

    def id_of(self, special: str) -> int:
        """The id of a special token."""
        if special not in self._special_ids:
            raise ValueError(f"BPE: {special!r} is not one of the special tokens {list(self.special)}")
        return self._special_ids[special]

    # --- GPT-2's files

    def save(self, folder: Path) -> None:
        """Write `vocab.json` and `merges.txt` as GPT-2's tokenizer has them."""
        names = [*map(_printable, self._bytes[: 256 + len(self.merges)]), *self.special]
        lines = [VERSION, *(f"{names[a]} {names[b]}" for a, b in self.merges)]
        folder.mkdir(parents=True, exist_ok=True)
        vocabulary = json.dumps({name: i for i, name in enumerate(names)}, ensure_ascii=False)
        (folder / VOCABULARY).write_text(vocabulary, encoding="utf-8")
        (folder / MERGES).write_text("\n".join(lines) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, merges: Path, special: Sequence[str] = ("<|endoftext|>",)) -> Self:
        """Read a table of merges (`merges.txt`, GPT-2's `vocab.bpe`). Raises ValueError naming a wrong line."""
        ids = {_printable(bytes([b])): i for i, b in enumerate(BYTES)}
        pairs = []
        for number, line in enumerate(merges.read_text(encoding="utf-8").split("\n"), 1):
            if not line or (number == 1 and line.startswith("#")):
                continue
            parts = line.split(" ")
            if len(parts) != 2 or not all(part in ids for part in parts):
                raise ValueError(f"{merges}, line {number}: expected two tokens made earlier, got {line!r}")
            pairs.append((ids[parts[0]], ids[parts[1]]))
            ids.setdefault("".join(parts), 255 + len(pairs))
        return cls(pairs, special)


# --- bytes


def _byte_order() -> list[int]:
    """The bytes in the order of GPT-2's ids: those that Latin-1 prints, then the rest."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return shown + sorted(set(range(256)) - set(shown))


BYTES = _byte_order()
BYTE_ID = {b: i for i, b in enumerate(BYTES)}
SHOWN = {b: chr(b) if i < 188 else chr(256 + i - 188) for i, b in enumerate(BYTES)}  # 188 are printable


def _printable(token: bytes) -> str:
    """A token as it stands in GPT-2's files: one visible character for each byte, "Ġ" for the blank."""
    return "".join([SHOWN[b] for b in token])


# --- words


@lru_cache(maxsize=1)
def _word_pattern() -> re.Pattern[str]:
    """GPT-2's rule: English endings; runs of letters, of numbers, of other signs, with a blank before them."""
    letter, number = _category("L"), _category("N")
    return re.compile(
        rf"'(?:[stmd]|re|ve|ll)| ?[{letter}]+| ?[{number}]+| ?[^{SPACE}{letter}{number}]+"
        rf"|[{SPACE}]+(?![^{SPACE}])|[{SPACE}]+"
    )


def _category(first: str) -> str:
    """All characters of a general category of Unicode, as ranges for a character class."""
    codes = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == first]
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(rf"\U{low:08x}-\U{high:08x}" for low, high in ranges)


def _words(text: str | bytes) -> list[bytes]:
    """The words of a text as bytes. Bytes that are not UTF-8 go through unchanged."""
    if isinstance(text, bytes):
        text = text.decode(errors="surrogateescape")
    return [word.encode(errors="surrogateescape") for word in _word_pattern().findall(text)]


def _merge(ids: list[int], pair: Pair, new: int) -> list[int]:
    """`ids` with every `pair`, from the left, as one `new`."""
    merged, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged
