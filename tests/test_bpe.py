"""Byte-pair encoding: what was learnt, round trips, GPT-2's rules, ids and files."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgen.data.bpe import BPE, BYTES, _words

TEXT = "the cat sat on the mat; the rat ate the cat's hat at 12:45 — naïve café, 日本語!\n\n  " * 5
TRAINED = BPE.train(TEXT, 300, ["<|endoftext|>", "<|user|>"])

# The first lines of GPT-2's table of merges: with them alone these words have their published ids.
GPT2 = """#version: 0.2
Ġ t|Ġ a|h e|i n|r e|o n|Ġt he|e r|Ġ s|a t|Ġ w|Ġ o|e n|Ġ c|i t|i s|a n|o r|e s|Ġ b|e d|Ġ f|in g|Ġ p|o u|Ġa n|a l|a r|Ġt o
""".replace("|", "\n")


@given(st.binary(max_size=200))
def test_any_bytes_come_back(data: bytes) -> None:
    assert TRAINED.decode_bytes(TRAINED.encode(data)) == data


@given(st.text(max_size=100))
def test_any_text_comes_back(text: str) -> None:
    assert TRAINED.decode(TRAINED.encode(text)) == text
    assert "".join(word.decode() for word in _words(text)) == text


def test_merges_are_the_most_frequent_pairs() -> None:
    # "aaabdaaabac" (Gage 1994): aa is a pair four times, and merging it from the left leaves its overlap alone.
    learnt = BPE.train("aaabdaaabac", 259)
    a, b = (BYTES.index(ord(c)) for c in "ab")
    assert learnt.merges == [(a, a), (a, b), (256, 257)]
    assert learnt.decode_bytes([258]) == b"aaab"
    assert learnt.encode("aaabdaaabac").tolist() == [258, BYTES.index(ord("d")), 258, a, BYTES.index(ord("c"))]


def test_training_equals_counting_everything_anew_for_each_merge() -> None:
    text = "she sells sea shells by the sea shore, the shells she sells are sea shells for sure " * 3
    words = [[BYTES.index(b) for b in word] for word in _words(text)]
    expected = []
    for new in range(256, 296):
        counts: dict[tuple[int, int], int] = {}
        for word in words:
            for pair in itertools.pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        expected.append(best)
        for k, word in enumerate(words):
            merged, i = [], 0
            while i < len(word):
                both = tuple(word[i : i + 2]) == best
                merged.append(new if both else word[i])
                i += 2 if both else 1
            words[k] = merged
    assert BPE.train(text, 296).merges == expected


def test_training_stops_where_no_pair_occurs_twice() -> None:
    assert BPE.train("abc", 1000).merges == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello world", ["Hello", " world"]),
        ("I'll it's 'tis", ["I", "'ll", " it", "'s", " '", "tis"]),
        ("a  b", ["a", " ", " b"]),  # the last blank belongs to the word after it
        ("x = 10_000;\n\n\ty", ["x", " =", " 10", "_", "000", ";", "\n\n", "\t", "y"]),
        ("trailing  ", ["trailing", "  "]),
        ("½ Ⅷ二", [*("½", " Ⅷ", "二")]),  # numbers by category; an ideograph is a letter
        ("a\u00a0b\x1cc", ["a", "\u00a0", "b", "\x1c", "c"]),  # \x1c is not white space in Unicode
    ],
)
def test_words_split_as_in_gpt2(text: str, words: list[str]) -> None:
    assert [word.decode() for word in _words(text)] == words


def test_gpt2s_table_gives_gpt2s_ids(tmp_path: Path) -> None:
    (tmp_path / "vocab.bpe").write_text(GPT2, encoding="utf-8")
    bpe = BPE.load(tmp_path / "vocab.bpe")
    for text, ids in {
        "!": [0], "A": [32], "a": [64], " ": [220], "\n": [198], " the": [262], "ing": [278], " to": [284],
        " a": [257], "he": [258], "in the": [259, 262],
    }.items():  # fmt: skip
        assert bpe.encode(text).tolist() == ids, text


def test_files_are_gpt2s_and_come_back(tmp_path: Path) -> None:
    TRAINED.save(tmp_path)
    table = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    assert len(table) == len(TRAINED)
    assert table["Ġ"] == 220
    assert table["<|user|>"] == len(TRAINED) - 1
    assert (tmp_path / "merges.txt").read_text(encoding="utf-8").startswith("#version: 0.2\n")
    again = BPE.load(tmp_path / "merges.txt", TRAINED.special)
    assert again.merges == TRAINED.merges
    np.testing.assert_array_equal(again.encode(TEXT), TRAINED.encode(TEXT))


def test_special_tokens_are_found_only_when_asked_for() -> None:
    text = "the<|endoftext|>cat<|user|>"
    end, user = TRAINED.id_of("<|endoftext|>"), TRAINED.id_of("<|user|>")
    found = TRAINED.encode(text, special=True).tolist()
    assert [i for i in found if i >= end] == [end, user]
    assert found[-1] == user
    assert max(TRAINED.encode(text)) < end
    assert TRAINED.decode(found) == TRAINED.decode(TRAINED.encode(text)) == text


def test_wrong_tables_ids_and_tokens_are_named(tmp_path: Path) -> None:
    (tmp_path / "merges.txt").write_text("#version: 0.2\nĠ t\nq uu\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 3: expected two tokens made earlier, got 'q uu'"):
        BPE.load(tmp_path / "merges.txt")
    with pytest.raises(ValueError, match="id 302 is not in 0"):
        TRAINED.decode([302])
    with pytest.raises(ValueError, match="not one of the special tokens"):
        TRAINED.id_of("<|nobody|>")
    with pytest.raises(ValueError, match="too few for 256 bytes"):
        BPE.train("text", 100)
    with pytest.raises(ValueError, match="merge 1 is"):
        BPE([(0, 1), (0, 1)])
    with pytest.raises(ValueError, match="distinct and not empty"):
        BPE([], ["<a>", "<a>"])
