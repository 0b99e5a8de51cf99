"""Drawing tokens: the exact sets that each rule keeps, and decoding with a cache, padding and a moving window."""

from __future__ import annotations

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import Generator, Tensor
from scratchgen.models.decoding import GREEDY, Sampling, complete, decode
from scratchgen.models.gpt import GPT

P = np.array([0.1, 0.4, 0.2, 0.05, 0.25])  # by rank: 1, 4, 2, 0, 3


def kept(p: np.ndarray = P, occurred: np.ndarray | None = None, **rules: float) -> list[int]:
    probabilities = Sampling(**rules).probabilities(np.log(p)[None], occurred)[0]  # type: ignore[arg-type]
    assert probabilities.sum() == pytest.approx(1)
    chosen = np.flatnonzero(probabilities)
    if not {"temperature", "repetition_penalty"} & rules.keys():  # what is left keeps its proportions
        np.testing.assert_allclose(probabilities[chosen], p[chosen] / p[chosen].sum())
    return chosen.tolist()


@pytest.mark.parametrize(
    ("rules", "tokens"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"temperature": 0}, [1]),
        ({"top_k": 1}, [1]),
        ({"top_k": 3}, [1, 2, 4]),
        ({"top_k": 99}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.01}, [1]),  # never none
        ({"top_p": 0.39}, [1]),
        ({"top_p": 0.41}, [1, 4]),  # the token that reaches p is in
        ({"top_p": 0.64}, [1, 4]),
        ({"top_p": 0.66}, [1, 2, 4]),
        ({"top_p": 0.96}, [0, 1, 2, 3, 4]),
        ({"min_p": 0.49}, [1, 2, 4]),
        ({"min_p": 0.51}, [1, 4]),
        ({"min_p": 1.0}, [1]),
        ({"top_k": 3, "top_p": 0.7}, [1, 4]),  # 0.4 and 0.25 of 0.85 reach 0.76
    ],
)
def test_each_rule_keeps_exactly_its_tokens(rules: dict[str, float], tokens: list[int]) -> None:
    assert kept(**rules) == tokens


def test_tokens_as_likely_as_the_kth_stay() -> None:
    assert kept(np.array([0.3, 0.3, 0.3, 0.1]), top_k=2) == [0, 1, 2]


def test_temperature_is_a_power() -> None:
    found = Sampling(temperature=0.5).probabilities(np.log(P)[None])[0]
    np.testing.assert_allclose(found, P**2 / (P**2).sum())


def test_the_penalty_lowers_tokens_that_occurred_whatever_their_sign() -> None:
    logits = np.array([[2.0, -2.0, 2.0, -2.0]])
    occurred = np.array([[True, True, False, False]])
    found = Sampling(repetition_penalty=2.0).probabilities(logits, occurred)[0]
    expected = np.exp([1.0, -4.0, 2.0, -2.0])
    np.testing.assert_allclose(found, expected / expected.sum())


def test_draws_follow_the_distribution() -> None:
    rows = np.tile(np.log(P), (20_000, 1))
    counts = np.bincount(Sampling(top_k=4).draw(rows, Generator(5)), minlength=5)
    expected = np.where(P > 0.05, P, 0) / 0.95
    assert counts[3] == 0
    assert (np.abs(counts / 20_000 - expected) <= 4 * np.sqrt(expected * (1 - expected) / 20_000)).all()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"temperature": -1.0}, "temperature must be 0 or more, got -1.0"),
        ({"top_k": -1}, "top_k must be 0 or more"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"min_p": 1.5}, "min_p must be from 0 to 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0"),
    ],
)
def test_rules_that_make_no_sense_are_named(rules: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**rules)  # type: ignore[arg-type]


# --- decoding

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9]]


def model(positions: str, block: int = 16) -> GPT:
    """A small GPT with weights large enough for its distributions to be far from even."""
    made = GPT(11, block, 2, 4, 32, positions=positions).eval()  # type: ignore[arg-type]
    for p in made.parameters():
        if p.ndim == 2:
            p.array[:] *= 8
    return made


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_the_cache_changes_nothing(positions: str) -> None:
    made, rules = model(positions), Sampling(top_p=0.9, repetition_penalty=1.2)
    # 40 tokens: the window of 16 moves several times.
    with_cache, without = (
        complete(decode(made, PROMPTS, 40, rules, Generator(3), use_cache=use), 3) for use in (True, False)
    )
    assert with_cache == without
    assert [len(row) for row in with_cache] == [40] * 3


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_padding_on_the_left_changes_nothing(positions: str) -> None:
    made = model(positions)
    together = complete(decode(made, PROMPTS, 11, GREEDY, Generator(0)), 3)
    alone = [complete(decode(made, [prompt], 11, GREEDY, Generator(0)), 1)[0] for prompt in PROMPTS]
    assert together == alone


def test_a_prompt_longer_than_the_block_counts_by_its_end() -> None:
    made, long = model("learned"), list(np.arange(40) % 11)
    found, expected = (
        complete(decode(made, [prompt], 5, GREEDY, Generator(0)), 1) for prompt in (long, long[-made.block :])
    )
    assert found == expected


class Counting:
    """A stand-in for a model: after token t comes t + 1."""

    block = 64

    def new_cache(self) -> None:
        return None

    def __call__(self, ids: Tensor, present: Tensor | None = None, cache: None = None, last: bool = False) -> Tensor:
        return sg.tensor(np.eye(8, dtype=np.float32)[(ids.numpy()[:, -1:] + 1) % 8])


def test_a_row_that_stopped_waits_for_the_others() -> None:
    steps = list(decode(Counting(), [[1], [3]], 20, GREEDY, Generator(0), stop=5))
    assert [step.tolist() for step in steps] == [[2, 4], [3, 5], [4, -1], [5, -1]]
    assert complete(iter(steps), 2, stop=5) == [[2, 3, 4], [4]]


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token in each"):
        next(decode(Counting(), [[1], []], 1, GREEDY, Generator(0)))
