"""Arithmetic: a table of calculus. Names and rules as in torch; the engine sums gradients to the inputs' shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes, kernels
from ..autograd import Node, is_grad_enabled, record
from ..declare import Primitive, method, primitive
from ..device import Device, move
from ..gradients import Gradients
from ..kernels.arrays import LARGE
from ..tensor import Tensor, as_tensor, wrap

__all__ = [
    "add", "addcdiv", "addcmul", "alias", "cast", "clone", "div", "divide", "floor_divide", "fmod", "lerp", "mul",
    "multiply", "neg", "negative", "pow", "remainder", "square", "sub", "subtract",
]  # fmt: skip

# Decorates forwards with poles: as in torch, 1 / 0 is inf without a warning, and debug() is what finds it. Sums and
# products alone keep NumPy's warnings of overflow and inf - inf: on small arrays the wrapper costs more than they do.
quiet = np.errstate(all="ignore")

# --- identity, casts, moves

_alias = primitive("alias", lambda x: x, (lambda g, y, x: g,))
_cast = primitive("cast", quiet(lambda x, *, dtype: x.astype(dtype)), (lambda g, y, x, *, dtype: cast(g, x.dtype),))
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

    def vjp(self, node: Node, g: Tensor, needs: tuple, given: Gradients) -> list[Tensor]:
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


def named(name: str, doc: str, function: Any, *operators: str) -> Any:
    """Give a function that was generated its name and docstring, and bind it to ``Tensor``."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return method(name, *operators)(function)


def _add_caster(name: str, dtype: np.dtype) -> None:
    named(name, f"With dtype {dtype}.", lambda input: cast(input, dtype))


_add_caster("half", dtypes.float16)
_add_caster("float", dtypes.float32)
_add_caster("double", dtypes.float64)
_add_caster("int", dtypes.int32)
_add_caster("long", dtypes.int64)
_add_caster("bool", dtypes.bool_)


@method()
def type_as(input: Tensor, other: Tensor) -> Tensor:
    """With the dtype of ``other``."""
    return cast(input, other.dtype)


# --- operands and dtypes

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
    if not isinstance(b, Tensor):
        raise TypeError(f"expected a Tensor, got {type(a).__name__} and {type(b).__name__}")
    if type(a) in _numbers:
        b, a = operands(b, a)
        return a, b
    return operands(_operand(a, b.device), b)


def _operand(x: Any, device: Device) -> Any:
    """A NumPy number becomes a Python number; an array becomes a tensor on ``device``."""
    return x.item() if isinstance(x, np.generic) else as_tensor(x, device=device)


def common(*values: Any) -> list[Any]:
    """``operands`` for any number of them."""
    device = next((x.device for x in values if isinstance(x, Tensor)), None)
    if device is None:
        raise TypeError(f"expected a Tensor, got {', '.join(type(x).__name__ for x in values)}")
    values = tuple([x if isinstance(x, Tensor) or type(x) in _numbers else _operand(x, device) for x in values])
    dtype = dtypes.result_type(*values)
    return [cast(x, dtype) if isinstance(x, Tensor) else x for x in values]


def floating(x: Any) -> Any:
    """Integers and bools become the default float type, as torch does for division and transcendental functions."""
    if isinstance(x, Tensor) and x.array.dtype.kind in "iub":
        return cast(x, dtypes.get_default_dtype())
    return x


# --- arithmetic


def _binary(name: str, forward: Any, vjp: Any, save: str = "") -> Primitive:
    return primitive(name, forward, vjp, save, broadcasts=True)


def flat(g: Tensor, y: Any, *inputs: Any, **attrs: Any) -> Tensor:
    """The rule of a step function: zero wherever the derivative exists."""
    return wrap(g.device.xp.zeros(g.shape, g.dtype), g.device)


def _add_forward(a: Any, b: Any) -> Any:
    if type(a) is type(b) and max(a.size, b.size) >= LARGE:
        return kernels.select("add", "cpu" if type(a) is np.ndarray else "cuda", (a, b), {}).fn(a, b)
    return np.add(a, b)


_add = _binary("add", _add_forward, (lambda g, y, a, b: g, lambda g, y, a, b: g))
_sub = _binary("sub", np.subtract, (lambda g, y, a, b: g, lambda g, y, a, b: -g))
_mul = _binary("mul", np.multiply, (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a), save="a b")
_div = _binary("div", quiet(np.true_divide), (lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b), save="y b")
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
    """``input / other``; of integers a float.

    ``rounding_mode``: None, or ``"trunc"`` or ``"floor"`` for the rounded quotient in the operands' common dtype.
    """
    a, b = operands(input, other)
    if rounding_mode is None:
        return _div(floating(a), floating(b))
    if rounding_mode == "floor":
        return _floor_divide(a, b)
    if rounding_mode == "trunc":
        return _trunc_divide(a, b)
    raise ValueError(f"div: rounding_mode must be None, 'trunc' or 'floor', got {rounding_mode!r}")


method("__rsub__")(lambda self, other: sub(other, self))
method("__rtruediv__")(lambda self, other: div(other, self))


@method("__neg__", "neg", "negative")
def neg(input: Tensor) -> Tensor:
    """``-input``."""
    return _neg(input)


multiply, divide, subtract, negative = mul, div, sub, neg

# --- whole quotients and what remains


