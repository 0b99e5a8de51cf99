"""The whole engine: the graph, its backward pass, and checkpointing.

A ``Node`` is one recorded op. It points only backwards, to the *sources* of its inputs, and holds what its op declared
to save, so graph memory is freed by reference counting alone. A source is what a gradient belongs to: a leaf Tensor,
a Node (its only output), or an ``Output`` of a Node with several.

Every recorded op takes the next number of one counter. That number is a topological rank (an op is recorded after what
it reads), so the backward pass is a heap on it; and it is a time stamp, so a saved array that was changed in place
after its node was recorded is found by comparing two numbers.
"""

from __future__ import annotations

import itertools
import sys
import traceback
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import wraps
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np

from . import rng
from .tensor import Tensor, wrap

_recording: ContextVar[bool] = ContextVar("scratchgen_recording", default=True)
_recomputing: ContextVar[bool] = ContextVar("scratchgen_recomputing", default=False)
_clock = itertools.count(1)
observers: list[Any] = []  # hooks and debug modes: objects with on_forward(op, arrays, out), on_backward(op, grads)
keep_stacks = False  # set by debug mode: nodes remember where they were made


class Node:
    """One recorded op: where gradients go on from here, and what its derivative needs."""

    __slots__ = ("attrs", "extra", "hooks", "inputs", "op", "outputs", "parents", "rank", "stack")

    def __init__(self, op: Any, parents: tuple, inputs: tuple, outputs: Any, attrs: dict, extra: Any = None) -> None:
        self.op = op
        self.parents = parents  # one source, or None, for each input
        self.inputs = inputs  # saved inputs as they are; a Meta for the others
        self.outputs = outputs  # the saved output array (a tuple of them for several outputs), else None or Metas
        self.attrs = attrs
        self.extra = extra  # what only a kernel reads: its name and its auxiliary outputs
        self.rank = next(_clock)
        self.hooks: dict[int, list] | None = None
        self.stack = traceback.format_stack(sys._getframe(2)) if keep_stacks else None


class Output(NamedTuple):
    """Source of one output of a node that has several."""

    node: Node
    index: int


class Meta:
    """What remains of a value that was not saved: enough to shape its gradient."""

    __slots__ = ("device", "dtype", "shape")

    def __init__(self, array: Any, device: Any) -> None:
        self.shape = array.shape
        self.dtype = array.dtype
        self.device = device

    @property
    def ndim(self) -> int:
        return len(self.shape)


# ---------------------------------------------------------------------------------------------- recording on and off


def is_grad_enabled() -> bool:
    return _recording.get()


def is_recomputing() -> bool:
    """True while ``checkpoint`` re-runs a function: side effects such as running statistics must not happen twice."""
    return _recomputing.get()


