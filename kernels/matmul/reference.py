"""The specification of ``matmul`` and ``linear``: the array library's own product, given operands its BLAS can take."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..registry import Cost, kernel


def _lies_flat(rows: int, columns: int, row_stride: int, column_stride: int, itemsize: int) -> bool:
    """Whether BLAS can walk a matrix as row-major: unit column stride, rows that do not overlap."""
    return (columns == 1 or column_stride == itemsize) and (rows == 1 or row_stride >= columns * itemsize)


def _ready(x: Any) -> Any:
    """``x``, copied if BLAS could take its matrices neither as they are nor as transposed.

    The array library would copy each matrix, or leave BLAS for a loop tens of times slower; gradients of sums and of
    flipped or strided views come with zero, negative and non-unit strides.
    """
    rows, columns = x.shape[-2:]
    row_stride, column_stride = x.strides[-2:]
    if _lies_flat(rows, columns, row_stride, column_stride, x.itemsize):
        return x
    if _lies_flat(columns, rows, column_stride, row_stride, x.itemsize):
        return x
    return x.copy(order="C")


def _product(a: Any, b: Any) -> Any:
    """``a @ b``; half precision is multiplied in single (as is, NumPy's loop takes 60 times as long)."""
    if a.dtype == np.float16:
        return np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(np.float16)
    return np.matmul(_ready(a), _ready(b))


def matmul_cost(a: Any, b: Any) -> Cost:
    """Each operand and the result once; 2 m n k flops for each product of a batch."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    results = int(np.prod(batch)) * a.shape[-2] * b.shape[-1]
    return Cost(bytes=a.nbytes + b.nbytes + results * a.itemsize, flops=2 * results * a.shape[-1])


@kernel("matmul", cost=matmul_cost)
def matmul(a: Any, b: Any) -> Any:
    """``a`` [..., m, k] times ``b`` [..., k, n], leading dimensions broadcast."""
    if b.ndim == 2 and a.ndim > 2:  # one product of many rows instead of many small ones
        rows = a.reshape(-1, a.shape[-1]) if a.size else a.reshape(np.prod(a.shape[:-1], dtype=int), a.shape[-1])
        return _product(rows, b).reshape(*a.shape[:-1], b.shape[-1])
    return _product(a, b)
