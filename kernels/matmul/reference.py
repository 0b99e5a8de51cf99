"""The specification of ``matmul`` and ``linear``: the array library's own product, on operands its BLAS can take."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ..arrays import widen
from ..registry import Cost, kernel, select
from ..sums import accurate_sum


def _ready(x: Any) -> Any:
    """``x``, copied if BLAS can walk its matrices neither by rows nor by columns.

    Gradients of sums and of flipped or strided views come with zero, negative and non-unit strides; for those the
    array library would copy matrix by matrix, or leave BLAS for a loop that is tens of times slower.
    """
    rows, columns = x.shape[-2:]
    down, right = x.strides[-2:]
    size = x.itemsize
    if (columns == 1 or right == size) and (rows == 1 or down >= columns * size):
        return x
    if (rows == 1 or down == size) and (columns == 1 or right >= rows * size):
        return x
    return x.copy(order="C")


def _product(a: Any, b: Any) -> Any:
    """``a @ b``; half precision is multiplied in single (NumPy's own half loop takes 60 times as long)."""
    if a.dtype.char == "e":
        return np.matmul(widen(a), widen(b)).astype(a.dtype)
    return np.matmul(_ready(a), _ready(b))


def _rows(x: Any) -> Any:
    """All leading dimensions as one: a single large product is quicker than many small ones."""
    return x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])


def matmul_cost(a: Any, b: Any) -> Cost:
    """Each operand and the result once; 2 m n k flops for each product of the batch."""
    results = prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2])) * a.shape[-2] * b.shape[-1]
    return Cost(bytes=a.nbytes + b.nbytes + results * a.itemsize, flops=2 * results * a.shape[-1])


@kernel("matmul", cost=matmul_cost)
def matmul(a: Any, b: Any) -> Any:
    """``a`` [..., m, k] times ``b`` [..., k, n]; leading dimensions broadcast."""
    if b.ndim == 2 and a.ndim > 2:
        return _product(_rows(a), b).reshape(*a.shape[:-1], b.shape[-1])
    return _product(a, b)


def linear_cost(input: Any, weight: Any, bias: Any = None) -> Cost:
    """As ``matmul``, and the bias once."""
    rows = prod(input.shape[:-1])
    results = rows * weight.shape[0]
    moved = input.nbytes + weight.nbytes + results * input.itemsize + (0 if bias is None else bias.nbytes)
    return Cost(bytes=moved, flops=2 * results * weight.shape[1] + (0 if bias is None else results))


@kernel("linear", cost=linear_cost)
def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """``input`` [..., k] times the transpose of ``weight`` [n, k], plus ``bias`` [n]."""
    out = _product(_rows(input), weight.T)
    if bias is not None:
        out += bias
    return out.reshape(*input.shape[:-1], weight.shape[0])


def linear_vjp_cost(g: Any, y: Any, input: Any, weight: Any, bias: Any = None, *, needs: tuple[bool, ...]) -> Cost:
    """Each gradient asked for reads what it is made of and is written once; the first two are a product each."""
    product = 2 * g.size * weight.shape[1]
    moved = g.nbytes * sum(needs) + (weight.nbytes + input.nbytes) * (needs[0] + needs[1])
    return Cost(bytes=moved, flops=product * (needs[0] + needs[1]) + g.size * needs[2])


@kernel("linear_vjp", cost=linear_vjp_cost)
def linear_vjp(g: Any, y: Any, input: Any, weight: Any, bias: Any = None, *, needs: tuple[bool, ...]) -> tuple:
    """Gradients for input, weight and bias, each one product (or sum) over all rows."""
    g_rows = _ready(_rows(g))
    return (
        _product(g_rows, weight).reshape(input.shape) if needs[0] else None,
        _product(g_rows.T, _rows(input)) if needs[1] else None,
        accurate_sum(g_rows, (0,)) if needs[2] else None,
    )


def linear_activation_cost(input: Any, weight: Any, bias: Any = None, residual: Any = None, *, activation: str) -> Cost:
    """As ``linear``, and the residual and one more result; the activation counts as 20 operations."""
    product = linear_cost(input, weight, bias)
    results = prod(input.shape[:-1]) * weight.shape[0]
    more = results * input.itemsize * (1 if residual is None else 2)
    return Cost(bytes=product.bytes + more, flops=product.flops + 20 * results)


def _activation(name: str) -> tuple[Callable, Callable]:
    """The activation of this name and its gradient, from the table of kernels: f(x), and f'(g, y, x)."""
    if name == "none":
        return (lambda x: x), (lambda g, y, x: g)
    op, _, approximate = name.partition("_")
    attrs = {"approximate": approximate or "none"} if op == "gelu" else {}

    def value(x: Any) -> Any:
        return select(op, _device(x), (x,), attrs).fn(x, **attrs)

    def gradient(g: Any, y: Any, x: Any) -> Any:
        return select(op + "_vjp", _device(x), (g,), attrs).fn(g, y, x, **attrs)

    return value, gradient


def _device(x: Any) -> str:
    return "cpu" if isinstance(x, np.ndarray) else "cuda"


@kernel("linear_activation", cost=linear_activation_cost)
def linear_activation(
    input: Any, weight: Any, bias: Any = None, residual: Any = None, *, activation: str
) -> tuple[Any, Any]:
    """``activation(linear(input, weight, bias)) + residual``, and what its gradient is computed from.

    That is the linear layer's output, or the whole op's where the gradient can be told from it.
    """
    z = linear(input, weight, bias)
    y = _activation(activation)[0](z)
    if residual is not None:
        y = y + residual
    return y, (y if told_by_output(activation, residual) else z)


def told_by_output(activation: str, residual: Any) -> bool:
    """Whether the activation's gradient needs no more than the op's output."""
    return activation == "none" or (activation == "relu" and residual is None)


@kernel("linear_activation_vjp", cost=linear_vjp_cost)
def linear_activation_vjp(
    g: Any,
    y: Any,
    input: Any,
    weight: Any,
    bias: Any,
    residual: Any,
    z: Any,
    *,
    activation: str,
    needs: tuple[bool, ...],
) -> tuple:
    """The activation's gradient, then the layer's by the kernel that is chosen for it; the residual's is ``g``.

    That of ReLU asks where its output is positive, which is where its input ``z`` is.
    """
    g_z = _activation(activation)[1](g, z, z)
    attrs = {"needs": needs[:3]}
    layer = select("linear_vjp", _device(g), (g_z,), attrs).fn
    return (*layer(g_z, None, input, weight, bias, **attrs), g if needs[3] else None)
