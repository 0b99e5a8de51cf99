"""Training the encoder-decoder Transformer. The model is in ``scratchgen.models.transformer``, what all models of pairs
share in ``translation``.

Adam's settings, label smoothing and the schedule are the paper's (sections 5.3 and 5.4): the rate grows in
``warmup_steps`` to ``learning_rate`` and falls with the root of the step, or by a cosine. The evaluation may be of the
mean of the last checkpoints (section 6.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Tensor
from scratchgen.data.dataset import IntArray
from scratchgen.data.pairs import PairDataset
from scratchgen.data.tokens import BOS
from scratchgen.models.beam import Step
from scratchgen.models.transformer import Transformer, Writer

from .base import Reference, setting
from .translation import TranslationConfig, TranslationRecipe

PARTS = 20  # of the training; a checkpoint for the average may be taken at the end of each


@dataclass(frozen=True)
class TransformerConfig(TranslationConfig):
    """Settings of the Transformer."""

    width: int = setting(64, "numbers that stand for a token", least=1)
    heads: int = setting(4, "heads of attention in each block", least=1)
    layers: int = setting(2, "blocks of the encoder, and of the decoder", least=1)
    hidden: int = setting(128, "width between the two dense layers of a block", least=1)
    positions: Literal["sinusoidal", "learned", "rotary"] = setting("sinusoidal", "how tokens know their place")
    norm_first: bool = setting(
        True, "norms before the parts of a block; after them, as in the paper, needs more warm-up"
    )
    tied: Literal["none", "target", "all"] = setting("target", "what shares its matrix with the last dense layer")
    schedule: Literal["noam", "cosine"] = setting("cosine", "the learning rate's fall after the warm-up")
    warmup_steps: int = setting(200, "steps in which the learning rate grows from 0", least=1)
    averaged: int = setting(
        0,
        "evaluate the mean of so many checkpoints, a twentieth of the training apart; 0: the last",
        least=0,
        most=PARTS,
    )


LONGEST = 512  # tokens that there are places for

TASK = TransformerConfig(steps=4000, batch_size=64, learning_rate=2e-3)
TRANSLATION = TransformerConfig(
    steps=3200, batch_size=128, learning_rate=2e-3, width=128, layers=3, hidden=512, dropout=0.1, tokenizer="bpe",
    tied="all", label_smoothing=0.1, warmup_steps=400, averaged=3,
)  # fmt: skip


class TransformerRecipe(TranslationRecipe):
    """Transformer."""

    name: ClassVar[str] = "transformer"
    paper: ClassVar[str] = "Vaswani et al. 2017, Attention Is All You Need"
    default_data: ClassVar[str] = "dates"
    presets: ClassVar[Mapping[str, Mapping[str, TransformerConfig]]] = {
        "tiny": {"*": TASK, "multi30k": TRANSLATION},
        # The paper's base model, for a GPU; dropout as usual for small data.
        "full": {
            "*": TransformerConfig(
                steps=100_000, batch_size=256, learning_rate=7e-4, width=512, heads=8, layers=6, hidden=2048,
                dropout=0.1, label_smoothing=0.1, norm_first=False, schedule="noam", warmup_steps=4000, averaged=5,
                tokenizer="bpe", vocabulary=8000, tied="all",
            ),
        },
    }  # fmt: skip
    expected: ClassVar[str] = (
        "tiny on dates, copy, reverse and sort: every test sequence right, in 2 minutes; on multi30k: BLEU 38.2"
    )

    config: TransformerConfig
    model: Transformer

    def __init__(self, config: TransformerConfig, dataset: PairDataset, device: sg.Device, seed: int) -> None:
        super().__init__(config, dataset, device, seed)
        self.model = build(config, len(self.source), len(self.target)).to(device)
        # The schedule multiplies the base rate: of eq. 3 the peak is width^-0.5 warmup^-0.5.
        peak = (config.width * config.warmup_steps) ** -0.5 if config.schedule == "noam" else 1.0
        self.optimizer = sg.optim.Adam(
            self.model.parameters(), config.learning_rate / peak, betas=(0.9, 0.98), eps=1e-9
        )
        schedules = sg.optim.lr_scheduler
        if config.schedule == "noam":
            self.schedule = schedules.NoamLR(self.optimizer, config.width, config.warmup_steps)
        else:
            warmup = min(config.warmup_steps, config.steps - 1)
            self.schedule = schedules.WarmupCosineLR(self.optimizer, warmup, config.steps)
        self.average = sg.optim.CheckpointAverage(self.model)

    def state(self) -> dict[str, Any]:
        names = ("model", "optimizer", "schedule", "average", "batches", "generator")
        return {name: getattr(self, name) for name in names}

    # --- training

    def step(self) -> dict[str, float]:
        report = super().step()
        if self.schedule.last_epoch in self._checkpoints():
            self.average.update()
        return report

    def _checkpoints(self) -> list[int]:
        """The steps after which a checkpoint is taken into the average."""
        return [self.config.steps * part // PARTS for part in range(PARTS - self.config.averaged + 1, PARTS + 1)]

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """With the mean of the checkpoints, if there are any yet."""
        with super().evaluating():
            if not self.average.updates:
                yield
                return
            with self.average.swapped():
                yield

    # --- the model

    def logits(self, source: Tensor, target: Tensor, present: Tensor | None) -> Tensor:
        return self.model(source, target, present)

    def writer(self, source: IntArray, present: np.ndarray) -> Step:
        return Writer(self.model, source, present, self.device)

    def look(self, source: IntArray, target: IntArray) -> np.ndarray:
        told = np.concatenate([[BOS], target[:-1]])
        return self.model.attention(self.tensor(source[None]), self.tensor(told[None]))["cross"][-1, 0].numpy(
            force=True
        )

    def references(self) -> list[Reference]:
        if self.dataset.name != "multi30k":
            return []
        source = "bentrevett/pytorch-seq2seq: 9.0 million parameters, 10 epochs on a GPU, lower-cased words"
        return [Reference("bleu_lowercase", 36.52, source)]


def build(config: TransformerConfig, source: int, target: int) -> Transformer:
    """The network that ``config`` describes."""
    return Transformer(
        source, target, width=config.width, heads=config.heads, layers=config.layers, hidden=config.hidden,
        dropout=config.dropout, norm_first=config.norm_first, positions=config.positions, longest=LONGEST,
        tied=config.tied,
    )  # fmt: skip
