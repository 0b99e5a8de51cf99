"""Characters as ids, and the text that comes with Python."""

from __future__ import annotations

from pydoc_data.topics import topics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgen import data
from scratchgen.data import CharVocab
from scratchgen.data.text import Text

TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # lone surrogates are not text


@given(TEXT, TEXT)
def test_any_text_comes_back(known: str, more: str) -> None:
    vocab = CharVocab(known + more)
    assert vocab.decode(vocab.encode(known)) == known
    assert vocab.decode(vocab.encode(more).tolist()) == more
    assert CharVocab(vocab.characters).encode(more).tolist() == vocab.encode(more).tolist()


def test_ids_are_places_among_the_sorted_characters() -> None:
    vocab = CharVocab("hello wörld 🙂")
    assert vocab.characters == " dehlorwö🙂"
    assert len(vocab) == 10
    ids = vocab.encode("hö🙂")
    assert ids.dtype == np.int64
    assert ids.tolist() == [3, 8, 9]
    assert vocab.decode(ids[::-1]) == "🙂öh"


def test_unknown_characters_are_named() -> None:
    vocab = CharVocab("abc")
    with pytest.raises(ValueError, match=r"'!' \(U\+0021\), 'é' \(U\+00E9\): not among the 3 .* position 2 "):
        vocab.encode("abé!")
    with pytest.raises(ValueError, match="and 3 more: not among"):
        vocab.encode("12345678")
    with pytest.raises(ValueError, match="'x'"):
        CharVocab("").encode("x")


@pytest.mark.parametrize("ids", [[0, 3], [-1]])
def test_ids_out_of_range_are_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match=r"not all in 0 \.\.\. 2"):
        CharVocab("abc").decode(ids)


def test_windows_are_every_stretch_and_take_no_memory() -> None:
    vocab = CharVocab("abcdef")
    text = Text(vocab.encode("fedcba"), vocab)
    windows = text.windows(4)
    assert [vocab.decode(row) for row in windows] == ["fedc", "edcb", "dcba"]
    assert np.shares_memory(windows, text.ids)
    assert not windows.flags.writeable
    for length in (0, 7):
        with pytest.raises(ValueError, match=rf"length must be in 1 \.\.\. 6, the whole text, got {length}"):
            text.windows(length)


def test_windows_feed_batches() -> None:
    vocab = CharVocab("abcdefghij")
    batches = data.Batches(Text(vocab.encode("abcdefghij"), vocab).windows(4), 3, seed=0)
    for batch in (next(batches), next(batches)):
        assert batch.shape == (3, 4)
        assert np.array_equal(batch[:, 1:], batch[:, :-1] + 1)


def test_the_manual_is_split_in_order() -> None:
    manual = data.load("manual")
    whole = manual.trainval.text + manual.test.text
    assert manual.train.text + manual.validation.text == manual.trainval.text
    assert len(manual.trainval) == int(0.9 * len(whole))
    assert len(manual.train) == int(0.9 * len(manual.trainval))
    assert manual.vocab.characters == "".join(sorted(set(whole)))
    assert len(whole) > 300_000
    for name in sorted(topics)[::10]:
        assert topics[name].strip() in whole
    assert whole.startswith(topics["assert"].strip())
