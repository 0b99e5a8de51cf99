"""Training GPT: on running text, or on conversations. The model is in ``scratchgen.models.gpt``.

Running text (``tinyshakespeare``, ``manual``): random windows of ``block`` tokens, by characters or byte pairs.
``val_loss`` is in nats a token over the *whole* held-out text, cut into windows of ``block`` side by side, so that
tokens have half a block before them on average, as in nanoGPT's estimate; ``val_loss_sliding`` moves the window by half
a block, so that each has at least that. Beside them stand n-grams that count the same text.

Pairs (``addition``, ``dates``) are conversations of a question and an answer in the chat template; only the answer has
a loss. With ``start`` the weights of another run are fine-tuned on them, all of them or by ``lora``.

Training takes all training rows and a fixed number of steps; the test rows have no part in it. ``hold_out=true`` leaves
the validation rows out, for a curve on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, data, metrics, nn, viz
from scratchgen.data import Batches
from scratchgen.data.dataset import IntArray
from scratchgen.data.pairs import PairDataset, Pairs
from scratchgen.data.text import Text, TextDataset
from scratchgen.models import lora
from scratchgen.models.decoding import GREEDY, Sampling, complete, decode
from scratchgen.models.gpt import GPT, IGNORED, decay_groups, nats

from ..training import write_atomically
from .base import Config, Reference, TextRecipe, setting
from .gpt_text import END, as_text, conversations, question, read_start, tokenizer_of
from .judges import evaluating


@dataclass(frozen=True)
class GPTConfig(Config):
    """Settings of GPT."""

    layers: int = setting(4, "blocks", least=1)
    heads: int = setting(4, "heads of attention in each", least=1)
    width: int = setting(128, "numbers that stand for a token", least=1)
    block: int = setting(64, "longest sequence, in tokens", least=1)
    positions: Literal["learned", "rotary"] = setting("learned", "how tokens know their place")
    bias: bool = setting(True, "biases in dense layers and norms")
    dropout: float = setting(0.0, "dropout on embeddings, attention and residuals", least=0, most=1)
    tokenizer: Literal["char", "bpe"] = setting("char", "characters, or byte pairs learnt from the training text")
    vocabulary: int = setting(1024, "bpe: number of tokens", least=1)
    minimum_rate: float = setting(1e-4, "learning rate at the end of the cosine", least=0)
    warmup_steps: int = setting(100, "steps in which the learning rate grows from 0", least=0)
    beta2: float = setting(0.99, "AdamW's average of squared gradients", least=0, most=1)
    weight_decay: float = setting(0.1, "AdamW's decay of matrices and embeddings", least=0)
    clip_gradients: float = setting(1.0, "largest norm of the gradient; 0: any", least=0)
    accumulate: int = setting(1, "mini-batches in a step", least=1)
    digits: int = setting(2, "addition: digits of the two numbers", least=1)
    start: str = setting("", "run folder of a gpt to fine-tune; empty: begin anew")
    lora: int = setting(0, "start: rank of the trained change of attention's matrices; 0: train all weights", least=0)
    lora_alpha: float = setting(16.0, "lora: its weight, divided by the rank")
    hold_out: bool = setting(False, "leave the validation rows out of training, for a curve on them")

    def __post_init__(self) -> None:
        if self.lora and not self.start:
            raise ValueError("lora changes trained weights: it needs start, the run folder to take them from")


ARCHITECTURE = ("layers", "heads", "width", "block", "positions", "bias")
SEED = 0x6E97  # of texts in previews
GRAMS = (1, 3, 5)  # the counting baselines
SHOWN = 24  # tokens in the picture of attention: more would make it wider than a screen

LONG = GPTConfig(
    steps=2400, batch_size=32, learning_rate=2e-3, minimum_rate=2e-4, block=128, evaluate_every=400
)  # fmt: skip
SUMS = GPTConfig(
    steps=3000, batch_size=128, learning_rate=2e-3, layers=2, width=64, block=32, weight_decay=0.01, minimum_rate=1e-5
)  # fmt: skip


class GPTRecipe(TextRecipe):
    """GPT."""

    name: ClassVar[str] = "gpt"
    paper: ClassVar[str] = "Radford et al. 2018 and 2019, GPT and GPT-2"
    default_data: ClassVar[str] = "manual"
    data_names: ClassVar[tuple[str, ...]] = ("manual", "tinyshakespeare", "addition", "dates")
    presets: ClassVar[Mapping[str, Mapping[str, GPTConfig]]] = {
        # nanoGPT's settings for a laptop
        "tiny": {"*": GPTConfig(steps=2000, batch_size=12), "addition": SUMS, "dates": SUMS},
        "long": {"*": LONG, "addition": SUMS, "dates": SUMS},
        # nanoGPT's settings for a GPU
        "full": {
            "*": GPTConfig(steps=5000, batch_size=64, layers=6, heads=6, width=384, block=256, dropout=0.2),
            "addition": SUMS,
            "dates": SUMS,
        },
    }
    expected: ClassVar[str] = "tiny on tinyshakespeare: val_loss 1.90 nats a character (counting 5-grams: 1.67)"

    config: GPTConfig
    dataset: TextDataset | PairDataset

    def __init__(self, config: GPTConfig, dataset: TextDataset | PairDataset, device: sg.Device, seed: int) -> None:
        if dataset.name == "addition" and config.digits != 2:
            loaded = data.load("addition", digits=config.digits)
            assert isinstance(loaded, PairDataset)
            dataset = loaded
        super().__init__(config, dataset, device, seed)
        self.tokenizer, weights = self._begin()
        self.model = build(config, len(self.tokenizer))
        if weights is not None:
            self.model.load_state_dict(weights)
        if config.lora:
            lora.adapt(self.model, config.lora, config.lora_alpha)
        self.model.to(device)
        groups = decay_groups(self.model, config.weight_decay)
        self.optimizer = sg.optim.AdamW(groups, config.learning_rate, betas=(0.9, config.beta2))
        self.schedule = sg.optim.lr_scheduler.WarmupCosineLR(
            self.optimizer, min(config.warmup_steps, config.steps - 1), config.steps, config.minimum_rate
        )
        rows = dataset.train if config.hold_out else dataset.trainval
        if isinstance(rows, Text):
            self.windows = self.ids(rows, config.block + 1)
        else:
            self.batches = Batches(self.rows(rows), config.batch_size, seed=seed, drop_last=True)

    def _begin(self) -> tuple[Any, dict[str, Any] | None]:
        """The tokenizer, and the weights to begin with where they are another run's."""
        config = self.config
        if not config.start:
            return tokenizer_of(config.tokenizer, config.vocabulary, self.dataset.trainval), None
        settings, name, folder, weights = read_start(Path(config.start))
        wanted = {key: settings[key] for key in ARCHITECTURE if settings[key] != getattr(config, key)}
        if wanted:
            shown = " ".join(f"{key}={value}" for key, value in wanted.items())
            raise ValueError(f"start={config.start}: that network has {shown}; set the same here")
        if settings["start"]:
            raise ValueError(f"start={config.start}: that run was fine-tuned itself; begin from {settings['start']}")
        first: Any = data.load(name, data_dir=folder)
        return tokenizer_of(settings["tokenizer"], settings["vocabulary"], first.trainval), weights

    def state(self) -> dict[str, Any]:
        names = ("model", "optimizer", "schedule", "generator") + (() if self.is_text else ("batches",))
        return {name: getattr(self, name) for name in names}

    @property
    def is_text(self) -> bool:
        """Running text rather than conversations."""
        return isinstance(self.dataset, TextDataset)

    @property
    def answers(self) -> bool:
        return not self.is_text

    # --- data

    def ids(self, rows: Text, at_least: int = 2) -> IntArray:
        """The tokens of a text. Raises ValueError if they are fewer than ``at_least``."""
        ids = self.tokenizer.encode(rows.text)
        if len(ids) < at_least:
            raise ValueError(f"{self.dataset.name}: {len(ids)} tokens are fewer than the {at_least} of a window")
        return ids

    def rows(self, pairs: Pairs) -> tuple[IntArray, IntArray]:
        """Inputs and targets of conversations. Raises ValueError if one is longer than a block."""
        ids, targets = conversations(self.tokenizer, pairs.source, pairs.target)
        if ids.shape[1] > self.config.block:
            raise ValueError(
                f"{self.dataset.name}: rows of {ids.shape[1]} tokens need a block longer than {self.config.block}"
            )
        return ids, targets

    def _batch(self) -> tuple[IntArray, IntArray]:
        if not self.is_text:
            ids, targets = next(self.batches)
            return ids, targets
        block, size = self.config.block, self.config.batch_size
        starts = np.asarray(self.generator.integers(0, len(self.windows) - block, (size,)))
        rows = self.windows[starts[:, None] + np.arange(block + 1)]
        return rows[:, :-1], rows[:, 1:]

    def _tensor(self, ids: IntArray) -> Tensor:
        return sg.as_tensor(ids, device=self.device)

    # --- training

    def step(self) -> dict[str, float]:
        batches = [self._batch() for _ in range(self.config.accumulate)]
        count = sum(int((targets != IGNORED).sum()) for _, targets in batches)
        self.optimizer.zero_grad()
        total = 0.0
        for ids, targets in batches:
            # The mean over all of them, not of their means: they may hold different numbers of targets.
            loss = self.model.loss(self._tensor(ids), self._tensor(targets), reduction="sum") / count
            loss.backward()
            total += loss.item()
        if self.config.clip_gradients:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_gradients)
        self.optimizer.step()
        self.schedule.step()
        return {"loss": total}

    def validate(self) -> dict[str, float]:
        if not self.config.hold_out:
            return {}
        return {"loss": float(self._nats(self.dataset.validation, self.config.block).mean())}

    def _nats(self, rows: Any, stride: int) -> np.ndarray:
        """Of each token of a text but the first, or of each token of the answers."""
        with evaluating(self.model):
            if isinstance(rows, Text):
                return nats(self.model, self.ids(rows), stride, self.device)
            found = []
            for ids, targets in data.in_order(self.rows(rows), 512):
                loss = self.model.loss(self._tensor(ids), self._tensor(targets), reduction="none")
                found.append(loss.numpy(force=True)[targets.flatten() != IGNORED])
            return np.concatenate(found)

    # --- writing

    def sample(
        self,
        count: int,
        generator: Generator,
        *,
        prompt: str = "",
        length: int = 500,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
    ) -> dict[str, Any]:
        """Texts that go on from ``prompt``, ``length`` tokens long; of conversations, answers to it.

        Without a prompt a text begins at the start of a line, and questions are those of the test rows in turn.
        ``temperature`` (0: the likeliest token), ``top_k``, ``top_p``, ``min_p``, ``repetition_penalty``: see
        ``scratchgen.models.decoding.Sampling``.
        """
        sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
        prompts = self._prompts(count, prompt)
        written = self._write([ids for _, ids in prompts], length, sampling, generator)
        return {"text": [shown + text for (shown, _), text in zip(prompts, written, strict=True)]}

    def stream(
        self,
        prompt: str,
        generator: Generator,
        *,
        length: int = 500,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
    ) -> Iterator[str]:
        sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
        ((_, ids),) = self._prompts(1, prompt)
        with evaluating(self.model):
            drawn = decode(self.model, [ids], length, sampling, generator, self._stop, self.device)
            yield from as_text(self.tokenizer, (int(t[0]) for t in drawn if t[0] != self._stop))

    @property
    def _stop(self) -> int | None:
        return None if self.is_text else self.tokenizer.id_of(END)

    def _prompts(self, count: int, prompt: str) -> list[tuple[str, list[int]]]:
        """What is shown before each text, and the tokens that it goes on from."""
        if isinstance(self.dataset, TextDataset):
            return [(prompt, self.tokenizer.encode(prompt or "\n").tolist())] * count
        asked = self.dataset.test.source
        shown = [prompt or asked[i % len(asked)] for i in range(count)]
        return [(f"{text} ", question(self.tokenizer, text)) for text in shown]

    def _write(self, prompts: list[list[int]], length: int, sampling: Sampling, generator: Generator) -> list[str]:
        with evaluating(self.model):
            drawn = decode(self.model, prompts, length, sampling, generator, self._stop, self.device)
            return [self.tokenizer.decode(ids) for ids in complete(drawn, len(prompts), self._stop)]

    def preview(self, folder: Path, step: int) -> None:
        texts = self.sample(1 if self.is_text else 10, Generator(SEED), temperature=0.8, length=400)["text"]
        for path in (folder / "samples.txt", folder / "samples" / f"step-{step:06d}.txt"):
            write_atomically(path, lambda file: file.write("\n".join(texts).encode() + b"\n"))
        ids = self._shown()
        with evaluating(self.model):
            weights = self.model.attention(self._tensor(ids[None]))[-1, 0].numpy(force=True)
        names = [repr(self.tokenizer.decode([i]))[1:-1] for i in ids]
        viz.attention_map(folder / "attention.png", weights, names, names, title="last block")

    def _shown(self) -> IntArray:
        """A short stretch of validation text, or of a conversation."""
        rows = self.dataset.validation
        if isinstance(rows, Text):
            return self.ids(rows)[: min(SHOWN, self.config.block)]
        return self.rows(rows)[0][0][:SHOWN]

    # --- evaluation

    def evaluate(self) -> dict[str, float]:
        """``val_loss`` on the test rows; of text also in bits a byte, of conversations the share of exact answers."""
        test = self.dataset.test
        losses = self._nats(test, self.config.block)
        found = {"val_loss": float(losses.mean())}
        if isinstance(test, Text):
            found["val_loss_sliding"] = float(self._nats(test, max(1, self.config.block // 2)).mean())
            found["bits_per_byte"] = float(losses.sum() / np.log(2) / len(test.text.encode()))
            return found
        right = np.array(self.answer(test.source)) == np.array(test.target)
        found["exact_match"] = float(right.mean())
        found["exact_match_se"] = float(right.std() / np.sqrt(len(right)))
        return found

    def answer(self, questions: list[str]) -> list[str]:
        """The likeliest answer to each question."""
        written = []
        for i in range(0, len(questions), 512):
            prompts = [question(self.tokenizer, text) for text in questions[i : i + 512]]
            room = max(1, self.config.block - max(map(len, prompts)))
            written += self._write(prompts, room, GREEDY, Generator(0))
        return written

    def baselines(self) -> dict[str, dict[str, float]]:
        test, train = self.dataset.test, self.dataset.trainval
        if isinstance(test, Text) and isinstance(train, Text):
            counted = metrics.WittenBell.fit(self.ids(train), len(self.tokenizer), max(GRAMS) - 1)
            losses = -counted.log_prob(self.ids(test))[:, 1:].mean(1)  # the first token is not predicted by us either
            return {f"{n}-gram": {"val_loss": float(losses[n - 1])} for n in GRAMS}
        assert isinstance(train, Pairs)
        assert isinstance(test, Pairs)
        values, counts = np.unique(train.target, return_counts=True)
        return {"commonest answer": {"exact_match": float(np.mean(np.array(test.target) == values[counts.argmax()]))}}

    def references(self) -> list[Reference]:
        config = self.config
        if self.dataset.name != "tinyshakespeare" or config.tokenizer != "char":
            return []
        if (config.layers, config.width, config.block) == (6, 384, 256):
            return [
                Reference("val_loss", 1.4697, "nanoGPT's best on a GPU, the same network, estimated on random windows")
            ]
        return [Reference("val_loss", 1.88, "nanoGPT's laptop setting (4 blocks of 128, block 64), random windows")]


def build(config: GPTConfig, vocabulary: int) -> GPT:
    """The network that ``config`` describes."""
    return GPT(
        vocabulary, config.block, config.layers, config.heads, config.width,
        dropout=config.dropout, bias=config.bias, positions=config.positions,
    )  # fmt: skip
