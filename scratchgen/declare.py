"""How an op is declared: the only file that knows.

- ``primitive``: a forward on arrays and a vjp written in Tensor ops, so derivatives of every order come free.
- ``fused``: a composite reference written in Tensor ops plus kernels. The value comes from the kernel, the first
  derivative from the vjp kernel, a closed form or the composite; any higher order from the closed form or the
  composite, which are Tensor ops. There is no way to get a silently wrong derivative.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import autograd, kernels
from .autograd import Meta, Node, Output, _recording, record
from .gradients import Gradients
from .recompute import composite_vjp
from .tensor import Tensor, wrap

OPS: dict[str, Any] = {}  # the op table: every declared op by name

_ndarray = np.ndarray
_no_attrs: dict[str, Any] = {}


def _gather(op: Any, inputs: tuple) -> tuple[list, Any, bool]:
    """The inputs' arrays, their device, and whether any requires grad; mixed devices raise."""
    arrays = []
    device = None
    differentiate = False
    for t in inputs:
        if isinstance(t, Tensor):
            arrays.append(t.array)
            if t.requires_grad:
                differentiate = True
            if device is None:
                device = t.device
            elif t.device is not device:
                raise RuntimeError(
                    f"{op.name}: inputs are on different devices: "
                    + " and ".join(f"{list(x.shape)} on {x.device}" for x in inputs if isinstance(x, Tensor))
                    + "; move one with .to(device)"
                )
        else:
            arrays.append(t)
    if device is None:
        raise TypeError(f"{op.name}: expected at least one Tensor, got {', '.join(type(t).__name__ for t in inputs)}")
    return arrays, device, differentiate


def _describe(op: Any, arrays: Sequence[Any], attrs: dict) -> str:
    """What an op was called with, for error messages: ``op: inputs float32[3, 4], ...``."""
    parts = [f"{a.dtype}{list(a.shape)}" if hasattr(a, "shape") else repr(a) for a in arrays]
    parts += [f"{k}={v!r}" for k, v in attrs.items()]
    return f"in {op.name}({', '.join(parts)})"


def _emit(op: Any, inputs: tuple, out: Any, device: Any, differentiate: bool, attrs: dict, extra: Any = None) -> Any:
    """Wrap an op's output array(s) as Tensors, recorded if any input requires grad."""
    if op.several:
        out = tuple([np.asarray(a) if isinstance(a, np.generic) else a for a in out])
        node = record(op, inputs, out, attrs, extra) if differentiate else None
        tensors = tuple(
            [wrap(a, device, Output(node, i) if node and a.dtype.kind in "fc" else None) for i, a in enumerate(out)]
        )
        result: Any = tensors
    else:
        if out.__class__ is not _ndarray and isinstance(out, np.generic):
            out = np.asarray(out)
        node = record(op, inputs, out, attrs, extra) if differentiate and out.dtype.kind in "fc" else None
        result = wrap(out, device, node)
    if autograd.observers:
        for observer in autograd.observers:
            observer.on_forward(op, inputs, result, node)
    return result


def _saved_output(node: Node) -> Any:
    """The saved output(s) as Tensors with their place in the graph; rebuilt here so that no node refers to itself."""
    device = next(x.device for x in node.inputs if hasattr(x, "device"))
    if node.op.several:
        return tuple(wrap(a, device, Output(node, i)) for i, a in enumerate(node.outputs))
    return None if node.outputs is None else wrap(node.outputs, device, node)


