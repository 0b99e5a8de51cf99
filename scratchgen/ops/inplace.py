"""Changes in place, for data, parameters and buffers. They are never recorded.

Allowed for tensors without history, and only where nothing would have to be recorded: with recording off, or if no
tensor involved requires grad. Every change is marked, so a graph that saved the old values refuses to run. Writes
through the array that ``x.numpy()`` or ``x.array`` gives are not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from ..autograd import is_grad_enabled, mark_changed, no_grad
from ..declare import method
from ..device import move
from ..dtypes import can_cast, float32
from ..rng import Generator, default_generator
from ..tensor import Tensor, as_tensor
from .compare import bitwise_and, bitwise_or, bitwise_xor, clamp
from .elementwise import add, addcdiv, addcmul, div, floor_divide, lerp, mul, named, pow, remainder, sub
from .random import bernoulli_draw, check_probabilities, exponential_draw

__all__: list[str] = []


def _refuse(op: str, input: Tensor, why: str) -> NoReturn:
    raise RuntimeError(f"{op}: the tensor of shape {list(input.shape)} {why}")


def _may_change(op: str, input: Tensor, *others: Any) -> None:
    """Raise where a change of ``input`` would have to be recorded, or cannot be made."""
    if input.node is not None:
        _refuse(
            op,
            input,
            "was computed by a recorded op, and in-place changes are not recorded; "
            "use the functional form (y = f(x)), or change a copy (x.detach().clone())",
        )
    if is_grad_enabled():
        if input.requires_grad:
            _refuse(
                op,
                input,
                "requires grad, and in-place changes are not recorded; "
                "use the functional form (y = f(x)), or change it under no_grad()",
            )
        if any(isinstance(x, Tensor) and x.requires_grad for x in others):
            _refuse(
                op,
                input,
                "would be changed by one that requires grad, and in-place changes are not recorded; "
                "use the functional form (y = f(x)), detach() the other, or change it under no_grad()",
            )
    if isinstance(input.array, np.ndarray) and not input.array.flags.writeable:
        _refuse(
            op,
            input,
            "cannot be written to: it is expanded, or made from a read-only array, or locked by debug() "
            "because a graph saved it; change a copy (x.clone())",
        )


def _write(op: str, input: Tensor, values: Tensor) -> Tensor:
    """Replace the elements of ``input`` by ``values``, which must fit in shape and kind of number."""
    if values.shape != input.shape:
        raise ValueError(f"{op}: a result of shape {list(values.shape)} does not fit a tensor of {list(input.shape)}")
    if not can_cast(values.dtype, input.dtype):
        raise TypeError(f"{op}: a result of dtype {values.dtype} does not fit a tensor of {input.dtype}")
    input.array[...] = values.array
    mark_changed(input.array)
    return input


# --- arithmetic: the functional op, then one copy; its definition stays the only one


def _in_place(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def change(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        _may_change(name, input, *args, *kwargs.values())
        with no_grad():
            return _write(name, input, function(input, *args, **kwargs))

    return named(name, f"``{function.__name__}``, in place.", change)


def _operator(symbol: str, change: Callable[..., Tensor], function: Callable[..., Tensor]) -> None:
    """``x += y`` changes ``x`` in place; where that would have to be recorded, the name moves on to a new tensor.

    A leaf that requires grad raises instead: its name would silently part from the parameter it stands for.
    """

    def operate(self: Tensor, other: Any) -> Tensor:
        leaf = self.requires_grad and self.node is None
        if is_grad_enabled() and not leaf and (self.requires_grad or getattr(other, "requires_grad", False)):
            return function(self, other)
        return change(self, other)

    method(symbol)(operate)


_operator("__iadd__", _in_place("add_", add), add)
_operator("__isub__", _in_place("sub_", sub), sub)
_operator("__imul__", _in_place("mul_", mul), mul)
_operator("__itruediv__", _in_place("div_", div), div)
_operator("__ifloordiv__", _in_place("floor_divide_", floor_divide), floor_divide)
_operator("__imod__", _in_place("remainder_", remainder), remainder)
_operator("__ipow__", _in_place("pow_", pow), pow)
_operator("__iand__", _in_place("bitwise_and_", bitwise_and), bitwise_and)
_operator("__ior__", _in_place("bitwise_or_", bitwise_or), bitwise_or)
_operator("__ixor__", _in_place("bitwise_xor_", bitwise_xor), bitwise_xor)
_in_place("clamp_", clamp)
_in_place("lerp_", lerp)
_in_place("addcmul_", addcmul)
_in_place("addcdiv_", addcdiv)

# --- copies and fills


@method()
def copy_(input: Tensor, src: Any) -> Tensor:
    """The elements of ``src``, broadcast and cast to this tensor's shape and dtype, from any device."""
    _may_change("copy_", input, src)
    source = as_tensor(src, input.dtype)
    try:
        input.array[...] = move(source.array, source.device, input.device)
    except ValueError as error:
        raise ValueError(f"copy_: {list(source.shape)} does not broadcast to {list(input.shape)}") from error
    mark_changed(input.array)
    return input


