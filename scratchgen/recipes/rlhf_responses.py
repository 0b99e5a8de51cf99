"""Responses of the RLHF recipe: how they are drawn, and which is liked.

A rule that counts stands in place of people, so that every label is exact. It is simple enough to be cheated, which is
the point: a policy that is let far from where it began is rewarded for text that nobody would like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..data.dataset import IntArray
from ..device import Device
from ..models.decoding import Sampling, decode
from ..models.gpt import GPT
from ..models.rlhf import Floats
from ..rng import Generator
from .gpt_text import TextTokenizer
from .judges import evaluating

VOWELS = frozenset("aeiouAEIOU")
ROWS = 1024  # responses that are written at once


def vowels(text: str) -> float:
    """The share of characters that are vowels."""
    return sum(character in VOWELS for character in text) / max(1, len(text))


def syllables(text: str) -> float:
    """Runs of vowels for each character: what ``vowels`` counts, but a run of them only once."""
    starts = sum(b in VOWELS and a not in VOWELS for a, b in zip(f" {text}", text))
    return starts / max(1, len(text))


RULES: dict[str, Callable[[str], float]] = {"vowels": vowels, "syllables": syllables}


class Pairs(NamedTuple):
    """Two responses to each prompt, (N, prompt + response), and 1 where one is better, 0 where neither is (N,)."""

    better: IntArray
    worse: IntArray
    differ: npt.NDArray[np.float32]


class Responses(NamedTuple):
    """Sequences of a prompt and a response of ``length`` tokens, drawn at temperature 1, and judged by ``rule``."""

    tokenizer: TextTokenizer
    length: int
    rule: Callable[[str], float]
    device: Device

    def draw(self, model: GPT, prompts: IntArray, generator: Generator) -> IntArray:
        """Prompts (N, prompt), each with a response of ``model`` after it."""
        found = []
        with evaluating(model):
            for some in np.array_split(prompts, -(-len(prompts) // ROWS)):
                drawn = decode(model, some.tolist(), self.length, Sampling(), generator, device=self.device)
                found.append(np.concatenate([some, np.stack(list(drawn), 1)], 1))
        return np.concatenate(found)

    def texts(self, ids: IntArray) -> list[str]:
        """The responses in sequences."""
        return [self.tokenizer.decode(row) for row in ids[:, -self.length :].tolist()]

    def counted(self, ids: IntArray) -> Floats:
        """What the rule says of the responses, (N,)."""
        return np.array([self.rule(text) for text in self.texts(ids)])

    def pairs(self, model: GPT, prompts: IntArray, generator: Generator, unit: float = 0.0) -> Pairs:
        """Two responses of ``model`` to each prompt, by the rule.

        ``unit``: the better is drawn by (1) of ``models/rlhf.py``, with the rule's numbers in that unit as rewards.
        """
        first, second = np.split(self.draw(model, np.concatenate([prompts, prompts]), generator), 2)
        lead = self.counted(first) - self.counted(second)
        differ = lead != 0
        if unit:
            drawn = np.asarray(generator.uniform((len(lead),), np.float64)) < 1 / (1 + np.exp(-lead / unit))
            lead, differ = np.where(drawn, 1.0, -1.0), np.ones(len(lead), bool)
        ahead = (lead >= 0)[:, None]
        return Pairs(np.where(ahead, first, second), np.where(ahead, second, first), differ.astype(np.float32))
