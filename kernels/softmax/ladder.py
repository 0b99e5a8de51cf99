"""Softmax of rows, step by step: each version has one idea more. None of them is ever chosen; README.md has the times.

All take float32 with the softmax along memory, as matrices; the last step is ``cpu``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..layout import is_fastest
from ..numba_config import njit, specialise
from ..registry import kernel
from ..vecmath import ONE, ZERO, exp, largest, vector_sums
from .reference import value_cost


def _loops(x, y):
    """1. The formula in loops: an exponential twice for each number, and rows one at a time."""
    for i in range(x.shape[0]):
        top = x[i, 0]
        for j in range(x.shape[1]):
            top = max(top, x[i, j])
        total = ZERO
        for j in range(x.shape[1]):
            total += math.exp(x[i, j] - top)
        for j in range(x.shape[1]):
            y[i, j] = math.exp(x[i, j] - top) / total


def _kept(x, y):
    """2. Exponentials are kept in the output, and divided once for a row: half the exponentials, a multiplication."""
    for i in range(x.shape[0]):
        top = x[i, 0]
        for j in range(x.shape[1]):
            top = max(top, x[i, j])
        total = ZERO
        for j in range(x.shape[1]):
            y[i, j] = math.exp(x[i, j] - top)
            total += y[i, j]
        scale = ONE / total
        for j in range(x.shape[1]):
            y[i, j] *= scale


@vector_sums
def _exp_row(x, y, top):
    total = ZERO
    for j in range(x.size):
        e = exp(x[j] - top)
        y[j] = e
        total += e
    scale = ONE / total
    for j in range(x.size):
        y[j] *= scale


@njit(nogil=True)
def _largest_of_floats(row):
    top = row[0]
    for j in range(row.size):
        top = max(top, row[j])
    return top


def _polynomial(x, y):
    """3. The exponential is a polynomial without a call or a branch: LLVM makes vector code of its loop."""
    for i in range(x.shape[0]):
        _exp_row(x[i], y[i], _largest_of_floats(x[i]))


def _ordered(x, y):
    """4. The maximum is of the floats' bits as integers, whose order is total: so its loop is vector code too."""
    for i in range(x.shape[0]):
        _exp_row(x[i], y[i], largest(x[i]))


@vector_sums
def _online_row(x, y):
    top, total = x[0], ZERO
    for start in range(0, x.size, 256):
        block = x[start : start + 256]
        above = max(top, largest(block))
        if above == -np.inf:
            continue  # masked so far: -inf less itself would be NaN
        part = ZERO
        for j in range(block.size):
            part += exp(block[j] - above)
        total = total * exp(top - above) + part
        top = above
    scale = ONE / total
    for j in range(x.size):
        y[j] = scale * exp(x[j] - top)


def _online(x, y):
    """Aside: maximum and sum in one pass, the sum corrected where the maximum grows (Milakov and Gimelshein 2018).

    It reads x twice where the others read it three times, and takes two exponentials for each number.
    """
    for i in range(x.shape[0]):
        _online_row(x[i], y[i])


def _step(name: str, body: Callable) -> None:
    compiled = specialise(body, "study", {}, error_model="numpy")

    @kernel(
        "softmax",
        impl=name,
        device="cpu",
        dtypes="f4",
        when=lambda x, *, dim: x.size > 0 and x.flags.c_contiguous and x.ndim > 0 and is_fastest(x, dim),
        cost=value_cost,
        study=True,
    )
    def softmax(x: np.ndarray, *, dim: int) -> Any:
        out = np.empty_like(x)
        rows = x.reshape(-1, x.shape[-1])
        compiled(rows, out.reshape(rows.shape))
        return out


for _name, _body in (
    ("1-loops", _loops),
    ("2-kept", _kept),
    ("3-polynomial", _polynomial),
    ("4-ordered", _ordered),
    ("online", _online),
):
    _step(_name, _body)