@method()
def fill_(input: Tensor, value: Any) -> Tensor:
    """Every element becomes ``value``, a number or a 0-d tensor."""
    if isinstance(value, Tensor) and value.ndim:
        raise ValueError(f"fill_: expected a number or a 0-d tensor, got shape {list(value.shape)}")
    return copy_(input, value)


@method()
def zero_(input: Tensor) -> Tensor:
    """Every element becomes 0."""
    return copy_(input, 0)


@method("__setitem__")
def setitem(input: Tensor, index: Any, value: Any) -> None:
    """``x[index] = value``: as NumPy, where ``index`` may hold tensors and ``value`` broadcasts."""
    _may_change("setitem", input, value)
    where = tuple([_array(i, input) for i in index]) if isinstance(index, tuple) else _array(index, input)
    try:
        input.array[where] = _array(value, input)
    except (ValueError, IndexError) as error:
        error.add_note(f"in setitem of a tensor of shape {list(input.shape)}")
        raise
    mark_changed(input.array)


def _array(x: Any, input: Tensor) -> Any:
    if isinstance(x, Tensor):
        if x.device is not input.device:
            raise RuntimeError(
                f"setitem: {list(x.shape)} on {x.device} into a tensor on {input.device}; move one with .to(device)"
            )
        return x.array
    return x


@method()
def detach_(input: Tensor) -> Tensor:
    """Cut this tensor from the graph that made it."""
    input.node = None
    input.requires_grad = False
    return input


# --- random fills


def _fill(op: str, input: Tensor, draw: Callable[[Generator], Any], generator: Generator | None) -> Tensor:
    _may_change(op, input)
    input.array[...] = draw(generator or default_generator)
    mark_changed(input.array)
    return input


def _float_like(input: Tensor) -> np.dtype:
    """The dtype to draw in: the tensor's, or float32 for integers."""
    return input.dtype if input.dtype.kind == "f" else float32


@method()
def uniform_(input: Tensor, low: float = 0, high: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Numbers uniform on [low, high)."""
    if high < low:
        raise ValueError(f"uniform_: the range [{low}, {high}) is empty")

    def draw(stream: Generator) -> Any:
        return stream.uniform(input.shape, _float_like(input), input.device) * (high - low) + low

    return _fill("uniform_", input, draw, generator)


@method()
def normal_(input: Tensor, mean: float = 0, std: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Normal numbers."""
    if std < 0:
        raise ValueError(f"normal_: the standard deviation must not be negative, got {std}")

    def draw(stream: Generator) -> Any:
        return stream.normal(input.shape, _float_like(input), input.device) * std + mean

    return _fill("normal_", input, draw, generator)


@method()
def exponential_(input: Tensor, lambd: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Exponential numbers of rate ``lambd``, that is of mean ``1 / lambd``."""
    if lambd <= 0:
        raise ValueError(f"exponential_: the rate must be positive, got {lambd}")
    return _fill("exponential_", input, lambda s: exponential_draw(input.shape, input.device, s) / lambd, generator)


@method()
def bernoulli_(input: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """1 with probability ``p``, a number or a tensor that broadcasts; else 0."""
    p = p.array if isinstance(p, Tensor) else p
    check_probabilities("bernoulli_", p)

    def draw(stream: Generator) -> Any:
        return bernoulli_draw(p, input.shape, input.dtype, input.device, stream)

    return _fill("bernoulli_", input, draw, generator)
