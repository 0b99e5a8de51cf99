"""An exponential moving average of a module's weights: generative models are usually sampled from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import kernels
from ..autograd import mark_changed
from ..device import Device
from ..nn.module import Module, copy_state
from ..nn.parameter import Parameter
from ..tensor import Tensor, wrap


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
        self._swapped = False
        own = module.state_dict(keep_vars=True)
        copies = {id(t): wrap(t.array.copy(), t.device) for t in own.values()}
        self.average = {name: copies[id(t)] for name, t in own.items()}  # what is shared is shared here too

    def _pairs(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Every tensor of the module, once, with its average."""
        own = self.module.state_dict(keep_vars=True)
        return {id(t): (t, self.average[name]) for name, t in own.items()}.values()

    def update(self) -> None:
        """Move the average towards the module's present weights."""
        self._check_not_swapped("update")
        decay = self._decay_of_this_update()
        self.updates += 1
        together: defaultdict[Device, list[tuple[Any, Any]]] = defaultdict(list)
        for t, average in self._pairs():
            if not isinstance(t, Parameter):
                average.array[...] = t.array
            elif t.dtype == np.float32 and "ema" not in kernels.overrides():
                together[t.device].append((average.array, t.array))
            else:
                arrays = average.array, t.array
                kernels.select("ema", t.device.type, arrays, {}).fn(*arrays, decay=decay)
        for device, pairs in together.items():
            averages, values = zip(*pairs)
            kernels.select("ema_many", device.type, averages[:1], {}).fn(averages, values, decay=decay)

    def _decay_of_this_update(self) -> float:
        return min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay

    def _check_not_swapped(self, call: str) -> None:
        if self._swapped:
            raise RuntimeError(f"EMA.{call}: the module holds the averaged weights; leave `with ema.swapped():` first")

    @contextmanager
    def swapped(self) -> Iterator[Module]:
        """The module with the averaged weights inside, and its own again afterwards."""
        self._check_not_swapped("swapped")
        self._swap()
        try:
            yield self.module
        finally:
            self._swap()

    def _swap(self) -> None:
        self._swapped = not self._swapped
        for t, average in self._pairs():
            t.array, average.array = average.array, t.array
            mark_changed(t.array)  # a graph from before the swap must not take these values for those it saved

    def state_dict(self) -> dict[str, Any]:
        """``{"updates": n, "average": {...}}``; ``average`` has the module's own keys and loads into it."""
        self._check_not_swapped("state_dict")
        return {"updates": self.updates, "average": {name: t.detach() for name, t in self.average.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the saved average of a module with the same state."""
        self._check_not_swapped("load_state_dict")
        copy_state("EMA", self.average, state_dict["average"], strict=True)
        self.updates = int(state_dict["updates"])


class CheckpointAverage(EMA):
    """The plain mean of ``module``'s weights at the times of ``update()``.

    Vaswani et al. 2017 (section 6.1) average the last checkpoints of a run: call ``update()`` at each of them.
    """

    def __init__(self, module: Module) -> None:
        super().__init__(module)

    def _decay_of_this_update(self) -> float:
        return self.updates / (self.updates + 1)
