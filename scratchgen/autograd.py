"""The engine: the graph and its backward pass.

A ``Node`` is one recorded op. It points only backwards, to the *sources* of its inputs, and holds what its op declared
to save, so graph memory is freed by reference counting alone. A source is what a gradient belongs to: a leaf Tensor,
a Node (its only output), or an ``Output`` of a Node with several.

Every recorded op takes the next number of one counter. That number is a topological rank (an op is recorded after what
it reads), so the backward pass is a heap on it; and it is a time stamp, so a saved array that was changed in place
after its node was recorded is found by comparing two numbers.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import wraps
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np

from . import changes
from .gradients import Gradients
from .ownership import alone
from .tensor import Tensor, wrap

_recording: ContextVar[bool] = ContextVar("scratchgen_recording", default=True)
mark_changed = changes.mark_changed
observers: list[Any] = []  # hooks and debug modes: objects with on_forward(op, arrays, out), on_backward(op, grads)
keep_stacks = False  # set by debug mode: nodes remember where they were made


class Node:
    """One recorded op: where gradients go on from here, and what its derivative needs."""

    __slots__ = ("__weakref__", "attrs", "extra", "hooks", "inputs", "op", "outputs", "parents", "rank", "stack")

    def __init__(self, op: Any, parents: tuple, inputs: tuple, outputs: Any, attrs: dict, extra: Any = None) -> None:
        self.op = op
        self.parents = parents  # one source, or None, for each input
        self.inputs = inputs  # saved inputs as they are; a Meta for the others
        self.outputs = outputs  # the saved output array (a tuple of them for several outputs), else None or Metas
        self.attrs = attrs
        self.extra = extra  # what only a kernel reads: its name and its auxiliary outputs
        self.rank = next(changes.clock)
        self.hooks: dict[int, list] | None = None
        self.stack = traceback.format_stack(sys._getframe(2)) if keep_stacks else None


class Output(NamedTuple):
    """Source of one output of a node that has several."""

    node: Node
    slot: int


class Meta:
    """What remains of a value that was not saved: enough to shape its gradient."""

    __slots__ = ("device", "dtype", "shape")

    def __init__(self, array: Any, device: Any) -> None:
        self.shape = array.shape
        self.dtype = array.dtype
        self.device = device

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)


# --- recording on and off


def is_grad_enabled() -> bool:
    """Whether ops are being recorded."""
    return _recording.get()


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


# --- forward: record


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
        device = next(x.device for x in saved if hasattr(x, "device"))
        outputs = tuple([Meta(a, device) for a in outputs])
    elif not op.keep_output:
        outputs = None
    return Node(op, tuple(parents), tuple(saved), outputs, attrs, extra)


# --- backward pass


def node_of(src: Any) -> Node | None:
    """The node of a source; None for a leaf."""
    return src if type(src) is Node else None if isinstance(src, Tensor) else src.node


def _reaching(roots: Iterable[Any], wanted: dict, cut: bool) -> set[Node]:
    """The nodes between ``roots`` and the ``wanted`` sources: the others need not run. ``cut``: none beyond those."""
    barrier = {node_of(src) for src in wanted} if cut else set()
    stack = [node for src in roots if (node := node_of(src)) is not None]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if node in barrier:
            continue
        for parent in node.parents or ():
            if parent is not None and (above := node_of(parent)) is not None and above not in seen:
                seen.add(above)
                stack.append(above)
    reaching: set[Node] = set()
    for node in sorted(seen - barrier, key=lambda n: n.rank):  # parents come before children
        if node.parents is None:  # freed: let the sweep reach it and say so
            reaching.add(node)
            continue
        for parent in node.parents:
            if parent is not None and (parent in wanted or node_of(parent) in reaching):
                reaching.add(node)
                break
    return reaching


def _output_gradient(node: Node, grads: Gradients) -> Any:
    """Take the finished gradient(s) of a node's output(s) out of ``grads``; outputs that got none have zeros."""
    if not node.op.several:
        g: Any = grads.take(node)
        return _run_hooks(node.hooks[0], g) if node.hooks else g
    given = []
    for index, value in enumerate(node.outputs):
        g = grads.take(Output(node, index))
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