class set_grad_enabled:
    """Context manager and decorator: record ops for differentiation, or not."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        self.token = _recording.set(self.mode)

    def __exit__(self, *_: Any) -> None:
        _recording.reset(self.token)

    def __call__(self, function: Callable) -> Callable:
        @wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            with set_grad_enabled(self.mode):
                return function(*args, **kwargs)

        return inner


class no_grad(set_grad_enabled):
    """``with no_grad():`` ops inside leave no graph."""

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(set_grad_enabled):
    """``with enable_grad():`` ops inside are recorded, also within ``no_grad``."""

    def __init__(self) -> None:
        super().__init__(True)


# ------------------------------------------------------------------------------------------------ in-place changes

_changed: dict[int, tuple[int, weakref.ref]] = {}  # id of the memory's owner -> (time of the last change, owner)
_last_change = 0


def _owner(array: Any) -> Any:
    """The object whose memory ``array`` views; arrays that share memory share it."""
    while (base := getattr(array, "base", None)) is not None and not isinstance(base, bytes):
        array = base
    return array


def mark_changed(array: Any) -> None:
    """Note that ``array`` was just changed in place, so that graphs which saved its memory refuse to use it."""
    global _last_change
    _last_change = next(_clock)
    owner = _owner(array)
    key = id(owner)
    known = _changed.get(key)
    _changed[key] = (_last_change, known[1] if known else weakref.ref(owner, lambda _: _changed.pop(key, None)))


def _check_unchanged(node: Node) -> None:
    saved = [t.array for t in node.inputs if isinstance(t, Tensor)]
    outputs = node.outputs if isinstance(node.outputs, tuple) else (node.outputs,)
    saved += [array for array in outputs if hasattr(array, "base")]
    for array in saved:
        if _changed.get(id(_owner(array)), (0,))[0] > node.rank:
            raise RuntimeError(
                f"{node.op.name}: a value of shape {list(array.shape)} that it saved for its backward pass was changed "
                "in place since; change a copy (x.clone()), or change it after backward()"
            )


# -------------------------------------------------------------------------------------------------- forward: record


def source(t: Any) -> Any:
    """What the gradient of ``t`` belongs to: its node, or itself if it is a leaf, or None if it needs none."""
    if not isinstance(t, Tensor):
        return None
    return t.node if t.node is not None else (t if t.requires_grad else None)


def record(op: Any, inputs: tuple, outputs: Any, attrs: dict, extra: Any = None) -> Node:
    """Make the node of one executed op. ``op.keep`` says which inputs are saved, ``op.keep_output`` the output."""
    parents = []
    saved: list[Any] = []
    for t, keep in zip(inputs, op.keep, strict=False):
        if isinstance(t, Tensor):
            parents.append(t.node if t.node is not None else (t if t.requires_grad else None))
            saved.append(t if keep else Meta(t.array, t.device))
        else:
            parents.append(None)
            saved.append(t)
    if op.several and not op.keep_output:
        outputs = tuple([Meta(a, saved[0].device) for a in outputs])
    elif not op.keep_output:
        outputs = None
    return Node(op, tuple(parents), tuple(saved), outputs, attrs, extra)


# ---------------------------------------------------------------------------------------------------- backward pass


def _node_of(src: Any) -> Node | None:
    return src if type(src) is Node else None if isinstance(src, Tensor) else src.node


def _reaching(roots: Iterable[Any], wanted: dict, cut: bool) -> set[Node]:
    """The nodes between ``roots`` and the ``wanted`` sources: the others need not run. ``cut``: none beyond those."""
    barrier = {_node_of(src) for src in wanted} if cut else set()
    stack = [node for src in roots if (node := _node_of(src)) is not None]
    seen = set(stack)
    while stack:
        node = stack.pop()
        for parent in node.parents or ():
            if parent is not None and (above := _node_of(parent)) is not None and above not in seen:
                seen.add(above)
                stack.append(above)
    reaching: set[Node] = set()
    for node in sorted(seen - barrier, key=lambda n: n.rank):  # parents come before children
        if node.parents is None:  # freed: let the sweep reach it and say so
            reaching.add(node)
            continue
        for parent in node.parents:
            if parent is not None and (parent in wanted or _node_of(parent) in reaching):
                reaching.add(node)
                break
    return reaching


def _output_gradient(node: Node, grads: dict) -> Any:
    """Take the finished gradient(s) of a node's output(s) out of ``grads``; outputs that got none have zeros."""
    if not node.op.several:
        g = grads.pop(node)
        return _run_hooks(node.hooks[0], g) if node.hooks else g
    given = []
    for index, value in enumerate(node.outputs):
        g = grads.pop(Output(node, index), None)
        if g is None:
            device = node.inputs[0].device
            g = wrap(device.xp.zeros(value.shape, value.dtype), device)
        elif node.hooks and index in node.hooks:
            g = _run_hooks(node.hooks[index], g)
        given.append(g)
    return tuple(given)


def _run_hooks(hooks: list, g: Tensor) -> Tensor:
    for hook in list(hooks):
        changed = hook(g)
        if changed is not None:
            g = changed
    return g


def _conform(node: Node, index: int, g: Any) -> Tensor:
    """The engine's one check of a vjp's result: un-broadcast it to the input's shape, cast it to the input's dtype."""
    like = node.inputs[index]
    if g.shape != like.shape:
        if not node.op.broadcasts:
            raise RuntimeError(
                f"{node.op.name}: its gradient for input {index} has shape {list(g.shape)}, "
                f"the input has {list(like.shape)}; the op's vjp is wrong"
            )
        g = g.sum_to_size(like.shape)
    if g.dtype is not like.dtype:
        g = g.to(like.dtype)
    if g.device is not like.device:
        raise RuntimeError(
            f"{node.op.name}: its gradient for input {index} is on {g.device}, the input on {like.device}"
        )
    return g


