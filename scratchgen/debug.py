"""Looking into the engine: NaN hunting with creation stacks, and hooks that time, trace and weigh every op.

Observers cost one truth test per op while none is active.
"""

from __future__ import annotations

import sys
import time
import weakref
from collections import Counter, defaultdict
from typing import Any, TextIO

import numpy as np

from . import autograd
from .tensor import Tensor


class Observer:
    """Base of what watches ops. Used as a context manager; sub-classes define the events they care for."""

    def __enter__(self) -> Any:
        autograd.observers.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        autograd.observers.remove(self)

    def on_forward(self, op: Any, inputs: tuple, output: Any, node: Any) -> None:
        """After an op ran: its declaration, its inputs, its output Tensor(s), its node (None if not recorded)."""

    def on_backward(self, node: Any, grads: Any) -> None:
        """After a node's vjp ran: the node and one gradient or None for each input."""


def _tensors(values: Any) -> list[Tensor]:
    values = values if isinstance(values, (tuple, list)) else (values,)
    return [t for t in values if isinstance(t, Tensor)]


def _is_bad(t: Tensor) -> bool:
    return t.dtype.kind in "fc" and not bool(t.device.xp.isfinite(t.array).all())


class debug(Observer):
    """``with debug():`` every op is checked. The first NaN or infinity raises, naming the op that made it from finite
    inputs; errors in the backward pass show where their op was created; saved arrays cannot be written to.

    Roughly ten times slower; not for training runs, for finding out why one failed.
    """

    def __init__(self, nan: bool = True, stacks: bool = True, lock: bool = True) -> None:
        self.nan = nan
        self.stacks = stacks
        self.lock = lock
        self._saved: dict[weakref.ref, list[np.ndarray]] = {}  # node -> the memory it keeps until its backward pass
        self._locks: Counter[int] = Counter()  # id of an array that was locked here -> how many nodes keep it

    def __enter__(self) -> debug:
        self._before = autograd.keep_stacks
        autograd.keep_stacks = self.stacks
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        autograd.keep_stacks = self._before
        for node in list(self._saved):
            self._unlock(node)

    def on_forward(self, op: Any, inputs: tuple, output: Any, node: Any) -> None:
        if self.nan and any(_is_bad(t) for t in _tensors(output)):
            given = [t for t in _tensors(inputs) if _is_bad(t)]
            origin = "from inputs that were not finite already" if given else "from finite inputs"
            shapes = ", ".join(f"{t.dtype}{list(t.shape)}" for t in _tensors(inputs))
            raise FloatingPointError(f"{op.name}({shapes}) gave NaN or infinity {origin}")
        if self.lock and node is not None:
            arrays = [a for a in _saved_memory(node) if a.flags.writeable or id(a) in self._locks]
            self._saved[weakref.ref(node, self._unlock)] = arrays  # a graph may also die without a backward pass
            for array in arrays:
                array.flags.writeable = False
                self._locks[id(array)] += 1

    def on_backward(self, node: Any, grads: Any) -> None:
        if self.nan and any(_is_bad(t) for t in _tensors(grads)):
            made = "\nthe op was made at:\n" + "".join(node.stack) if node.stack else ""
            raise FloatingPointError(f"the backward pass of {node.op.name} gave NaN or infinity{made}")
        self._unlock(weakref.ref(node))  # used: an optimizer may change it now

    def _unlock(self, node: weakref.ref) -> None:
        """Let what ``node`` alone kept be written to again."""
        for array in self._saved.pop(node, ()):
            self._locks[id(array)] -= 1
            if not self._locks[id(array)]:
                del self._locks[id(array)]
                array.flags.writeable = True


def _saved_memory(node: Any) -> list[np.ndarray]:
    """The NumPy arrays that own the memory of what ``node`` saved."""
    owners = []
    for value in (*node.inputs, *(node.outputs if isinstance(node.outputs, tuple) else (node.outputs,))):
        array = value.array if isinstance(value, Tensor) else value
        while isinstance(array, np.ndarray) and isinstance(array.base, np.ndarray):
            array = array.base
        if isinstance(array, np.ndarray) and array.flags.owndata:
            owners.append(array)
    return owners


class Timer(Observer):
    """``with Timer() as t: ...; print(t)``: seconds, calls and bytes written by each op, forward passes only.

    The time between two events is charged to the op that ends it, so the Python around an op counts as the op's.
    """

    def __enter__(self) -> Timer:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self.bytes: dict[str, int] = defaultdict(int)
        super().__enter__()
        self._last = time.perf_counter()
        return self

    def _charge(self, name: str, tensors: list[Tensor]) -> None:
        now = time.perf_counter()
        self.seconds[name] += now - self._last
        self.calls[name] += 1
        self.bytes[name] += sum(t.array.nbytes for t in tensors)
        self._last = time.perf_counter()

    def on_forward(self, op: Any, inputs: tuple, output: Any, node: Any) -> None:
        self._charge(op.name, _tensors(output))

    def on_backward(self, node: Any, grads: Any) -> None:
        self._charge(node.op.name + " backward", _tensors(grads))

    def __str__(self) -> str:
        rows = [f"{'op':<28}{'calls':>9}{'ms':>11}{'MB out':>11}"]
        for name in sorted(self.seconds, key=lambda n: -self.seconds[n]):
            ms, mb = self.seconds[name] * 1e3, self.bytes[name] / 1e6
            rows.append(f"{name:<28}{self.calls[name]:>9}{ms:>11.2f}{mb:>11.2f}")
        return "\n".join(rows)


class Trace(Observer):
    """``with Trace():`` print every op as it runs: its name, its inputs' and outputs' shapes."""

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file or sys.stderr

    def on_forward(self, op: Any, inputs: tuple, output: Any, node: Any) -> None:
        given = ", ".join(f"{t.dtype}{list(t.shape)}" if isinstance(t, Tensor) else repr(t) for t in inputs)
        made = ", ".join(f"{t.dtype}{list(t.shape)}" for t in _tensors(output))
        print(f"{op.name}({given}) -> {made}", file=self.file)

    def on_backward(self, node: Any, grads: Any) -> None:
        made = ", ".join(f"{list(t.shape)}" if isinstance(t, Tensor) else "-" for t in grads)
        print(f"{node.op.name} backward -> {made}", file=self.file)