def _check_unchanged(node: Node) -> None:
    saved = [t.array for t in node.inputs if isinstance(t, Tensor)]
    outputs = node.outputs if isinstance(node.outputs, tuple) else (node.outputs,)
    saved += [array for array in outputs if hasattr(array, "base")]
    for array in saved:
        if changes.changed_since(array, node.rank):
            raise RuntimeError(
                f"{node.op.name}: a value of shape {list(array.shape)} that it saved for its backward pass was changed "
                "in place since; change a copy (x.clone()), or change it after backward()"
            )


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


@np.errstate(all="ignore")  # 0 * inf and overflow in a rule are for debug() to find; the forward pass had its say
def sweep(roots: list[tuple[Any, Tensor]], wanted: dict | None, create_graph: bool, retain: bool, cut: bool) -> dict:
    """Propagate gradients from ``roots``; return those of the ``wanted`` sources (of all leaves if None).

    ``cut``: treat wanted sources as independent variables, that is, do not go on beyond them.
    """
    found: dict = {}
    targets = {} if wanted is None else wanted
    grads = Gradients(create_graph)
    heap: list[tuple[int, Node]] = []
    queued: set[Node] = set()
    reaching = None if wanted is None else _reaching((src for src, _ in roots), wanted, cut)

    def give(src: Any, g: Tensor) -> None:
        grads.give(src, g)
        node = node_of(src)
        if node is not None and node not in queued:
            queued.add(node)
            heappush(heap, (-node.rank, node))

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
                found.update((out, gi) for i, gi in enumerate(g) if (out := Output(node, i)) in targets)
            elif node in targets:
                found[node] = g
            if node not in reaching:
                continue
        if changes.last_change > node.rank:
            _check_unchanged(node)
        if reaching is None:
            needs = tuple([p is not None for p in node.parents])
        else:
            needs = tuple([p is not None and (p in targets or node_of(p) in reaching) for p in node.parents])
        try:
            input_grads = node.op.vjp(node, g, needs, grads)
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
    for src, g in grads.leaves():
        if isinstance(src, Tensor) and (wanted is None or src in targets):
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
        elif g.device is not y.device:
            raise RuntimeError(f"gradient on {g.device} for an output on {y.device}; move it with .to(device)")
        elif g.dtype is not y.dtype:
            g = g.to(y.dtype)
        roots.append((src, g))
    return roots


def as_list(x: Any) -> list:
    """A tuple or list as a list, anything else as a list of one."""
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
    xs = as_list(inputs)
    for index, x in enumerate(xs):
        if source(x) is None:
            raise RuntimeError(f"grad: input {index} of shape {list(x.shape)} does not require grad")
    roots = _roots(as_list(outputs), None if grad_outputs is None else as_list(grad_outputs))
    wanted = {source(x): None for x in xs}
    retain = create_graph if retain_graph is None else retain_graph
    with set_grad_enabled(create_graph):
        found = sweep(roots, wanted, create_graph, retain, cut=False)
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
    given = None if grad_outputs is None else as_list(grad_outputs)
    roots = _roots(as_list(outputs), given)
    retain = create_graph if retain_graph is None else retain_graph
    with set_grad_enabled(create_graph):
        found = sweep(roots, None, create_graph, retain, cut=False)
        shared = {id(g.array) for g in given or () if g is not None}
        for leaf, g in found.items():
            if leaf.grad is not None:
                g = leaf.grad + g
            elif not create_graph and (id(g.array) in shared or not alone(g.array)):
                g = wrap(g.array.copy(), g.device)  # a leaf's .grad shares no memory: optimizers change it in place
            shared.add(id(g.array))
            leaf.grad = g