class Primitive:
    """An op with a forward on arrays and one vjp for each input (or one joint vjp), written in Tensor ops."""

    __slots__ = ("broadcasts", "forward", "joint", "keep", "keep_output", "name", "several", "vjps")

    def __init__(
        self, name: str, forward: Callable | None, vjp: Any, save: str, broadcasts: bool, several: bool
    ) -> None:
        self.name = name
        self.forward = forward
        self.joint = callable(vjp)
        self.vjps = vjp
        self.broadcasts = broadcasts
        self.several = several
        self.keep, self.keep_output = _parse_save(name, vjp if self.joint else (vjp or (None,))[0], save)

    def __call__(self, *inputs: Any, **attrs: Any) -> Any:
        arrays, device, differentiate = _gather(self, inputs)
        try:
            forward = self.forward or kernels.select(self.name, device.type, tuple(arrays), attrs).fn
            out = forward(*arrays, **attrs)
        except Exception as error:
            error.add_note(_describe(self, arrays, attrs))
            raise
        return _emit(self, inputs, out, device, differentiate and _recording.get() and self.vjps is not None, attrs)

    def vjp(self, node: Node, g: Any, needs: tuple, given: Gradients) -> Any:
        y = _saved_output(node) if self.keep_output else None
        if self.joint:
            return self.vjps(g, y, *node.inputs, **node.attrs)
        return [
            rule(g, y, *node.inputs, **node.attrs) if need else None
            for rule, need in zip(self.vjps, needs, strict=True)
        ]

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


class _Every:
    """``head``, then an endless row of one value: the ``keep`` of an op with any number of inputs."""

    def __init__(self, value: bool, head: tuple[bool, ...] = ()) -> None:
        self.value = value
        self.head = head

    def __iter__(self) -> Any:
        yield from self.head
        while True:
            yield self.value


def _parse_save(name: str, rule: Callable | None, save: str) -> tuple[Any, bool]:
    """Turn ``save`` (names of a rule's parameters; ``y`` is the output) into one flag for each input."""
    names = save.split()
    if rule is None:
        return _Every(False), False
    parameters = list(inspect.signature(rule).parameters.values())
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    rest = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
    unknown = set(names) - set(positional[1:] + rest)
    if unknown:
        raise TypeError(f"{name}: save names {sorted(unknown)}, its vjp has {positional[1:] + rest}")
    keep = tuple(p in names for p in positional[2:])
    return (_Every(rest[0] in names, keep) if rest else keep), "y" in names


def primitive(
    name: str,
    forward: Callable | None,
    vjp: Any = None,
    save: str = "",
    *,
    broadcasts: bool = False,
    several: bool = False,
) -> Primitive:
    """Declare a primitive op.

    ``forward(*arrays, **attrs)`` returns an array (a tuple if ``several``); None: the op dispatches to the kernels
    of its name. ``vjp`` is a tuple with one rule for each input, ``rule(g, y, *inputs, **attrs) -> gradient``, or one
    function that returns all gradients, or None for an op without derivative. ``save`` names the rules' parameters
    that must be kept (``y`` is the output; ``*inputs`` are kept all or none); the others arrive without values, with
    shape, dtype and device only.
    ``broadcasts``: gradients are summed to the inputs' shapes by the engine.
    """
    op = OPS[name] = Primitive(name, forward, vjp, save, broadcasts, several)
    return op


