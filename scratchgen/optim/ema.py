"""An exponential moving average of a module's weights: generative models are usually sampled from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..autograd import mark_changed
from ..nn.module import Module
from ..nn.parameter import Parameter
from ..tensor import Tensor, as_tensor, wrap


class EMA:
    """The running average of ``module``'s parameters; its buffers are copied.

    Call ``update()`` after each optimizer step, and evaluate inside ``with ema.swapped():``. ``warmup``: the decay of
    update ``n`` (from 0) is ``min(decay, (1 + n) / (10 + n))``, so that the random start is soon forgotten.
    """

    def __init__(self, module: Module, decay: float = 0.999, warmup: bool = True) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"EMA: decay must be in [0, 1), got {decay}")
        self.module = module
        self.decay = decay
        self.warmup = warmup
        self.updates = 0
        self.average = {name: wrap(t.array.copy(), t.device) for name, t in self._tracked()}
        self._swapped = False

    def _tracked(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.module.named_parameters()
        yield from self.module.named_buffers()

    def update(self) -> None:
        """Move the average towards the module's present weights."""
        if self._swapped:
            raise RuntimeError("EMA.update: the module holds the averaged weights; leave `with ema.swapped():` first")
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        self.updates += 1
        for name, t in self._tracked():
            average = self.average[name].array
            if isinstance(t, Parameter):
                average += (1 - decay) * (t.array - average)
            else:
                average[...] = t.array

    @contextmanager
    def swapped(self) -> Iterator[Module]:
        """The module with the averaged weights inside, and its own again afterwards."""
        if self._swapped:
            raise RuntimeError("EMA.swapped: the module holds the averaged weights already")
        self._swap()
        try:
            yield self.module
        finally:
            self._swap()

    def _swap(self) -> None:
        self._swapped = not self._swapped
        for name, t in self._tracked():
            average = self.average[name]
            t.array, average.array = average.array, t.array
            mark_changed(t.array)  # a graph from before the swap must not take these values for those it saved

    def state_dict(self) -> dict[str, Any]:
        """``{"updates": n, "average": {...}}``; ``average`` has the module's own keys and loads into it."""
        return {"updates": self.updates, "average": {name: t.detach() for name, t in self.average.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved average of a module with the same parameters and buffers."""
        given = {name: as_tensor(value) for name, value in state_dict["average"].items()}
        problems = [f"missing: {name}" for name in self.average if name not in given]
        problems += [f"unexpected: {name}" for name in given if name not in self.average]
        problems += [
            f"wrong shape: {name} is {list(given[name].shape)}, expected {list(t.shape)}"
            for name, t in self.average.items()
            if name in given and given[name].shape != t.shape
        ]
        if problems:
            raise RuntimeError("\n    ".join(["EMA.load_state_dict: nothing was loaded", *problems]))
        for name, t in self.average.items():
            t.array[...] = given[name].to(t.device).array
        self.updates = int(state_dict["updates"])
