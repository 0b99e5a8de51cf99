"""The coverage gate: no op without cases, a first and a second derivative in every input, and, where it has several
implementations, a case that each of them takes.

It runs the rows of the catalogue and watches the engine: what counts is what was differentiated, not what was meant to
be. The test suite fails on any gap; ``python -m scratchgen.testing coverage`` prints the table.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import scratchgen

from .. import kernels
from ..autograd import is_grad_enabled
from ..debug import Observer
from ..declare import OPS, Fused
from ..tensor import Tensor
from .catalogue import CASES, Library, two_orders
from .implementations import points

# Ops whose derivative is tested by exact numbers: rounding to another dtype would drown every other oracle.
BY_EXACT_NUMBERS = {"cast"}
CONSTANTS = {
    ("cross_entropy", 2): "class weights are constants of the kernels; variable ones take the composite",
    ("binary_cross_entropy_with_logits", 2): "likewise",
    ("binary_cross_entropy_with_logits", 3): "likewise",
}


class Coverage(Observer):
    """Which inputs of which ops were given as floating tensors, and which of those were differentiated."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.given: set[tuple[str, int]] = set()
        self.first: set[tuple[str, int]] = set()
        self.second: set[tuple[str, int]] = set()  # under recording, so that the gradient is differentiated in turn

    def on_forward(self, op: Any, inputs: tuple, output: Any, node: Any) -> None:
        """Note what an op was given."""
        self.given.update(
            (op.name, i)
            for i, x in enumerate(inputs)
            if isinstance(x, Tensor) and x.dtype.kind == "f" and x.array.size
        )

    def on_backward(self, node: Any, grads: Any) -> None:
        """Note what an op returned gradients of."""
        found = self.second if is_grad_enabled() else self.first
        found.update((node.op.name, i) for i, g in enumerate(grads) if g is not None and g.array.size)


@dataclass(frozen=True)
class Row:
    """What is tested of one op. ``inputs``: of which it has derivatives; ``gaps``: what is missing, in words."""

    op: str
    kind: str
    rows: int
    inputs: int
    first: int
    second: int
    implementations: dict[str, bool]
    gaps: tuple[str, ...]

    def line(self) -> str:
        """For the terminal."""
        covered = " ".join(name if taken else f"{name}(none)" for name, taken in self.implementations.items())
        orders = f"{self.first}/{self.inputs}".ljust(6) + f"{self.second}/{self.inputs}".ljust(7)
        return f"{self.op:36}{self.kind:10}{self.rows:5}  {orders}{covered}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "gaps": list(self.gaps)}


def differentiable() -> list[str]:
    """The ops of the table that have derivatives."""
    return [name for name, op in OPS.items() if name[:5] != "test_" and getattr(op, "vjps", True) is not None]


def watch() -> Coverage:
    """Differentiate every row of the catalogue twice and note what the engine did."""
    coverage = Coverage()
    for case in CASES.values():
        if case.order:
            seen = Coverage()
            with seen:
                two_orders(partial(case.function, Library(scratchgen)), case.arrays())
            coverage.rows.update({op for op, _ in seen.given})
            coverage.given |= seen.given
            coverage.first |= seen.first
            coverage.second |= seen.second
    return coverage


def survey(coverage: Coverage | None = None) -> list[Row]:
    """One row for each differentiable op."""
    seen = coverage or watch()
    return [_row(op, seen) for op in sorted(set(differentiable()) - BY_EXACT_NUMBERS)]


def _row(op: str, seen: Coverage) -> Row:
    inputs = {i for name, i in seen.given if name == op} - {i for name, i in CONSTANTS if name == op}
    orders = [{i for name, i in found if name == op} & inputs for found in (seen.first, seen.second)]
    gaps = [] if seen.rows[op] else [f"{op} is in no row of the catalogue"]
    for order, found in zip(("first", "second"), orders):
        missing = sorted(inputs - found)
        if seen.rows[op] and (missing or not found):
            gaps.append(f"no row differentiates {op} to {order} order in input {missing}")
    taken = {impl: _taken(op, impl) for impl in kernels.implementations(op, "cpu")} if kernels.has(op) else {}
    gaps += [f"no case of {op} is one that {impl} takes" for impl, found in taken.items() if not found]
    if len(taken) > 1 and kernels.has(op + "_vjp") and op + "_vjp" not in kernels.comparable():
        gaps.append(f"{op}_vjp has implementations and no cases")
    kind = "fused" if isinstance(OPS[op], Fused) else "primitive"
    first, second = map(len, orders)
    return Row(op, kind, seen.rows[op], len(inputs), first, second, taken, tuple(gaps))


def _taken(op: str, impl: str) -> bool:
    return op in kernels.comparable() and (impl == "reference" or next(points(op, impl), None) is not None)
