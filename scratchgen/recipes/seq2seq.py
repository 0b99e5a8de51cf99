"""Training recurrent networks with attention on pairs. The model is in ``scratchgen.models.seq2seq``, what all models
of pairs share in ``translation``.

Of dates, ``in_field`` is the share of written digits of which the largest weight of attention lies on the part of the
source that says the same: the year, the month or the day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Tensor
from scratchgen.data import dates
from scratchgen.data.dataset import IntArray
from scratchgen.data.pairs import PairDataset
from scratchgen.data.tokens import BOS, PAD, trim
from scratchgen.models.beam import Step
from scratchgen.models.seq2seq import Seq2Seq, Writer

from .base import Reference, setting
from .translation import TranslationConfig, TranslationRecipe, in_batches


@dataclass(frozen=True)
class Seq2SeqConfig(TranslationConfig):
    """Settings of the recurrent models."""

    cell: Literal["rnn", "gru", "lstm"] = setting("gru", "the recurrent layers")
    embedding: int = setting(32, "numbers that stand for a token", least=1)
    hidden: int = setting(96, "size of a state, in each direction", least=1)
    layers: int = setting(1, "recurrent layers of the encoder, and of the decoder", least=1)
    attention: Literal["additive", "general", "dot", "none"] = setting("additive", "how states are compared")
    feeding: bool = setting(False, "feed what attention found into the next step; training is slower then")
    told: float = setting(
        1.0, "share of target tokens that are told at the end of training; the rest it writes itself", least=0, most=1
    )
    tied: bool = setting(False, "the last dense layer is the target embedding")
    warmup_steps: int = setting(50, "steps in which the learning rate grows from 0, to fall by a cosine", least=0)
    weight_decay: float = setting(0.0, "AdamW's decay", least=0)


TASK = Seq2SeqConfig(steps=312, batch_size=64, learning_rate=4e-3)
TRANSLATION = Seq2SeqConfig(
    steps=1600, batch_size=64, learning_rate=3e-3, embedding=128, hidden=128, attention="general", dropout=0.1,
    tokenizer="bpe", vocabulary=2000, label_smoothing=0.1, warmup_steps=200, tied=True,
)  # fmt: skip
LARGE = Seq2SeqConfig(  # the sizes of bentrevett/pytorch-seq2seq, ten epochs
    steps=2300, batch_size=128, learning_rate=1e-3, embedding=256, hidden=512, feeding=True, dropout=0.5,
    tokenizer="bpe", warmup_steps=200,
)  # fmt: skip


class Seq2SeqRecipe(TranslationRecipe):
    """RNN with attention."""

    name: ClassVar[str] = "seq2seq"
    paper: ClassVar[str] = "Bahdanau et al. 2015, Neural Machine Translation by Jointly Learning to Align and Translate"
    default_data: ClassVar[str] = "dates"
    presets: ClassVar[Mapping[str, Mapping[str, Seq2SeqConfig]]] = {
        "tiny": {"*": TASK, "multi30k": TRANSLATION},
        "full": {"*": LARGE},
    }
    expected: ClassVar[str] = (
        "tiny on dates: exact_match 1.000 (without attention .510) in 7 s; on multi30k: BLEU 28.8 in 62 s"
    )

    config: Seq2SeqConfig
    model: Seq2Seq

    def __init__(self, config: Seq2SeqConfig, dataset: PairDataset, device: sg.Device, seed: int) -> None:
        super().__init__(config, dataset, device, seed)
        self.model = build(config, len(self.source), len(self.target)).to(device)
        self.optimizer = sg.optim.AdamW(self.model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        warmup = min(config.warmup_steps, config.steps - 1)
        self.schedule = sg.optim.lr_scheduler.WarmupCosineLR(self.optimizer, warmup, config.steps)

    def state(self) -> dict[str, Any]:
        names = ("model", "optimizer", "schedule", "batches", "generator")
        return {name: getattr(self, name) for name in names}

    # --- training

    def _told(self) -> float:
        """Of the target tokens: all at first, then fewer, evenly to ``told`` (Bengio et al. 2015, section 2.4)."""
        if not self.model.training:
            return 1.0
        return 1 - (1 - self.config.told) * self.schedule.last_epoch / self.config.steps

    # --- the model

    def logits(self, source: Tensor, target: Tensor, present: Tensor | None) -> Tensor:
        return self.model(source, target, present, self._told(), self.generator)

    def writer(self, source: IntArray, present: np.ndarray) -> Step:
        return Writer(self.model, source, present, self.device)

    def draw_attention(self, path: Path, text: str) -> None:
        if self.config.attention != "none":
            super().draw_attention(path, text)

    def look(self, source: IntArray, target: IntArray) -> np.ndarray:
        return self._alignment(source[None], target[None])

    def _alignment(self, source: IntArray, target: IntArray) -> np.ndarray:
        """Where the decoder looks as it writes each token of ``target`` (N, T): (N, T, S)."""
        told = np.concatenate([np.full((len(target), 1), BOS), target[:, :-1]], 1)
        present = self.tensor(source != PAD)
        return self.model.align(self.tensor(source), self.tensor(told), present).numpy(force=True)

    # --- evaluation

    def evaluate(self) -> dict[str, float]:
        found = super().evaluate()
        if self.dataset.name == "dates" and self.config.attention != "none" and self.config.tokenizer == "own":
            looked = self._in_field()
            found["in_field"] = float(looked.mean())
            found["in_field_se"] = float(looked.std() / np.sqrt(len(looked)))
        return found

    def _in_field(self) -> np.ndarray:
        """Of each test date, the share of digits that were written looking at the right field, (n,)."""
        rows = self.dataset.test
        source, target = self.ids(rows)
        found = np.empty(len(source))
        with self.evaluating():
            for some in in_batches(source, 200):
                places = self._alignment(trim(source[some]), target[some]).argmax(2)
                for row, looked in zip(some.tolist(), places):
                    asked, answered = dates.fields(rows.source[row]), dates.fields(rows.target[row])
                    right = [looked[t] in asked[name] for name in answered for t in answered[name]]
                    found[row] = np.mean(right)
        return found

    def references(self) -> list[Reference]:
        if self.dataset.name != "multi30k":
            return []
        source = "bentrevett/pytorch-seq2seq: GRU, 20.5 million parameters, 10 epochs on a GPU, lower-cased words"
        return [Reference("bleu_lowercase", 28.3, source)]


def build(config: Seq2SeqConfig, source: int, target: int) -> Seq2Seq:
    """The network that ``config`` describes."""
    return Seq2Seq(
        source, target, cell=config.cell, embedding=config.embedding, hidden=config.hidden, layers=config.layers,
        attention=config.attention, feeding=config.feeding, dropout=config.dropout, tied=config.tied,
    )  # fmt: skip
