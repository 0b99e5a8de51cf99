"""What every dataset is: training rows, of which some are set aside for validation, and test rows.

The test rows must never steer training: early stopping and the choice of settings use `validation`, which is
carved out of the training rows by a fixed seed, so that every run and every machine sees the same rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

VALIDATION_SEED = 0


class Split(ABC):
    """Rows of one kind (images, points, text, pairs): they can be counted and selected."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, rows: IntArray) -> Self:
        """The given rows, in the given order, as a copy."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} rows)"


S = TypeVar("S", bound=Split)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(Generic[S]):
    """A named dataset. `train` and `validation` are disjoint and together are `trainval`.

    name             as given to `scratchgen.data.load`
    trainval         all rows that training may see, in the order of the source
    test             the rows that only the final evaluation may see
    validation_rows  (v,) int64, the rows of `trainval` that are `validation`
    """

    kind: ClassVar[str]

    name: str
    trainval: S
    test: S
    validation_rows: IntArray

    def __repr__(self) -> str:
        held = len(self.validation_rows)
        sizes = f"train={len(self.trainval) - held:,}, validation={held:,}, test={len(self.test):,}"
        return f"{type(self).__name__}({self.name!r}, {sizes})"

    @cached_property
    def train(self) -> S:
        """The rows to fit to."""
        return self.trainval.take(np.setdiff1d(np.arange(len(self.trainval)), self.validation_rows))

    @cached_property
    def validation(self) -> S:
        """The rows to stop by and to choose settings by."""
        return self.trainval.take(self.validation_rows)


def stratified_rows(labels: IntArray, share: float) -> IntArray:
    """The rows of a random `share` of each class, ascending; the same rows at every call."""
    rng = np.random.default_rng(VALIDATION_SEED)
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        chosen.append(rng.permutation(rows)[: round(share * len(rows))])
    return np.sort(np.concatenate(chosen))
