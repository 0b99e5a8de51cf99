"""Mini-batches whose order can be resumed at any step from three numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class BatchState(TypedDict):
    """Everything that the order of the batches to come depends on, apart from the data and the batch size."""

    seed: int
    epoch: int
    position: int
    rows: int


class Batches:
    """An endless iterator over mini-batches, each epoch in a new order.

    arrays      one array, or several of the same length: a batch is then an array, or a tuple of arrays
    batch_size  rows in a batch; the last batch of an epoch is smaller unless `drop_last`
    seed        0 <= seed < 2**64
    shuffle     False keeps the order of the arrays

    The order of an epoch is a function of (seed, epoch) alone, by a counter-based generator. So the state is
    (seed, epoch, position), and training that is stopped anywhere goes on with the very same batches.
    `len(batches)` is the number of batches in an epoch.
    """

    def __init__(
        self,
        arrays: Array | Sequence[Array],
        batch_size: int,
        seed: int = 0,
        *,
        shuffle: bool = True,
        drop_last: bool = False,
    ) -> None:
        self._single = isinstance(arrays, np.ndarray)
        self.arrays: tuple[Array, ...] = (arrays,) if isinstance(arrays, np.ndarray) else tuple(arrays)
        lengths = [len(array) for array in self.arrays]
        if not lengths or len(set(lengths)) != 1 or lengths[0] == 0:
            raise ValueError(f"Batches: needs arrays of one length, not empty; their lengths are {lengths}")
        self.rows = lengths[0]
        if batch_size < 1 or (drop_last and batch_size > self.rows):
            raise ValueError(f"Batches: {self.rows} rows give no batch of batch_size={batch_size}")
        if not 0 <= seed < 2**64:
            raise ValueError(f"Batches: seed must be in 0 ... 2**64 - 1, got {seed}")
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.epoch = 0
        self.position = 0  # rows of this epoch that have been given out
        self._order = self._epoch_order()

    def __len__(self) -> int:
        return self.rows // self.batch_size if self.drop_last else math.ceil(self.rows / self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.rows - self.position < (self.batch_size if self.drop_last else 1):
            self.epoch += 1
            self.position = 0
            self._order = self._epoch_order()
        rows = self._order[self.position : self.position + self.batch_size]
        self.position += len(rows)
        batch = tuple(array[rows] for array in self.arrays)
        return batch[0] if self._single else batch

    def state_dict(self) -> BatchState:
        """The state between two batches, in plain numbers that any format can keep."""
        return BatchState(seed=self.seed, epoch=self.epoch, position=self.position, rows=self.rows)

    def load_state_dict(self, state: BatchState) -> None:
        """Go on where `state` was taken; the data must be the same, the batch size may differ."""
        if state["rows"] != self.rows or not 0 <= state["position"] <= self.rows or state["epoch"] < 0:
            raise ValueError(f"Batches: the state {state} does not belong to data of {self.rows} rows")
        self.seed = state["seed"]
        self.epoch = state["epoch"]
        self.position = state["position"]
        self._order = self._epoch_order()

    def _epoch_order(self) -> npt.NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(self.rows)
        key = np.array([self.seed, self.epoch], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key)).permutation(self.rows)


POOL = 20  # mini-batches that are sorted by length together


class Bucketed(Batches):
    """Mini-batches of rows of like length, so that little of a batch is padding.

    lengths  a number for each row, or a tuple of numbers of falling importance

    Each epoch's rows are shuffled, sorted within pools of ``POOL`` batches, and the batches shuffled again. The last
    rows of an epoch, too few for a batch, are left out.
    """

    def __init__(
        self, arrays: Array | Sequence[Array], lengths: Sequence[Array], batch_size: int, seed: int = 0
    ) -> None:
        self.lengths = tuple(lengths)
        self._size = batch_size
        super().__init__(arrays, batch_size, seed, drop_last=True)

    def _epoch_order(self) -> npt.NDArray[np.int64]:
        shuffled, size = super()._epoch_order(), self._size
        whole = self.rows // size * size
        batches = []
        for start in range(0, whole, POOL * size):
            pool = shuffled[start : min(start + POOL * size, whole)]
            order = np.lexsort([length[pool] for length in reversed(self.lengths)])
            batches.append(pool[order].reshape(-1, size))
        together = np.concatenate(batches)
        key = np.array([self.seed, self.epoch + 2**63], dtype=np.uint64)  # another stream than that of the rows
        places = np.random.Generator(np.random.Philox(key=key)).permutation(len(together))
        return np.concatenate([together[places].ravel(), shuffled[whole:]])


def in_order(arrays: Array | Sequence[Array], batch_size: int) -> Iterator[Any]:
    """One pass over the rows in their order, for evaluation; nothing is dropped."""
    batches = Batches(arrays, batch_size, shuffle=False)
    for _ in range(len(batches)):
        yield next(batches)
