"""Running text for language models, and its characters as token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from scratchgen.data.dataset import Dataset, IntArray, Split
from scratchgen.data.files import DataDir, DataFile, FileSet
from scratchgen.data.registry import dataset


class CharVocab:
    """Characters <-> ids: the id of a character is its place in `characters`, which are distinct and sorted.

    `CharVocab(vocab.characters)` is the same vocabulary again, so a checkpoint keeps just that string.
    """

    def __init__(self, text: str) -> None:
        self.characters = "".join(sorted(set(text)))
        self._codes = _code_points(self.characters)

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> IntArray:
        """The ids of the characters of `text`, (n,) int64. Raises ValueError if it has others."""
        codes = _code_points(text)
        ids = np.searchsorted(self._codes, codes)
        known = np.isin(codes, self._codes)
        if not known.all():
            first = int(np.flatnonzero(~known)[0])
            others = sorted(set(text) - set(self.characters))
            shown = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in others[:5])
            more = f" and {len(others) - 5} more" if len(others) > 5 else ""
            raise ValueError(
                f"CharVocab.encode: {shown}{more}: not among the {len(self)} characters of this vocabulary; "
                f"the first of them is at position {first} of the text"
            )
        return ids.astype(np.int64)

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of ids, (n,) integers. Raises ValueError if one is out of range."""
        ids = np.asarray(ids, np.int64)
        if ids.size and not (ids.min() >= 0 and ids.max() < len(self)):
            span = f"{ids.min()} ... {ids.max()}"
            raise ValueError(f"CharVocab.decode: ids {span} are not all in 0 ... {len(self) - 1}")
        return self._codes[ids].tobytes().decode("utf-32-le")


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.dtype("<u4"))


@dataclass(frozen=True, eq=False, repr=False)
class Text(Split):
    """A stretch of text: ids (n,) int64 under `vocab`."""

    ids: IntArray
    vocab: CharVocab

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: IntArray) -> Self:
        return type(self)(self.ids[rows], self.vocab)

    @property
    def text(self) -> str:
        """The characters themselves."""
        return self.vocab.decode(self.ids)

    def windows(self, length: int) -> IntArray:
        """Every stretch of `length` ids, (n - length + 1, length): a read-only view, which takes no memory.

        For next-token prediction on blocks of T take length T + 1: inputs are [:, :-1] and targets [:, 1:].
        """
        if not 1 <= length <= len(self):
            raise ValueError(f"windows: length must be in 1 ... {len(self)}, the whole text, got {length}")
        return np.lib.stride_tricks.sliding_window_view(self.ids, length)


@dataclass(frozen=True, eq=False, repr=False)
class TextDataset(Dataset[Text]):
    """Running text. `trainval` is its first nine tenths, of which the last tenth is `validation`."""

    kind: ClassVar[str] = "text"

    @property
    def vocab(self) -> CharVocab:
        """The vocabulary of all splits."""
        return self.trainval.vocab


def _text_dataset(name: str, text: str) -> TextDataset:
    vocab = CharVocab(text)
    ids = vocab.encode(text)
    trainval, test = np.split(ids, [int(0.9 * len(ids))])
    validation_rows = np.arange(int(0.9 * len(trainval)), len(trainval))
    return TextDataset(name, Text(trainval, vocab), Text(test, vocab), validation_rows)


@dataset(
    "manual",
    kind="text",
    what="chapters of Python's reference manual, as help() shows them",
    size="about 0.4 million characters, 90 % + 10 %",
    shape="characters",
    source="pydoc_data.topics of the Python that runs: the text changes with its version",
    terms="PSF License",
)
def manual() -> TextDataset:
    """The topics of Python's built-in help, in alphabetical order."""
    from pydoc_data.topics import topics

    return _text_dataset("manual", "\n\n".join(topics[name].strip() for name in sorted(topics)) + "\n")


TINYSHAKESPEARE = FileSet(
    name="tinyshakespeare",
    files=(
        DataFile(
            "input.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        ),
    ),
    folders=("tinyshakespeare",),
)


@dataset(
    "tinyshakespeare",
    kind="text",
    what="40,000 lines of Shakespeare's plays",
    size="1,003,854 + 111,540",
    shape="characters, 65 distinct",
    source="karpathy/char-rnn",
    terms="public domain",
    needs=TINYSHAKESPEARE,
)
def tinyshakespeare(data_dir: DataDir = None, download: bool = False) -> TextDataset:
    """Tiny Shakespeare; `trainval` and `test` are nanoGPT's train and val."""
    content = TINYSHAKESPEARE.read(data_dir, download)["input.txt"]
    return _text_dataset("tinyshakespeare", content.decode())
