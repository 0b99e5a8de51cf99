"""What the GPT recipe reads and writes: tokenizers, conversations, and the run that fine-tuning begins from."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..data import CharVocab
from ..data.bpe import BPE
from ..data.dataset import IntArray
from ..data.pairs import Pairs
from ..data.text import Text
from ..models.gpt import IGNORED
from ..training import CHECKPOINT, checkpoint

USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL = (USER, ASSISTANT, END)


class TextTokenizer(Protocol):
    """Text <-> ids, by characters or by byte pairs."""

    def __len__(self) -> int: ...
    def encode(self, text: str) -> IntArray: ...
    def decode(self, ids: Iterable[int]) -> str: ...
    def decode_bytes(self, ids: Iterable[int]) -> bytes: ...
    def id_of(self, special: str) -> int: ...


class Characters:
    """The characters of a text as tokens, and special tokens after them."""

    def __init__(self, text: str, special: Sequence[str] = ()) -> None:
        self.vocab, self.special = CharVocab(text), tuple(special)
        self._ids = {character: i for i, character in enumerate(self.vocab.characters)}

    def __len__(self) -> int:
        return len(self.vocab) + len(self.special)

    def encode(self, text: str) -> IntArray:
        """The ids of characters. Raises ValueError for those that the text had not."""
        try:
            return np.array([self._ids[character] for character in text], np.int64)
        except KeyError:
            return self.vocab.encode(text)  # says which

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids."""
        shown = [*self.vocab.characters, *self.special]
        return "".join([shown[i] for i in ids])

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The text of ids in UTF-8."""
        return self.decode(ids).encode()

    def id_of(self, special: str) -> int:
        """The id of a special token."""
        if special not in self.special:
            raise ValueError(
                f"a model of characters that was trained on running text has no token {special}; "
                "train it with tokenizer=bpe to fine-tune it on conversations"
            )
        return len(self.vocab) + self.special.index(special)


# --- conversations


def question(tokenizer: TextTokenizer, text: str) -> list[int]:
    """The chat template up to the answer: what the user said, and whose turn it is."""
    return [tokenizer.id_of(USER), *tokenizer.encode(text).tolist(), tokenizer.id_of(ASSISTANT)]


def conversations(
    tokenizer: TextTokenizer, questions: Sequence[str], answers: Sequence[str]
) -> tuple[IntArray, IntArray]:
    """Inputs and targets (n, longest): only the answer and its end are targets, all else is ``IGNORED``."""
    end, rows = tokenizer.id_of(END), []
    for asked, answered in zip(questions, answers, strict=True):
        prompt = question(tokenizer, asked)
        rows.append((prompt, [*tokenizer.encode(answered).tolist(), end]))
    longest = max(len(prompt) + len(answer) for prompt, answer in rows) - 1
    ids, targets = np.full((len(rows), longest), end), np.full((len(rows), longest), IGNORED)
    for i, (prompt, answer) in enumerate(rows):
        whole = [*prompt, *answer]
        ids[i, : len(whole) - 1] = whole[:-1]
        targets[i, len(prompt) - 1 : len(whole) - 1] = answer
    return ids, targets


def as_text(tokenizer: TextTokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """Text as its tokens arrive; a character of several bytes is given when its last one is there."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        if piece := decoder.decode(tokenizer.decode_bytes([token])):
            yield piece
    if rest := decoder.decode(b"", final=True):
        yield rest


# --- fine-tuning


def tokenizer_of(unit: str, vocabulary: int, rows: Text | Pairs) -> TextTokenizer:
    """The tokenizer of training rows. Byte pairs always come with the special tokens, for fine-tuning later."""
    if isinstance(rows, Text):
        return BPE.train(rows.text, vocabulary, SPECIAL) if unit == "bpe" else Characters(rows.vocab.characters)
    texts = [*rows.source, *rows.target]
    return BPE.train("\n".join(texts), vocabulary, SPECIAL) if unit == "bpe" else Characters("".join(texts), SPECIAL)


def read_start(folder: Path) -> tuple[dict[str, Any], str, str | None, dict[str, Any]]:
    """Of the run that fine-tuning begins from: its settings, dataset, data folder, and trained weights.

    Raises ValueError if it is not a run of a gpt.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"start={folder}: not a run folder (a fine-tuned run needs the one it began from)")
    run = json.loads(path.read_text())
    if run["model"] != "gpt":
        raise ValueError(f"start={folder}: that is a run of {run['model']}, not of gpt")
    weights = checkpoint.load(folder / CHECKPOINT)["recipe"]["model"]
    return run["config"], run["data"], run["data_dir"], weights
