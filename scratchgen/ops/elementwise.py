"""Elementwise arithmetic: a table of calculus. Names and rules as in torch; gradients are un-broadcast by the engine."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Node, is_grad_enabled, record
from ..declare import Primitive, method, primitive
from ..device import Device, move
from ..tensor import Tensor, as_tensor, wrap

__all__ = ["add", "alias", "cast", "clone", "div", "divide", "mul", "multiply", "neg", "negative", "sub", "subtract"]

# ------------------------------------------------------------------------------------------- identity, casts, moves

_alias = primitive("alias", lambda x: x, (lambda g, y, x: g,))
_cast = primitive("cast", lambda x, *, dtype: x.astype(dtype), (lambda g, y, x, *, dtype: cast(g, x.dtype),))
_clone = primitive("clone", lambda x: x.copy(order="K"), (lambda g, y, x: g,))


@method("alias")
def alias(input: Tensor) -> Tensor:
    """The same values (shared memory) as a new variable of the graph."""
    return _alias(input)


@method()
def clone(input: Tensor) -> Tensor:
    """A copy in memory of its own; differentiable."""
    return _clone(input)


def cast(input: Tensor, dtype: Any) -> Tensor:
    """``input`` with another dtype (itself if it has it already); differentiable between floating-point types."""
    dtype = np.dtype(dtype)
    return input if input.dtype is dtype else _cast(input, dtype=dtype)


@method()
def to(input: Tensor, *args: Any, dtype: Any = None, device: Device | str | None = None) -> Tensor:
    """``x.to(dtype)``, ``x.to(device)``, ``x.to(device, dtype)`` or ``x.to(other)``; differentiable."""
    for arg in args:
        if isinstance(arg, Tensor):
            dtype, device = arg.dtype, arg.device
        elif isinstance(arg, Device) or (isinstance(arg, str) and arg.partition(":")[0] in ("cpu", "cuda", "emu")):
            device = arg
        else:
            dtype = arg
    if device is not None and Device(device) is not input.device:
        input = _move(input, Device(device))
    return input if dtype is None else cast(input, dtype)


class _Move:
    """A move between devices is the one op whose output is not where its inputs are, so it records itself."""

    name, broadcasts, several, keep, keep_output = "to", False, False, (False,), False

    def vjp(self, node: Node, g: Tensor, needs: tuple, create_graph: bool) -> list[Tensor]:
        return [_move(g, node.inputs[0].device)]


def _move(x: Tensor, target: Device) -> Tensor:
    array = move(x.array, x.device, target)
    recorded = x.requires_grad and is_grad_enabled()
    return wrap(array, target, record(_Move(), (x,), array, {}) if recorded else None)


@method()
def cpu(input: Tensor) -> Tensor:
    """Moved to the CPU."""
    return to(input, device="cpu")


@method()
def cuda(input: Tensor, index: int = 0) -> Tensor:
    """Moved to GPU ``index``."""
    return to(input, device=Device("cuda", index))


for _name, _dtype in dict(
    half="float16", float="float32", double="float64", int="int32", long="int64", bool="bool"
).items():
    method(_name)(lambda input, _dtype=np.dtype(_dtype): cast(input, _dtype))


@method()
def type_as(input: Tensor, other: Tensor) -> Tensor:
    """With the dtype of ``other``."""
    return cast(input, other.dtype)


# ------------------------------------------------------------------------------------------------ operands and dtypes

_numbers = (float, int, bool)


def operands(a: Any, b: Any) -> tuple[Any, Any]:
    """Both operands of a binary op in their common dtype. Python numbers stay as they are: they never widen a float."""
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            if a.array.dtype is b.array.dtype:
                return a, b
            dtype = dtypes.result_type(a, b)
            return cast(a, dtype), cast(b, dtype)
        if type(b) in _numbers:
            if a.array.dtype.kind == "f":
                return a, b
            return cast(a, dtypes.result_type(a, b)), b
        return operands(a, _operand(b, a.device))
    if type(a) in _numbers:
        b, a = operands(b, a)
        return a, b
    if not isinstance(b, Tensor):
        raise TypeError(f"expected a Tensor, got {type(a).__name__} and {type(b).__name__}")
    return operands(_operand(a, b.device), b)


def _operand(x: Any, device: Device) -> Any:
    """A NumPy number becomes a Python number; an array becomes a tensor on ``device``."""
    return x.item() if isinstance(x, np.generic) else as_tensor(x, device=device)


def floating(x: Any) -> Any:
    """Integers and bools become the default float type, as torch does for division and transcendental functions."""
    if isinstance(x, Tensor) and x.array.dtype.kind in "iub":
        return cast(x, dtypes.get_default_dtype())
    return x


# ------------------------------------------------------------------------------------------------------- arithmetic


def _binary(name: str, forward: Any, vjp: Any, save: str = "") -> Primitive:
    return primitive(name, forward, vjp, save, broadcasts=True)


_add = _binary("add", np.add, (lambda g, y, a, b: g, lambda g, y, a, b: g))
_sub = _binary("sub", np.subtract, (lambda g, y, a, b: g, lambda g, y, a, b: -g))
_mul = _binary("mul", np.multiply, (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a), save="a b")
_div = _binary("div", np.true_divide, (lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b), save="y b")
_neg = primitive("neg", np.negative, (lambda g, y, x: -g,))


@method("__add__", "__radd__", "add")
def add(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """``input + alpha * other``."""
    a, b = operands(input, other)
    return _add(a, b if alpha == 1 else b * alpha)


@method("__sub__", "sub", "subtract")
def sub(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """``input - alpha * other``."""
    a, b = operands(input, other)
    return _sub(a, b if alpha == 1 else b * alpha)


@method("__mul__", "__rmul__", "mul", "multiply")
def mul(input: Any, other: Any) -> Tensor:
    """``input * other``."""
    return _mul(*operands(input, other))


@method("__truediv__", "div", "divide", "true_divide")
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """``input / other``; of integers a float. ``rounding_mode``: None, ``"trunc"`` or ``"floor"`` (no gradient)."""
    if rounding_mode == "floor":
        return floor_divide(input, other)
    a, b = operands(floating(input), floating(other))
    quotient = _div(a, b)
    if rounding_mode is None:
        return quotient
    if rounding_mode != "trunc":
        raise ValueError(f"div: rounding_mode must be None, 'trunc' or 'floor', got {rounding_mode!r}")
    return cast(trunc(quotient), dtypes.result_type(input, other))


method("__rsub__")(lambda self, other: sub(other, self))
method("__rtruediv__")(lambda self, other: div(other, self))


@method("__neg__", "neg", "negative")
def neg(input: Tensor) -> Tensor:
    """``-input``."""
    return _neg(input)


multiply, divide, subtract, negative = mul, div, sub, neg