def _sweep(roots: list[tuple[Any, Tensor]], wanted: dict | None, create_graph: bool, retain: bool, cut: bool) -> dict:
    """Propagate gradients from ``roots``; return those of the ``wanted`` sources (of all leaves if None).

    ``cut``: treat wanted sources as independent variables, that is, do not go on beyond them.
    """
    found: dict = {}
    grads: dict = {}
    owned: set = set()  # sources whose gradient is a buffer made here, which may be added to in place
    heap: list[tuple[int, Node]] = []
    queued: set[Node] = set()
    reaching = None if wanted is None else _reaching((src for src, _ in roots), wanted, cut)

    def give(src: Any, g: Tensor) -> None:
        before = grads.get(src)
        if before is None:
            grads[src] = g
            node = _node_of(src)
            if node is not None and node not in queued:
                queued.add(node)
                heappush(heap, (-node.rank, node))
        elif not create_graph and src in owned:
            np.add(before.array, g.array, out=before.array)
        else:
            grads[src] = before + g
            owned.add(src)

    for src, g in roots:
        give(src, g)
    while heap:
        node = heappop(heap)[1]
        if node.parents is None:
            raise RuntimeError(
                f"{node.op.name}: backward a second time through a graph that was already freed; "
                "pass retain_graph=True (or create_graph=True) the first time"
            )
        g = _output_gradient(node, grads)
        if reaching is not None:
            if node.op.several:
                found.update((out, gi) for i, gi in enumerate(g) if (out := Output(node, i)) in wanted)
            elif node in wanted:
                found[node] = g
            if node not in reaching:
                continue
        if _last_change > node.rank:
            _check_unchanged(node)
        if reaching is None:
            needs = tuple([p is not None for p in node.parents])
        else:
            needs = tuple([p is not None and (p in wanted or _node_of(p) in reaching) for p in node.parents])
        try:
            input_grads = node.op.vjp(node, g, needs, create_graph)
            for index, gi in enumerate(input_grads):
                if gi is not None and needs[index]:
                    give(node.parents[index], _conform(node, index, gi))
        except Exception as error:
            error.add_note(f"in the backward pass of {node.op.name}; " + _where(node))
            raise
        if observers:
            for observer in observers:
                observer.on_backward(node, input_grads)
        if not retain:
            node.parents = node.inputs = node.outputs = node.extra = None  # type: ignore[assignment]
    for src, g in grads.items():  # what is left belongs to leaves
        if isinstance(src, Tensor) and (wanted is None or src in wanted):
            found[src] = _run_hooks(src.hooks, g) if src.hooks else g
    return found


def _where(node: Node) -> str:
    if node.stack:
        return "the op was made at:\n" + "".join(node.stack)
    return "run inside `with sg.debug():` to see where the op was made"


def _roots(outputs: Sequence[Tensor], grad_outputs: Sequence[Tensor | None] | None) -> list[tuple[Any, Tensor]]:
    if grad_outputs is None:
        grad_outputs = [None] * len(outputs)
    if len(grad_outputs) != len(outputs):
        raise ValueError(f"{len(outputs)} outputs but {len(grad_outputs)} grad_outputs")
    roots = []
    for y, g in zip(outputs, grad_outputs, strict=True):
        src = source(y)
        if src is None:
            raise RuntimeError(
                f"the output of shape {list(y.shape)} does not require grad: none of the tensors it was computed "
                "from has requires_grad=True, or it was computed under no_grad()"
            )
        if g is None:
            if y.array.size != 1:
                raise RuntimeError(
                    f"grad can be left out only for outputs of one element, this one has shape {list(y.shape)}; "
                    "reduce it (y.sum()) or pass the gradient of its shape"
                )
            g = wrap(y.device.xp.ones(y.shape, y.dtype), y.device)
        elif g.shape != y.shape:
            raise ValueError(f"gradient of shape {list(g.shape)} for an output of shape {list(y.shape)}")
        elif g.dtype is not y.dtype:
            g = g.to(y.dtype)
        roots.append((src, g))
    return roots