def _whole(function: Any) -> Any:
    """Division without warnings, except that an integer by zero has no value at all and raises."""

    def forward(a: Any, b: Any) -> Any:
        integers = (a if hasattr(a, "dtype") else b).dtype.kind in "iub"
        try:
            with np.errstate(all="ignore", divide="raise" if integers else "ignore"):
                return function(a, b)
        except FloatingPointError:
            raise ZeroDivisionError("integer division by zero") from None

    return forward


def _truncated(a: Any, b: Any) -> Any:
    quotient = np.true_divide(a, b)
    if quotient.dtype == np.result_type(a, b):
        return np.trunc(quotient)
    return np.floor_divide(a - np.fmod(a, b), b)  # of integers: exact beyond 2^53


_floor_divide = _binary("floor_divide", _whole(np.floor_divide), (flat, flat))
_trunc_divide = _binary("trunc_divide", _whole(_truncated), (flat, flat))
_remainder = _binary(
    "remainder",
    _whole(np.remainder),
    (lambda g, y, a, b: g, lambda g, y, a, b: -g * _floor_divide(a, b)),
    save="a b",
)
_fmod = _binary(
    "fmod", _whole(np.fmod), (lambda g, y, a, b: g, lambda g, y, a, b: -g * _trunc_divide(a, b)), save="a b"
)


@method("__floordiv__", "floor_divide")
def floor_divide(input: Any, other: Any) -> Tensor:
    """The quotient rounded towards minus infinity."""
    return _floor_divide(*operands(input, other))


@method("__mod__", "remainder")
def remainder(input: Any, other: Any) -> Tensor:
    """What ``floor_divide`` leaves: it has the sign of ``other``, as Python's ``%``."""
    return _remainder(*operands(input, other))


@method()
def fmod(input: Any, other: Any) -> Tensor:
    """What division rounded towards zero leaves: it has the sign of ``input``, as C's ``fmod``."""
    return _fmod(*operands(input, other))


method("__rfloordiv__")(lambda self, other: floor_divide(other, self))
method("__rmod__")(lambda self, other: remainder(other, self))

# --- powers

_shortcuts: dict[float, Any] = {  # of floating-point arrays; np.power takes logarithms for each
    2: np.square,
    3: lambda x: x * x * x,
    0.5: np.sqrt,
    -0.5: lambda x: 1 / np.sqrt(x),
    -1: lambda x: 1 / x,
    -2: lambda x: 1 / np.square(x),
}


def _power(a: Any, b: Any) -> Any:
    return np.power(a, b).astype(a.dtype, copy=False)  # NumPy's powers of bools are int8


@quiet
def _to_number(x: Any, *, exponent: float) -> Any:
    shortcut = _shortcuts.get(exponent) if x.dtype.kind == "f" else None
    return _power(x, exponent) if shortcut is None else shortcut(x)


def _to_number_rule(g: Tensor, y: Any, x: Tensor, *, exponent: float) -> Tensor:
    return g * (exponent * x ** (exponent - 1)) if exponent else flat(g, y)


def _base_rule(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    # b a^(b-1). At 0^0 that would read 0 * inf; any other exponent there gives the 0 it is.
    return g * (b * a ** (b.where((a != 0) | (b != 0), 1) - 1))


def _exponent_rule(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    # a^b log a, whose limit for a -> 0 is 0 for b > 0; torch takes 0 for b = 0 too.
    return g * (y * a.where((a != 0) | (b < 0), 1).log())


_pow_number = primitive("pow_number", _to_number, (_to_number_rule,), save="x")
_pow = _binary("pow", quiet(_power), (_base_rule, _exponent_rule), save="y a b")


@method("__pow__", "pow")
def pow(input: Any, exponent: Any) -> Tensor:
    """``input ** exponent``; either may be a number. Integers stay integers and take no negative exponent."""
    base, exponent = operands(input, exponent)
    if not isinstance(exponent, Tensor):
        return _pow_number(base, exponent=exponent)
    if not isinstance(base, Tensor):
        base = wrap(exponent.device.xp.asarray(base, dtype=exponent.dtype), exponent.device)
    return _pow(base, exponent)


method("__rpow__")(lambda self, other: pow(other, self))


@method()
def square(input: Tensor) -> Tensor:
    """``input ** 2``."""
    return pow(input, 2)


# --- combinations


def _lerp_forward(a: Any, b: Any, weight: Any) -> Any:
    """``a + weight * (b - a)``, exact at both ends."""
    step = b - a
    if hasattr(weight, "dtype"):
        return np.where(np.abs(weight) < 0.5, a + weight * step, b - step * (1 - weight))
    return a + weight * step if abs(weight) < 0.5 else b - step * (1 - weight)


_lerp = _binary(
    "lerp",
    _lerp_forward,
    (
        lambda g, y, a, b, weight: g * (1 - weight),
        lambda g, y, a, b, weight: g * weight,
        lambda g, y, a, b, weight: g * (b - a),
    ),
    save="a b weight",
)


@method()
def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """Linear interpolation: ``input + weight * (end - input)``; ``weight`` is a number or a tensor."""
    return _lerp(*[floating(x) for x in common(input, end, weight)])


@method()
def addcmul(input: Tensor, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
    """``input + value * tensor1 * tensor2``."""
    return add(input, mul(tensor1, tensor2), alpha=value)


@method()
def addcdiv(input: Tensor, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
    """``input + value * tensor1 / tensor2``."""
    return add(input, div(tensor1, tensor2), alpha=value)
