"""Training on pairs of sequences, whatever the model: a source text goes in, a target text comes out.

Targets are told in training (teacher forcing) and end in EOS; padding has no loss. ``val_loss`` is the cross-entropy of
the told targets, in nats a token; ``exact_match`` is the share of test sources whose whole target is written, greedily.
Translations are also scored by BLEU and chrF (sacrebleu's, against the texts as they are), from beam search, and
greedily beside it.

Training takes all training rows and a fixed number of steps; the test rows have no part in it. ``hold_out=true`` leaves
the validation rows out, for a curve on them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, nn, viz
from scratchgen.data import Bucketed
from scratchgen.data.dataset import IntArray
from scratchgen.data.pairs import PairDataset, Pairs
from scratchgen.data.tokens import BOS, EOS, PAD, SPECIAL, Subwords, Tokenizer, trim
from scratchgen.models.beam import Step, beam_search, write
from scratchgen.models.decoding import GREEDY, Ids, Sampling
from scratchgen.nn import functional as F

from ..training import write_atomically
from .base import Config, TextRecipe, setting
from .judges import evaluating
from .translation_scores import bleu, commonest, most_similar


@dataclass(frozen=True)
class TranslationConfig(Config):
    """Settings of all models of pairs."""

    dropout: float = setting(0.0, "dropout", least=0, most=1)
    tokenizer: Literal["own", "bpe"] = setting(
        "own", "the dataset's own characters or words, or byte pairs of both texts"
    )
    vocabulary: int = setting(4000, "bpe: number of tokens", least=1)
    label_smoothing: float = setting(0.0, "part of a token that is spread over all tokens in the loss", least=0, most=1)
    clip_gradients: float = setting(1.0, "largest norm of the gradient; 0: any", least=0)
    beams: int = setting(5, "hypotheses kept by beam search in the evaluation of translations", least=1)
    length_penalty: float = setting(0.6, "alpha of beam search: the larger, the longer", least=0)
    hold_out: bool = setting(False, "leave the validation rows out of training, for a curve on them")


ROWS = 100  # sentences written at a time
SHOWN = 8  # sentences in previews


class TranslationRecipe(TextRecipe):
    """Pairs of texts. Sub-classes set ``model``, ``optimizer`` and ``schedule`` in ``__init__``."""

    data_names: ClassVar[tuple[str, ...]] = ("dates", "copy", "reverse", "sort", "addition", "multi30k")

    between: ClassVar[str] = " -> "

    config: TranslationConfig
    dataset: PairDataset
    model: nn.Module
    optimizer: sg.optim.Optimizer
    schedule: sg.optim.lr_scheduler.LRScheduler

    def __init__(self, config: TranslationConfig, dataset: PairDataset, device: sg.Device, seed: int) -> None:
        super().__init__(config, dataset, device, seed)
        rows = dataset.train if config.hold_out else dataset.trainval
        self.source: Tokenizer | Subwords = dataset.source_tokenizer
        self.target: Tokenizer | Subwords = dataset.target_tokenizer
        if config.tokenizer == "bpe":
            both = dataset.trainval
            self.source = self.target = Subwords.learn([*both.source, *both.target], config.vocabulary)
        ids = self.ids(rows)
        lengths = [(part != PAD).sum(1) for part in reversed(ids)]
        self.batches = Bucketed(ids, lengths, config.batch_size, seed=seed)

    def ids(self, rows: Pairs) -> tuple[IntArray, IntArray]:
        """Source and target ids of pairs, with EOS and padding."""
        return self.source.encode_all(rows.source), self.target.encode_all(rows.target)

    @property
    def answers(self) -> bool:
        return True

    @property
    def is_exact(self) -> bool:
        """Whether a source has one right target."""
        return self.dataset.name != "multi30k"

    # --- what a model says of itself

    @abstractmethod
    def logits(self, source: Tensor, target: Tensor, present: Tensor | None) -> Tensor:
        """Logits (N, T, V) of the token after each of ``target`` (N, T). ``present`` (N, S): False at padding."""

    @abstractmethod
    def writer(self, source: IntArray, present: np.ndarray) -> Step:
        """A decoder at the start of all targets."""

    @abstractmethod
    def look(self, source: IntArray, target: IntArray) -> np.ndarray:
        """Attention of each target token (T,) to the source tokens (S,), in panels (heads, T, S)."""

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The model as it is evaluated: in evaluation mode, with no graph."""
        with evaluating(self.model):
            yield

    # --- training

    def batch(self) -> tuple[IntArray, IntArray]:
        """Source and target ids of the next mini-batch."""
        source, target = next(self.batches)
        return trim(source), trim(target)

    def step(self) -> dict[str, float]:
        config = self.config
        loss = self.losses(*self.batch(), config.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        if config.clip_gradients:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_gradients)
        self.optimizer.step()
        self.schedule.step()
        return {"loss": loss.item()}

    def losses(self, source: IntArray, target: IntArray, smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
        """Cross-entropy of the targets: PAD has none."""
        present = source != PAD
        told = np.concatenate([np.full((len(target), 1), BOS), target[:, :-1]], 1)
        logits = self.logits(self.tensor(source), self.tensor(told), None if present.all() else self.tensor(present))
        return F.cross_entropy(
            logits.flatten(0, 1), self.tensor(target).flatten(),
            ignore_index=PAD, reduction=reduction, label_smoothing=smoothing,
        )  # fmt: skip

    def tensor(self, array: np.ndarray) -> Tensor:
        """An array on the recipe's device."""
        return sg.as_tensor(array, device=self.device)

    def validate(self) -> dict[str, float]:
        return {"loss": self.loss_on(self.dataset.validation)} if self.config.hold_out else {}

    def loss_on(self, rows: Pairs) -> float:
        """Mean nats a target token."""
        source, target = self.ids(rows)
        total, count = 0.0, 0
        with self.evaluating():
            for some in in_batches(source, 200):
                total += self.losses(trim(source[some]), trim(target[some]), reduction="sum").item()
                count += int((target[some] != PAD).sum())
        return total / count

    # --- writing

    def translate(self, texts: list[str], beams: int = 1, alpha: float = 0.6) -> list[str]:
        """The target of each source: greedily, or the best of a beam."""
        source = self.source.encode_all(texts)
        written = [""] * len(texts)
        with self.evaluating():
            for some in in_batches(source, ROWS):
                ids = trim(source[some])
                step, longest = self.writer(ids, ids != PAD), 2 * ids.shape[1] + 10
                if beams == 1:
                    found = write(step, len(ids), BOS, EOS, longest, GREEDY, Generator(0))
                else:
                    found = [h[0].tokens for h in beam_search(step, len(ids), BOS, EOS, longest, beams, alpha)]
                for row, tokens in zip(some.tolist(), found, strict=True):
                    written[row] = self.target.decode(tokens.tolist())
        return written

    def sample(
        self, count: int, generator: Generator, *, prompt: str = "", beams: int = 1, temperature: float = 0.0
    ) -> dict[str, Any]:
        """Targets of ``prompt``, or of test sources in turn.

        ``beams``: by beam search; ``temperature``: tokens are drawn, 0 takes the likeliest.
        """
        if beams < 1 or (beams > 1 and temperature):
            raise ValueError(f"beams must be 1 or more, and 1 where tokens are drawn; got {beams}")
        asked = self.dataset.test.source
        texts = [prompt or asked[i % len(asked)] for i in range(count)]
        if temperature == 0:
            written = self.translate(texts, beams)
        else:
            written = ["".join(self.stream(text, generator, temperature=temperature)) for text in texts]
        return {"text": [f"{text}{self.between}{target}" for text, target in zip(texts, written)]}

    def stream(self, prompt: str, generator: Generator, *, beams: int = 1, temperature: float = 0.0) -> Iterator[str]:
        if beams > 1:
            yield from self.translate([prompt], beams)
            return
        ids = self.source.encode_all([prompt])
        said, shown = [], ""
        with self.evaluating():
            step, token = self.writer(ids, ids != PAD), np.array([BOS])
            for _ in range(2 * ids.shape[1] + 10):
                token = Sampling(temperature).draw(step(token, None), generator)
                if token[0] == EOS:
                    return
                said.append(int(token[0]))
                text = self.target.decode(said)
                yield text[len(shown) :]
                shown = text

    def preview(self, folder: Path, step: int) -> None:
        rows = self.dataset.validation
        texts, targets = rows.source[:SHOWN], rows.target[:SHOWN]
        lines = [f"{s}\n-> {w}\n   ({t})\n" for s, w, t in zip(texts, self.translate(texts), targets)]
        for path in (folder / "samples.txt", folder / "samples" / f"step-{step:06d}.txt"):
            write_atomically(path, lambda file: file.write("\n".join(lines).encode()))
        self.draw_attention(folder / "attention.png", texts[0])

    def draw_attention(self, path: Path, text: str) -> None:
        """Where each written token looks in a source text."""
        source = self.source.encode_all([text])
        with self.evaluating():
            (target,) = write(
                self.writer(source, source != PAD), 1, BOS, EOS, 2 * source.shape[1] + 10, GREEDY, Generator(0)
            )
            ended = np.append(target, EOS)
            weights = self.look(source[0], ended)
        names = [
            [token_name(t, i) for i in ids.tolist()] for t, ids in ((self.target, ended), (self.source, source[0]))
        ]
        viz.attention_map(path, weights, *names, title="where each written token looks")

    # --- evaluation

    def evaluate(self) -> dict[str, float]:
        test = self.dataset.test
        found = {"val_loss": self.loss_on(test)}
        greedy = self.translate(test.source)
        if self.is_exact:
            right = np.array(greedy) == np.array(test.target)
            found["exact_match"] = float(right.mean())
            found["exact_match_se"] = float(right.std() / np.sqrt(len(right)))
            return found
        beam = self.translate(test.source, self.config.beams, self.config.length_penalty)
        found |= bleu(beam, test.target)
        return found | {f"{key}_greedy": value for key, value in bleu(greedy, test.target).items()}

    def baselines(self) -> dict[str, dict[str, float]]:
        test, train = self.dataset.test, self.dataset.trainval
        if self.is_exact:
            return {"commonest target": {"exact_match": float(np.mean([t == commonest(train) for t in test.target]))}}
        return {
            "the source itself": bleu(test.source, test.target),
            "target of the most similar training source": bleu(most_similar(train, test.source), test.target),
        }


def in_batches(ids: IntArray, count: int) -> Iterator[Ids]:
    """Row numbers, ``count`` at a time, rows of like length together."""
    order = np.argsort((ids != PAD).sum(1), kind="stable")
    for start in range(0, len(order), count):
        yield order[start : start + count]


def token_name(tokenizer: Tokenizer | Subwords, token: int) -> str:
    """A token as pictures name it."""
    return SPECIAL[token] if token < len(SPECIAL) else repr(tokenizer.decode([token]))[1:-1]