def _as_list(x: Any) -> list:
    return list(x) if isinstance(x, (tuple, list)) else [x]


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """Gradients of ``sum(outputs * grad_outputs)`` with respect to ``inputs``, as ``torch.autograd.grad``.

    Returns one Tensor of each input's shape, or None for an input the outputs do not depend on if ``allow_unused``
    (an error otherwise). ``create_graph``: the gradients can be differentiated again, to any order.
    """
    xs = _as_list(inputs)
    for index, x in enumerate(xs):
        if source(x) is None:
            raise RuntimeError(f"grad: input {index} of shape {list(x.shape)} does not require grad")
    roots = _roots(_as_list(outputs), None if grad_outputs is None else _as_list(grad_outputs))
    wanted = {source(x): None for x in xs}
    retain = create_graph if retain_graph is None else retain_graph
    with set_grad_enabled(create_graph):
        found = _sweep(roots, wanted, create_graph, retain, cut=False)
    results = tuple(found.get(source(x)) for x in xs)
    for index, result in enumerate(results):
        if result is None and not allow_unused:
            raise RuntimeError(
                f"grad: the outputs do not depend on input {index} of shape {list(xs[index].shape)}; "
                "pass allow_unused=True to get None for it"
            )
    return results


def backward(
    outputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Add the gradients of ``outputs`` to ``.grad`` of all leaves they depend on.

    For a penalty on gradients use ``grad(..., create_graph=True)``: ``.grad`` with a graph keeps that graph alive.
    """
    given = None if grad_outputs is None else _as_list(grad_outputs)
    roots = _roots(_as_list(outputs), given)
    retain = create_graph if retain_graph is None else retain_graph
    with set_grad_enabled(create_graph):
        found = _sweep(roots, None, create_graph, retain, cut=False)
        shared = {id(g.array) for g in given or () if g is not None}
        for leaf, g in found.items():
            if leaf.grad is not None:
                g = leaf.grad + g
            elif not create_graph and (g.array.base is not None or id(g.array) in shared):
                g = wrap(g.array.copy(), g.device)  # a leaf's .grad owns its memory: optimizers change it in place
            shared.add(id(g.array))
            leaf.grad = g


# ----------------------------------------------------------------------------------- a composite's own derivative


def composite_vjp(function: Callable, inputs: tuple, g: Any, needs: tuple, create_graph: bool, extra: tuple = ()) -> list:
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
    ys, gs = _as_list(y), _as_list(g)
    for yi, gi in zip(ys, gs, strict=True):
        if yi.shape != gi.shape:
            raise RuntimeError(f"a recomputed output has shape {list(yi.shape)}, the first time it had {list(gi.shape)}")
    roots = [(source(yi), gi) for yi, gi in zip(ys, gs, strict=True) if source(yi) is not None]
    variables = [source(x) if need else None for x, need in zip(fresh, needs, strict=False)]
    wanted = {src: None for src in [*variables, *extra] if src is not None}
    with set_grad_enabled(create_graph):
        found = _sweep(roots, wanted, create_graph, create_graph, cut=True)
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

    def vjp(self, node: Node, g: Any, needs: tuple, create_graph: bool) -> list:
        inputs, extra = node.inputs[: self.count], node.parents[self.count :]
        token = _recomputing.set(True)
        try:
            with rng.replay(self.draws):
                return composite_vjp(self.function, inputs, g, needs[: self.count], create_graph, extra)
        finally:
            _recomputing.reset(token)


def checkpoint(function: Callable, *inputs: Any) -> Any:
    """``function(*inputs)`` without keeping its intermediate values: the backward pass computes them again.

    Right with random ops inside (the same numbers are drawn again), with tensors the function reads besides its
    inputs (such as parameters), and at any order of derivative.
    """
    if not is_grad_enabled():
        return function(*inputs)
    start = next(_clock)
    aliases = [x.detach().requires_grad_() if source(x) is not None else x for x in inputs]
    with rng.note_draws() as draws:
        result = function(*aliases)
    several = isinstance(result, (tuple, list))
    ys = _as_list(result)
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
    stack = [node for y in ys if (src := source(y)) is not None and (node := _node_of(src)) is not None]
    seen = set(stack)
    outside: dict = {}
    own = {id(x) for x in aliases}
    while stack:
        node = stack.pop()
        for parent, value in zip(node.parents, node.inputs, strict=True):
            if parent is None or id(parent) in own:
                continue
            above = _node_of(parent)
            if above is not None and above.rank > start:
                if above not in seen:
                    seen.add(above)
                    stack.append(above)
            else:
                outside[parent] = value if isinstance(value, Meta) else Meta(value.array, value.device)
    return list(outside.items())
