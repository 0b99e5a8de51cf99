"""The gradients of a value, which come from all that used it, and how they are added up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from . import kernels
from .kernels.arrays import LARGE
from .ownership import ours
from .tensor import Tensor


class Gradients:
    """What each source was given so far in a backward pass.

    Unless gradients have a history, what comes is added in place to what is there, if nobody else has that. If somebody
    has, the two wait: for a third, for their node's turn, or for a kernel that adds them to its own (``claim``).
    Whichever it is, the sums are ((first + second) + third) + ..., to the bit.
    """

    __slots__ = ("create_graph", "given", "waiting")

    def __init__(self, create_graph: bool) -> None:
        self.create_graph = create_graph
        self.given: dict[Any, Tensor] = {}
        self.waiting: dict[Any, Tensor] = {}  # the second of two

    def give(self, src: Any, g: Tensor) -> None:
        """Add ``g`` to the gradient of ``src``."""
        given = self.given
        before = given.get(src)
        if before is None:
            given[src] = g
        elif self.create_graph:
            given[src] = before + g
        else:
            if src in self.waiting:
                before = given[src] = before + self.waiting.pop(src)
            if not ours(given, src):
                self.waiting[src] = g
            elif before.array.size < LARGE:
                np.add(before.array, g.array, out=before.array)
            else:
                kernels.select("accumulate", before.device.type, (before.array, g.array), {}).fn(before.array, g.array)

    def take(self, src: Any) -> Tensor | None:
        """The gradient of ``src``, which is all there will be; None if there is none."""
        g = self.given.pop(src, None)
        return g + self.waiting.pop(src) if g is not None and src in self.waiting else g

    def claim(self, src: Any) -> tuple[Any, ...]:
        """What ``src`` has so far, no, one or two arrays: who takes them adds them to the gradient that it gives."""
        found = self.given.pop(src, None), self.waiting.pop(src, None)
        return tuple([g.array for g in found if g is not None])

    def leaves(self) -> Iterator[tuple[Any, Tensor]]:
        """What is left when all nodes had their turn, with its sources: leaves."""
        for src in list(self.given):
            g = self.take(src)
            assert g is not None
            yield src, g