class Fused:
    """An op with a composite reference in Tensor ops, kernels, and optionally a closed-form vjp in Tensor ops.

    Kernel ``name(*arrays, **attrs)`` returns the output(s), then ``auxiliary`` arrays that only the vjp kernel reads.
    Kernel ``name_vjp(g, y, *arrays, *auxiliary, **attrs)`` returns one gradient or None for each input; it may take
    ``needs``, one flag for each input, and ``onto``, arrays that it adds to the first input's gradient. What was not
    saved arrives as None.
    """

    broadcasts = False

    def __init__(self, composite: Callable, save: str, auxiliary: int, several: int) -> None:
        self.name = composite.__name__.removeprefix("_")
        self.composite = composite
        self.closed_form: Callable | None = None
        self.auxiliary = auxiliary
        self.several = bool(several)
        self.count = several or 1
        parameters = list(inspect.signature(composite).parameters.values())
        names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        saved = save.split() if save else names
        unknown = set(saved) - set(names) - {"y"}
        if unknown:
            raise TypeError(f"{self.name}: save names {sorted(unknown)}, its inputs are {names}")
        self.keep = tuple(p in saved for p in names)
        self.keep_output = "y" in saved
        self.__doc__ = composite.__doc__

    def vjp_rule(self, rule: Callable) -> Callable:
        """Decorator: the derivative in closed form, ``rule(g, y, *inputs, **attrs) -> gradients``, in Tensor ops."""
        self.closed_form = rule
        return rule

    def __call__(self, *inputs: Any, **attrs: Any) -> Any:
        arrays, device, differentiate = _gather(self, inputs)
        chosen = kernels.select(self.name, device.type, tuple(arrays), attrs)
        try:
            made = chosen.fn(*arrays, **attrs)
        except Exception as error:
            error.add_note(_describe(self, arrays, attrs))
            raise
        if not isinstance(made, tuple):
            made = (made,)
        out = made[: self.count] if self.several else made[0]
        extra = (chosen.impl, made[self.count :])
        return _emit(self, inputs, out, device, differentiate and _recording.get(), attrs, extra)

    def vjp(self, node: Node, g: Any, needs: tuple, given: Gradients) -> Any:
        if not given.create_graph and kernels.has(self.name + "_vjp"):
            return self._kernel_vjp(node, g, needs, given)
        if self.closed_form is not None:
            y = _saved_output(node) if self.keep_output else None
            return self.closed_form(g, y, *node.inputs, **node.attrs)
        attrs = node.attrs
        return composite_vjp(lambda *xs: self.composite(*xs, **attrs), node.inputs, g, needs, given.create_graph)

    def _kernel_vjp(self, node: Node, g: Any, needs: tuple, given: Gradients) -> list:
        impl, auxiliary = node.extra
        device = (g[0] if self.several else g).device
        g_arrays = tuple(x.array for x in g) if self.several else g.array
        inputs = [x.array if isinstance(x, Tensor) else None if isinstance(x, Meta) else x for x in node.inputs]
        outputs = node.outputs if self.keep_output else None
        probe = (g_arrays[0] if self.several else g_arrays,)
        chosen = kernels.select(self.name + "_vjp", device.type, probe, node.attrs, prefer=impl)
        attrs = {**node.attrs, "needs": needs} if chosen.takes_needs else node.attrs
        if chosen.takes_onto and needs[0] and (there := given.claim(node.parents[0])):
            attrs = {**attrs, "onto": there}
        grads = chosen.fn(g_arrays, outputs, *inputs, *auxiliary, **attrs)
        if not isinstance(grads, tuple):
            grads = (grads,)
        return [None if a is None else wrap(np.asarray(a) if isinstance(a, np.generic) else a, device) for a in grads]

    def __repr__(self) -> str:
        return f"<fused {self.name}>"


def fused(save: str = "", *, auxiliary: int = 0, several: int = 0) -> Callable[[Callable], Fused]:
    """Declare a fused op from its composite ``f(*inputs, **attrs)`` in Tensor ops.

    The function's name is the op's; a leading underscore, which leaves the name to the public function, is not part
    of it.

    ``save`` names the inputs, and ``y`` for the output, that the backward pass keeps; by default all inputs. Without
    a closed form every input must be kept. ``auxiliary``: how many further arrays the kernels return for the vjp
    kernel; they must be functions of the inputs. ``several``: the number of outputs if there is more than one.
    """

    def declare(composite: Callable) -> Fused:
        op = Fused(composite, save, auxiliary, several)
        OPS[op.name] = op
        return op

    return declare


def method(*names: str) -> Callable[[Callable], Callable]:
    """Bind the decorated function to ``Tensor`` under its own name or the given ``names``."""

    def bind(function: Callable) -> Callable:
        for name in names or (function.__name__,):
            setattr(Tensor, name, function)
        return function

    return bind
