"""Scaled dot-product attention on Hopper: hopper.cu, forward, of 16-bit numbers. Gradients are ``cuda``'s.

Chosen as the matrix products are (``matmul/cuda_hopper.py``). TF32 is not here: the instruction wants the values with
their keys next to each other in memory, and no copy turns them on the way.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import HOPPER, TYPES, Module, Out, in_whole_chunks, on_hopper
from ..registry import kernel
from ..tensor_map import Boxes
from .cuda import added, fits, on_gpu, pairs, shape_of, stacked
from .reference import value_cost

ROWS, PANEL, THREADS, PLACES = 128, 64, 384, 2  # of a block; numbers of a box's row
HEADS = (64, 128)
FEW_ROWS = 64  # queries: with no more of them a warpgroup would have nothing to do

MODULE = Module(
    "attention/hopper.cu",
    *(f"attention_hopper<{t}, {head}>" for t in ("half_t", "bfloat_t") for head in HEADS),
    architectures=HOPPER,
)


def attend(q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float) -> tuple[Any, Any]:
    """y and lse."""
    xp, lead, t = array_module(q), q.shape[:-1], TYPES[q.dtype.name]
    y, lse = xp.empty((*lead, v.shape[-1]), q.dtype), xp.empty(lead, np.float32)
    (keys, values, shared), queries, (numbers, how) = pairs(k, v), stacked(q), added(mask)
    shape = shape_of(queries, keys, values, how, shared, is_causal, scale, y)
    head = next(head for head in HEADS if head >= max(q.shape[-1], v.shape[-1]))
    boxes = (Boxes(in_whole_chunks(x), (ROWS, PANEL)) for x in (queries, keys, values))
    memory = (2 + 2 * PLACES) * ROWS * head * q.itemsize  # queries, rings of keys and values, results
    grid = -(-q.shape[-2] // ROWS), prod(lead[:-1])
    MODULE.launch(
        f"attention_hopper<{t}, {head}>", grid, THREADS, *boxes, numbers, Out(y), Out(lse), shape, shared=memory
    )
    return y, lse


def _unasked(q: Any, *_: Any, **__: Any) -> bool:
    return on_hopper(q) and q.shape[-2] > FEW_ROWS


@kernel(
    "scaled_dot_product_attention", impl="cuda-wgmma", cost=value_cost, when=fits, unasked=_unasked, dtypes="f2",
    priority=30, **on_gpu,
)  # fmt: skip
def scaled_dot_product_attention(q: Any, k: Any, v: Any, mask: Any, **how: Any) -> tuple[Any, Any]:
    """y and lse."""
    return attend(q, k, v, mask, **how)
