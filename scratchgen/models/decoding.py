"""Writing with a language model, token by token: what is drawn, and from which tokens.

``Sampling`` turns a row of logits into a distribution; ``decode`` runs a model on a batch of prompts, with a cache.
Distributions are small and are made in NumPy, whatever device the model is on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import scratchgen as sg
from scratchgen import Generator, Tensor

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. The rules apply in this order; each may only take tokens away.

    repetition_penalty  logits of tokens that occurred are divided by it where positive, multiplied where negative
                        (Keskar et al. 2019, CTRL, section 4.1); 1: none
    temperature         logits are divided by it; 0: always the likeliest token
    top_k               only the k likeliest, and those as likely as the k-th (Fan et al. 2018); 0: all
    top_p               only the likeliest tokens that together reach p, the one that reaches it included
                        (Holtzman et al. 2020, nucleus sampling); 1: all
    min_p               only tokens at least min_p times as likely as the likeliest (Nguyen et al. 2024); 0: all
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name, fits, wanted in (
            ("temperature", self.temperature >= 0, "0 or more"),
            ("top_k", self.top_k >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
        ):
            if not fits:
                raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)}")

    def probabilities(self, logits: npt.ArrayLike, occurred: npt.NDArray[np.bool_] | None = None) -> Floats:
        """The distribution (N, V) that is drawn from; ``occurred`` (N, V): the tokens of each row so far."""
        x = np.array(logits, np.float64)
        if self.repetition_penalty != 1 and occurred is not None:
            x = np.where(occurred, np.where(x > 0, x / self.repetition_penalty, x * self.repetition_penalty), x)
        if self.temperature == 0:
            return np.eye(x.shape[1])[x.argmax(1)]
        x = x / self.temperature
        if 0 < self.top_k < x.shape[1]:
            kth = np.partition(x, -self.top_k, axis=1)[:, -self.top_k, None]
            x = np.where(x < kth, -np.inf, x)
        if self.top_p < 1:
            order = np.argsort(-x, axis=1, kind="stable")
            sorted_p = np.take_along_axis(_softmax(x), order, 1)
            before = np.cumsum(sorted_p, axis=1) - sorted_p  # what likelier tokens reach without this one
            dropped = np.empty(x.shape, bool)
            np.put_along_axis(dropped, order, before >= self.top_p, 1)
            x = np.where(dropped, -np.inf, x)
        p = _softmax(x)
        if self.min_p > 0:
            p = np.where(p < self.min_p * p.max(1, keepdims=True), 0, p)
            p /= p.sum(1, keepdims=True)
        return p

    def draw(self, logits: npt.ArrayLike, generator: Generator, occurred: npt.NDArray[np.bool_] | None = None) -> Ids:
        """One token for each row, (N,)."""
        p = self.probabilities(logits, occurred)
        uniform = np.asarray(generator.uniform((len(p),), np.float64))
        reached = np.cumsum(p, axis=1)
        tokens = (reached <= uniform[:, None] * reached[:, -1:]).sum(1)
        # Rounding could point behind the last token that has a probability.
        last = p.shape[1] - 1 - (p[:, ::-1] > 0).argmax(1)
        return np.minimum(tokens, last)


GREEDY = Sampling(temperature=0)


def _softmax(x: Floats) -> Floats:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


class LanguageModel(Protocol):
    """What ``decode`` needs of a model."""

    block: int  # the longest sequence it takes

    def new_cache(self) -> Any:
        """An empty cache of keys and values."""

    def __call__(self, ids: Tensor, present: Tensor | None = None, cache: Any = None, last: bool = False) -> Tensor:
        """Logits of the token after each (of the last only: ``last``), (N, T, V).

        ``present`` (N, S): False at padding, over the tokens in the cache and those of ``ids`` (N, T).
        """


def decode(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    count: int,
    sampling: Sampling,
    generator: Generator,
    stop: int | None = None,
    device: sg.Device = sg.cpu,
    use_cache: bool = True,
) -> Iterator[Ids]:
    """Up to ``count`` tokens after each prompt: yields (N,) at a time, as they are drawn.

    Prompts of different lengths are padded on the left. A row that has drawn ``stop`` yields -1 from then on, and
    when all have, it ends. Where a sequence outgrows the model's block, the older half of what it sees is dropped
    and the rest computed anew, so that a token costs the same on average however long the text gets.

    The model must be in evaluation mode. ``use_cache=False`` gives the same tokens, slowly.
    """
    if not prompts or min(map(len, prompts)) == 0:
        raise ValueError("decode: needs at least one prompt, and at least one token in each")
    window, present = _pad_left(prompts)
    window, present = window[:, -model.block :], present[:, -model.block :]
    running = np.ones(len(prompts), bool)
    occurred: npt.NDArray[np.bool_] | None = None
    cache, cached = None, 0  # tokens of the window that are in the cache
    for _ in range(count):
        if use_cache and cached == 0:
            cache = model.new_cache()
        with sg.no_grad():
            new = sg.as_tensor(window[:, cached:], device=device)
            padding = None if present.all() else sg.as_tensor(present, device=device)
            logits = model(new, padding, cache, last=True)[:, -1].numpy(force=True)
        cached = window.shape[1] if use_cache else 0
        if occurred is None:
            occurred = np.zeros(logits.shape, bool)
            for row, prompt in enumerate(prompts):
                occurred[row, list(prompt)] = True
        tokens = sampling.draw(logits, generator, occurred)
        occurred[np.arange(len(tokens)), tokens] = True
        yield np.where(running, tokens, -1)
        if stop is not None:
            running &= tokens != stop
            if not running.any():
                return
        window = np.concatenate([window, tokens[:, None]], 1)
        present = np.concatenate([present, np.ones((len(tokens), 1), bool)], 1)
        if window.shape[1] > model.block:
            kept = model.block - model.block // 2
            window, present, cached = window[:, -kept:], present[:, -kept:], 0


def _pad_left(prompts: Sequence[Sequence[int]]) -> tuple[Ids, npt.NDArray[np.bool_]]:
    """Prompts (N, longest) that all end in the last column, and where they are."""
    longest = max(map(len, prompts))
    ids, present = np.zeros((len(prompts), longest), np.int64), np.zeros((len(prompts), longest), bool)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        present[row, longest - len(prompt) :] = True
    return ids, present


def complete(tokens: Iterator[Ids], rows: int, stop: int | None = None) -> list[list[int]]:
    """What ``decode`` yields, collected: the tokens of each row, without ``stop``."""
    found: list[list[int]] = [[] for _ in range(rows)]
    for drawn in tokens:
        for row, token in zip(found, drawn.tolist()):
            if token >= 0 and token != stop:
                row.append(token)
    return found
