"""Pairs of sequences: tokenizers, and the rule that each generated task must follow."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgen import data
from scratchgen.data import Tokenizer
from scratchgen.data.dates import FIRST, LAST
from scratchgen.data.pairs import PairDataset, Pairs
from scratchgen.data.tasks import addition, copy, reverse, sort
from scratchgen.data.tokens import BOS, EOS, PAD, SPECIAL, UNK, split, trim


def splits(dataset: PairDataset) -> list[Pairs]:
    return [dataset.train, dataset.validation, dataset.test]


@given(st.text("abcxyz 123"))
def test_characters_come_back(text: str) -> None:
    tokenizer = Tokenizer(" 123abcxyz", "characters")
    assert tokenizer.decode(tokenizer.encode(text)) == text
    (row,) = tokenizer.encode_all([text])
    assert tokenizer.decode(row) == text


@given(st.lists(st.sampled_from(["zwei", "männer", "7", ".", ","]), max_size=8))
def test_words_come_back_with_one_blank_between(words: list[str]) -> None:
    tokenizer = Tokenizer([",", ".", "7", "männer", "zwei"], "words")
    assert tokenizer.decode(tokenizer.encode("  ".join(words))) == " ".join(words)


def test_words_are_lower_cased_runs_and_single_marks() -> None:
    assert split("Ein Mann, 23, läuft: «Los!»", "words") == [
        "ein", "mann", ",", "23", ",", "läuft", ":", "«", "los", "!", "»",
    ]  # fmt: skip


def test_special_ids_come_first() -> None:
    tokenizer = Tokenizer("ab", "characters")
    assert (PAD, BOS, EOS, UNK, len(tokenizer)) == (0, 1, 2, 3, 6)
    assert tokenizer.encode("abz") == [4, 5, UNK]
    assert tokenizer.decode([BOS, 4, PAD, UNK, EOS, 5]) == "a<unk>"
    with pytest.raises(ValueError, match=r"id 6 is not in 0 \.\.\. 5"):
        tokenizer.decode([6])
    assert SPECIAL[UNK] == "<unk>"


def test_rows_end_in_eos_and_padding_which_trim_takes_off() -> None:
    tokenizer = Tokenizer("abc", "characters")
    ids = tokenizer.encode_all(["abc", "", "b"])
    assert ids.dtype == np.int64
    assert ids.tolist() == [[4, 5, 6, EOS], [EOS, PAD, PAD, PAD], [5, EOS, PAD, PAD]]
    assert trim(ids[1:]).tolist() == [[EOS, PAD], [5, EOS]]
    assert trim(ids).shape == (3, 4)
    assert trim(np.zeros((2, 3), np.int64)).shape == (2, 0)
    assert tokenizer.encode_all([]).shape == (0, 0)


def test_learning_keeps_frequent_words_the_most_frequent_first() -> None:
    texts = ["the dog sees the cat", "a dog", "The end"]
    assert Tokenizer.learn(texts, "words").tokens == ("the", "dog", "a", "cat", "end", "sees")
    assert Tokenizer.learn(texts, "words", min_count=2).tokens == ("the", "dog")


def test_tokenizers_refuse_repeated_tokens_and_other_units() -> None:
    with pytest.raises(ValueError, match=r"repeated: \['a'\]"):
        Tokenizer("aba", "characters")
    with pytest.raises(ValueError, match="unit must be 'characters' or 'words', got 'bytes'"):
        Tokenizer("ab", "bytes")


def read_date(text: str) -> datetime.date:
    """An independent reading of the six formats, by strptime."""
    text = text.title()
    for form in ("%d %B %Y", "%B %d, %Y", "%d/%m/%Y", "%A %d %b %Y", "%Y.%m.%d"):
        try:
            return datetime.datetime.strptime(text, form).date()
        except ValueError:
            pass
    month, day, year = text.split()
    century = 1900 if int(year) >= 50 else 2000
    return datetime.datetime.strptime(f"{month} {day} {century + int(year)}", "%b %d %Y").date()


def test_dates_mean_what_they_should() -> None:
    dates = data.load("dates")
    weekdays = 0
    for part in splits(dates):
        for human, iso in zip(part.source, part.target):
            date = read_date(human)
            assert date.isoformat() == iso
            assert FIRST <= date <= LAST
            if human.split()[0] in ("monday", "sunday"):
                assert date.strftime("%A").lower() == human.split()[0]
                weekdays += 1
    assert weekdays > 100


def test_dates_mix_the_six_formats_and_no_day_occurs_twice() -> None:
    dates = data.load("dates")
    assert [len(part) for part in splits(dates)] == [10_000, 1_000, 1_000]
    days = dates.trainval.target + dates.test.target
    assert len(set(days)) == len(days)
    formats = (
        r"\d{1,2} [a-z]+ \d{4}",
        r"[a-z]+ \d{1,2}, \d{4}",
        r"\d\d/\d\d/\d{4}",
        r"[a-z]+day \d{1,2} [a-z]{3} \d{4}",
        r"[a-z]{3} \d\d \d\d",
        r"\d{4}\.\d{1,2}\.\d{1,2}",
    )
    counts = [sum(re.fullmatch(form, text) is not None for text in dates.train.source) for form in formats]
    assert sum(counts) == 10_000
    assert max(abs(count - 10_000 / 6) for count in counts) < 4 * np.sqrt(10_000 / 6)


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


@pytest.mark.parametrize(
    ("name", "rule"),
    [("copy", list), ("reverse", lambda row: row[::-1]), ("sort", sorted)],
)
def test_sequence_tasks_follow_their_rule(name: str, rule: Callable[[list[int]], list[int]]) -> None:
    dataset = data.load(name)
    for part in splits(dataset):
        for source, target in zip(part.source[:2000], part.target):
            row = numbers(source)
            assert len(row) == 20
            assert 1 <= min(row) <= max(row) <= 50
            assert numbers(target) == rule(row)
    assert len(dataset.source_tokenizer) == 54
    source, target = dataset.test.ids
    assert source.shape == target.shape == (2000, 21)
    assert (source[:, -1] == EOS).all()
    assert [dataset.target_tokenizer.decode(row) for row in target] == dataset.test.target


def test_sequence_tasks_take_other_lengths_and_seeds() -> None:
    first, second = (reverse(length=12, vocabulary=9, seed=seed) for seed in (1, 2))
    assert {len(numbers(text)) for text in first.test.source} == {12}
    assert len(first.target_tokenizer) == 13
    assert not set(first.test.source) & set(second.test.source)


@pytest.mark.parametrize("task", [copy, reverse, sort])
def test_sequence_tasks_refuse_what_they_cannot_do(task: Callable[..., PairDataset]) -> None:
    with pytest.raises(ValueError, match="too few sequences of length 3 over a vocabulary of 10"):
        task(length=3, vocabulary=10)
    with pytest.raises(ValueError, match="needs length >= 1 and vocabulary >= 2"):
        task(length=0)


@pytest.mark.parametrize("digits", [2, 3, 9])
def test_addition_adds(digits: int) -> None:
    dataset = addition(digits)
    seen = set()
    for part in splits(dataset):
        for source, target in zip(part.source, part.target):
            a, b = source.removesuffix("=").split("+")
            assert len(a) == len(b) == digits
            assert len(target) == digits + 1
            assert int(target[::-1]) == int(a) + int(b)
            seen.add(source)
    assert len(seen) == (10_000 if digits == 2 else 52_500)
    assert [len(dataset.validation), len(dataset.test)] == [500, 500]
    with pytest.raises(ValueError, match=r"digits must be in 2 \.\.\. 9, got 1"):
        addition(1)


def test_pairs_are_taken_together() -> None:
    test = data.load("addition").test
    taken = test.take(np.array([3, 1]))
    assert (taken.source, taken.target) == (
        [test.source[3], test.source[1]],
        [test.target[3], test.target[1]],
    )
    assert np.array_equal(taken.ids[0], test.ids[0][[3, 1]])
