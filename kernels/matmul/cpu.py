"""Matrix products on the packed kernel, float32: one product, batches, the linear layer and its derivative."""

from __future__ import annotations

from math import prod

import numba
import numpy as np

from ..registry import kernel
from ..sums import accurate_sum
from . import narrow, reference
from .drivers import GELU, GELU_TANH, NONE, RELU, SILU, batch, product, scratch
from .reference import linear_activation_cost, linear_cost, linear_vjp_cost, matmul_cost, told_by_output

F4 = np.dtype(np.float32)
PARALLEL_FROM = 1 << 20  # multiplications; below this a second thread costs more than it saves
_NO_MATRIX, _NO_SUMS = np.empty((0, 0), F4), np.empty(0, F4)


def multiply(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    seed: np.ndarray = _NO_MATRIX,
    sums: np.ndarray = _NO_SUMS,
    y: np.ndarray = _NO_MATRIX,
    residual: np.ndarray = _NO_MATRIX,
    activation: int = NONE,
) -> None:
    """``c = seed + a b``, of matrices; see ``drivers.product``."""
    if c.size:
        threads = numba.get_num_threads()
        parallel = threads > 1 and c.size * a.shape[1] >= PARALLEL_FROM
        f = product(parallel)
        f(a, b, seed, sums, c, y, residual, activation, scratch(threads), threads if parallel else 1)


def _rows(x: np.ndarray) -> np.ndarray:
    """All leading dimensions as one; a view where the strides allow it."""
    return x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])


def _four(x: np.ndarray) -> np.ndarray:
    """``x`` with ones in front, as four dimensions; or with its leading ones as two."""
    if x.ndim <= 4:
        return x[(None,) * (4 - x.ndim)]
    return x.reshape(x.shape[0], prod(x.shape[1:-2]), *x.shape[-2:])


@kernel("matmul", impl="packed", device="cpu", dtypes="f4", cost=matmul_cost)
def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.ndim == 2 == b.ndim:
        c = np.empty((a.shape[0], b.shape[1]), F4)
        multiply(a, b, c)
        return c
    if b.ndim == 2 and a.ndim > 2 and a.flags.c_contiguous:
        c = np.empty((*a.shape[:-1], b.shape[1]), F4)
        multiply(_rows(a), b, _rows(c))
        return c
    shape = a.shape[:-2]
    if shape != b.shape[:-2]:
        shape = np.broadcast_shapes(shape, b.shape[:-2])
        if len(shape) > 2:
            a = np.broadcast_to(a, (*shape, *a.shape[-2:]))
            b = np.broadcast_to(b, (*shape, *b.shape[-2:]))
    c = np.empty((*shape, a.shape[-2], b.shape[-1]), F4)
    if c.size:
        threads = numba.get_num_threads()
        parallel = threads > 1 and c.size * a.shape[-1] >= PARALLEL_FROM
        batch(parallel)(_four(a), _four(b), _four(c), scratch(threads), threads if parallel else 1)
    return c


@kernel("linear", impl="packed", device="cpu", dtypes="f4", cost=linear_cost)
def linear(input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    c = np.empty((*input.shape[:-1], weight.shape[0]), F4)
    multiply(_rows(input), weight.T, _rows(c), _NO_MATRIX if bias is None else bias[None])
    return c


@kernel("linear_vjp", impl="packed", device="cpu", dtypes="f4", cost=linear_vjp_cost)
def linear_vjp(
    g: np.ndarray,
    y: None,
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    needs: tuple[bool, ...],
) -> tuple:
    """The rows of ``g`` are added up for the bias while they are packed for the weight's gradient."""
    g, x = np.ascontiguousarray(_rows(g)), _rows(input)
    dx = dw = db = None
    if needs[0]:
        dx = np.empty(input.shape, F4)
        multiply(g, weight, _rows(dx))
    if needs[1] and weight.size:
        dw = np.empty(weight.shape, F4)
        if needs[2]:
            db = np.zeros(len(weight), F4)
        multiply(g.T, x, dw, sums=_NO_SUMS if db is None else db)
    elif needs[1]:
        dw = np.empty(weight.shape, F4)
    if needs[2] and db is None:
        db = accurate_sum(g, (0,))
    return dx, dw, db


_ACTIVATIONS = {"none": NONE, "relu": RELU, "silu": SILU, "gelu": GELU, "gelu_tanh": GELU_TANH}


@kernel("linear_activation", impl="packed", device="cpu", dtypes="f4", cost=linear_activation_cost)
def linear_activation(
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    *,
    activation: str,
) -> tuple[np.ndarray, np.ndarray]:
    """The activation is applied to a block of rows right after its product, while it is in the cache."""
    shape = (*input.shape[:-1], weight.shape[0])
    y = np.empty(shape, F4)
    z = y if told_by_output(activation, residual) else np.empty(shape, F4)
    added = _NO_MATRIX if residual is None else np.ascontiguousarray(_rows(residual))
    seed = _NO_MATRIX if bias is None else bias[None]
    multiply(_rows(input), weight.T, _rows(z), seed, _NO_SUMS, _rows(y), added, _ACTIVATIONS[activation])
    return y, z


@kernel("linear_activation_vjp", impl="packed", device="cpu", dtypes="f4", cost=linear_vjp_cost)
def linear_activation_vjp(
    g: np.ndarray,
    y: None,
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    residual: np.ndarray | None,
    z: np.ndarray,
    *,
    activation: str,
    needs: tuple[bool, ...],
) -> tuple:
    """One pass over the rows of a narrow layer; elsewhere the activation's gradient and then the layer's."""
    rows = prod(g.shape[:-1])
    if max(weight.shape) > narrow.WIDEST or rows < narrow.FROM_ROWS or not (needs[0] and needs[1]):
        return reference.linear_activation_vjp(
            g, y, input, weight, bias, residual, z, activation=activation, needs=needs
        )
    dx, dw, db = narrow.gradients(_rows(g), _rows(z), _rows(input), weight, _ACTIVATIONS[activation])
    return dx.reshape(input.shape), dw, db if needs[2] else None, g if needs[3] else None
