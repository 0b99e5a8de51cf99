"""Running a function again to differentiate it: composites of fused ops, and checkpointing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from . import rng
from .autograd import (
    Meta,
    Node,
    Output,
    as_list,
    enable_grad,
    is_grad_enabled,
    node_of,
    set_grad_enabled,
    source,
    sweep,
)
from .changes import clock
from .gradients import Gradients
from .tensor import Tensor, wrap

_recomputing: ContextVar[bool] = ContextVar("scratchgen_recomputing", default=False)


def is_recomputing() -> bool:
    """True while ``checkpoint`` re-runs a function: side effects such as running statistics must not happen twice."""
    return _recomputing.get()


def composite_vjp(
    function: Callable, inputs: tuple, g: Any, needs: tuple, create_graph: bool, extra: tuple = ()
) -> list:
    """The vjp of ``function(*inputs)`` at ``g``: run it under recording and differentiate what it did.

    Each input enters through an alias, so that one that depends on another is still its own variable; with
    ``create_graph`` the aliases keep their history and the result can be differentiated to any order. ``extra``:
    sources that ``function`` reads besides its inputs; their gradients come last.
    """
    with enable_grad():
        fresh = []
        for x, need in zip(inputs, needs, strict=False):
            if not (isinstance(x, Tensor) and need):
                fresh.append(x.detach() if isinstance(x, Tensor) and not create_graph else x)
            elif create_graph:
                fresh.append(x.alias())
            else:
                fresh.append(x.detach().requires_grad_())
        y = function(*fresh)
    ys, gs = as_list(y), as_list(g)
    for yi, gi in zip(ys, gs, strict=True):
        if yi.shape != gi.shape:
            raise RuntimeError(
                f"a recomputed output has shape {list(yi.shape)}, the first time it had {list(gi.shape)}"
            )
    roots = [(source(yi), gi) for yi, gi in zip(ys, gs, strict=True) if source(yi) is not None]
    variables = [source(x) if need else None for x, need in zip(fresh, needs, strict=False)]
    wanted = {src: None for src in [*variables, *extra] if src is not None}
    with set_grad_enabled(create_graph):
        found = sweep(roots, wanted, create_graph, create_graph, cut=True)
    return [None if src is None else found.get(src) for src in [*variables, *extra]]


class _Checkpoint:
    """The op of a checkpointed call: it saves its inputs only and runs the function again to differentiate it."""

    name = "checkpoint"
    broadcasts = False
    keep_output = True

    def __init__(self, function: Callable, count: int, several: bool, draws: dict) -> None:
        self.function = function
        self.count = count  # of inputs; parents beyond them are what the function read besides
        self.several = several
        self.draws = draws  # generator -> its counter before the first run
        self.keep = itertools.repeat(True)

    def vjp(self, node: Node, g: Any, needs: tuple, given: Gradients) -> list:
        inputs, extra = node.inputs[: self.count], node.parents[self.count :]
        token = _recomputing.set(True)
        try:
            with rng.replay(self.draws):
                return composite_vjp(self.function, inputs, g, needs[: self.count], given.create_graph, extra)
        finally:
            _recomputing.reset(token)


def checkpoint(function: Callable, *inputs: Any) -> Any:
    """``function(*inputs)`` without keeping its intermediate values: the backward pass computes them again.

    Right with random ops inside (the same numbers are drawn again), with tensors the function reads besides its
    inputs (such as parameters), and at any order of derivative.
    """
    if not is_grad_enabled():
        return function(*inputs)
    start = next(clock)
    aliases = [x.detach().requires_grad_() if source(x) is not None else x for x in inputs]
    with rng.note_draws() as draws:
        result = function(*aliases)
    several = isinstance(result, (tuple, list))
    ys = as_list(result)
    outside = _read_besides(ys, aliases, start)
    if all(source(x) is None for x in inputs) and not outside:
        return result
    op = _Checkpoint(function, len(inputs), several, draws)
    arrays = tuple(y.array for y in ys)
    parents = tuple(source(x) for x in inputs) + tuple(src for src, _ in outside)
    like = tuple(Meta(a, y.device) for a, y in zip(arrays, ys, strict=True))
    node = Node(op, parents, tuple(inputs) + tuple(meta for _, meta in outside), like if several else None, {})
    tensors = [
        wrap(a, y.device, Output(node, i) if several else node) for i, (a, y) in enumerate(zip(arrays, ys, strict=True))
    ]
    return tuple(tensors) if several else tensors[0]


def _read_besides(ys: list, aliases: list, start: int) -> list[tuple[Any, Meta]]:
    """The sources that a graph made since ``start`` depends on, other than ``aliases``, with their shapes."""
    stack = [node for y in ys if (src := source(y)) is not None and (node := node_of(src)) is not None]
    seen = set(stack)
    outside: dict = {}
    own = {id(x) for x in aliases}
    while stack:
        node = stack.pop()
        for parent, value in zip(node.parents, node.inputs, strict=True):
            if parent is None or id(parent) in own:
                continue
            above = node_of(parent)
            if above is not None and above.rank > start:
                if above not in seen:
                    seen.add(above)
                    stack.append(above)
            else:
                outside[parent] = value if isinstance(value, Meta) else Meta(value.array, value.device)
    return list(outside.items())
