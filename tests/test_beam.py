"""Beam search against trying everything, on a source whose every probability is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from scratchgen import Generator
from scratchgen.models.beam import beam_search, write
from scratchgen.models.decoding import GREEDY, Sampling

BOS, EOS, VOCABULARY, SENTENCES = 0, 1, 4, 3


class Source:
    """The next token depends on the last two and on the sentence."""

    def __init__(self, seed: int = 0) -> None:
        self.table = 2 * np.random.default_rng(seed).standard_normal((SENTENCES, VOCABULARY, VOCABULARY, VOCABULARY))
        self.sentence, self.before = np.arange(SENTENCES), np.zeros(SENTENCES, int)
        self.rows_used = []

    def __call__(self, tokens: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        if rows is not None:
            self.sentence, self.before = self.sentence[rows], self.before[rows]
        self.rows_used.append(len(tokens))
        logits = self.table[self.sentence, self.before, tokens]
        self.before = tokens
        return logits

    def log_p(self, sentence: int, tokens: tuple[int, ...]) -> float:
        before, last, total = 0, BOS, 0.0
        for token in tokens:
            z = self.table[sentence, before, last]
            total += z[token] - np.log(np.exp(z).sum())
            before, last = last, token
        return total


def exhaustive(source: Source, sentence: int, longest: int, alpha: float) -> list[tuple[float, tuple[int, ...]]]:
    """All sequences that end, or are as long as allowed, with their scores, the best first."""
    others = [t for t in range(VOCABULARY) if t != EOS]
    found = []
    for length in range(1, longest + 1):
        for body in itertools.product(others, repeat=length - 1):
            lasts = range(VOCABULARY) if length == longest else [EOS]
            for last in lasts:
                score = source.log_p(sentence, (*body, last)) / ((5 + length) / 6) ** alpha
                found.append((score, body if last == EOS else (*body, last)))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("seed", range(5))
def test_a_beam_as_wide_as_all_there_is_finds_the_best(seed: int, alpha: float) -> None:
    longest = 4
    found = beam_search(Source(seed), SENTENCES, BOS, EOS, longest, beams=VOCABULARY**longest, alpha=alpha)
    for sentence, hypotheses in enumerate(found):
        expected = exhaustive(Source(seed), sentence, longest, alpha)
        assert len(hypotheses) == len(expected)
        for h, (score, _) in zip(hypotheses, expected):
            assert h.score == pytest.approx(score)
        assert tuple(hypotheses[0].tokens) == expected[0][1]


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_the_vocabulary_is_exact_for_two_tokens(seed: int) -> None:
    found = beam_search(Source(seed), SENTENCES, BOS, EOS, 2, beams=VOCABULARY, alpha=0.6)
    for sentence, hypotheses in enumerate(found):
        assert tuple(hypotheses[0].tokens) == exhaustive(Source(seed), sentence, 2, 0.6)[0][1]


def test_wider_beams_find_likelier_sequences_and_beat_greedy() -> None:
    by_width = []
    for beams in (1, 2, 5, 20):
        best = [
            [h[0].score for h in beam_search(Source(seed), SENTENCES, BOS, EOS, 8, beams, 0.0)] for seed in range(20)
        ]
        by_width.append(np.mean(best))
    greedy = []
    for seed in range(20):
        written = write(Source(seed), SENTENCES, BOS, EOS, 8, GREEDY, Generator(0))
        ends = [(*ids.tolist(), EOS)[:8] for ids in written]
        greedy.append([Source(seed).log_p(s, ids) for s, ids in enumerate(ends)])
    assert np.all(np.diff([np.mean(greedy), *by_width]) >= 0)
    assert by_width[2] > np.mean(greedy) + 0.1


def test_sentences_that_are_done_cost_nothing_more() -> None:
    source = Source()
    source.table[0, :, :, EOS] = 20  # ends at once
    beam_search(source, SENTENCES, BOS, EOS, 6, beams=2)
    assert source.rows_used[0] == 6
    assert source.rows_used[-1] < 6


def test_a_longer_penalty_favours_longer_sequences() -> None:
    lengths = [
        np.mean(
            [len(h[0].tokens) for s in range(20) for h in beam_search(Source(s), SENTENCES, BOS, EOS, 10, 5, alpha)]
        )
        for alpha in (0.0, 1.0, 3.0)
    ]
    assert lengths[0] < lengths[1] < lengths[2]


def test_drawn_sequences_have_the_frequencies_of_the_source() -> None:
    source, count = Source(), 4000
    source.sentence, source.before = np.zeros(count, int), np.zeros(count, int)
    written = write(source, count, BOS, EOS, 3, Sampling(), Generator(0))
    for tokens in ((), (2,), (3, 0)):
        expected = np.exp(source.log_p(0, (*tokens, EOS)))
        share = np.mean([tuple(ids) == tokens for ids in written])
        assert share == pytest.approx(expected, abs=4 * np.sqrt(expected / count))


def test_a_beam_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="beams and longest must be 1 or more, got 0 and 5"):
        beam_search(Source(), SENTENCES, BOS, EOS, 5, beams=0)
