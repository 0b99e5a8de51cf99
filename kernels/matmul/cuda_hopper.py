"""Products of matrices on Hopper: hopper.cu, which no other GPU can run.

Chosen where the device is of compute capability 9.0 and there are rows enough; in the emulator if asked for by name:
``kernels.use(matmul="cuda-wgmma")``.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import HOPPER, TYPES, Module, Out, blocks_for, in_whole_chunks, on_hopper
from ..tensor_map import ROW_BYTES, Boxes
from . import cuda
from .cuda import ACTIVATIONS, chosen, memory, operands, register

ROWS, COLUMNS = 128, (128, 256)  # of a block's results
THREADS, PLACES = 384, 4
MULTIPROCESSORS = 132  # each has one block at a time
FEW_ROWS = 64  # fewer would leave half of a block idle: the small tiles of ``cuda`` are for these


def _kernel(t: str, columns: int, a_deep: bool, b_deep: bool) -> str:
    return f"matmul_hopper<{t}, {columns}, {str(a_deep).lower()}, {str(b_deep).lower()}>"


MODULE = Module(
    "matmul/hopper.cu",
    *(
        _kernel(t, columns, *deep)
        for t in TYPES.values()
        for columns in COLUMNS
        for deep in [(True, True), *([(True, False), (False, True), (False, False)] if t != "float" else [])]
    ),
    architectures=HOPPER,
)
PROBLEM = np.dtype(
    [(name, np.int32) for name in ("m", "n", "k", "panels", "a_batches", "b_batches", "activation", "wide")]
)


def _boxes(x: Any, deep: bool, side: int) -> Boxes:
    """Memory as ``memory`` gives it."""
    numbers = ROW_BYTES // x.itemsize
    stacked = in_whole_chunks(x.reshape(-1, *x.shape[-2:]))
    return Boxes(stacked, (side if deep else numbers, numbers), to_tf32=x.dtype == np.float32)


def columns_for(m: int, n: int, batch: int) -> int:
    """Of a block's results: many multiply more for what they load, few keep more multiprocessors busy."""
    few, many = COLUMNS
    return many if -(-m // ROWS) * -(-n // many) * batch > MULTIPROCESSORS // 2 else few


def product(
    a: Any,
    b: Any,
    bias: Any = None,
    residual: Any = None,
    *,
    activation: str = "none",
    keep: bool = False,
    columns: int | None = None,
    splits: int | None = None,
) -> tuple[Any, Any]:
    """As ``product`` of the module ``cuda``, which also takes what has no numbers. float32 is multiplied in TF32."""
    if not (a.size and b.size):
        return cuda.product(a, b, bias, residual, activation=activation, keep=keep, way=cuda.TENSOR)
    xp = array_module(a)
    lead, a, b = operands(a, b)
    if a.itemsize == 2:
        (left, a_turned), (right, b_turned) = memory(a), memory(b)
    else:  # TF32 is multiplied along the depth only
        (left, a_turned), (right, b_turned) = (
            (xp.ascontiguousarray(a), False), (xp.ascontiguousarray(b.swapaxes(-1, -2)), True)
        )  # fmt: skip
    m, k, n, batch, t = a.shape[-2], a.shape[-1], b.shape[-1], prod(lead), TYPES[a.dtype.name]
    bias, residual = (None if x is None else xp.ascontiguousarray(x) for x in (bias, residual))
    out = xp.empty((*lead, m, n), a.dtype)
    before = xp.empty_like(out) if keep else None

    columns = columns_for(m, n, batch) if columns is None else columns
    blocks, panels = -(-m // ROWS) * -(-n // columns), -(-k * a.itemsize // ROW_BYTES)
    splits = cuda.splits_for(blocks * batch, panels, MULTIPROCESSORS) if splits is None else splits
    each = -(-panels // splits)
    splits = -(-panels // each)
    parts = xp.empty((splits, batch, m, n), np.float32) if splits > 1 else None

    boxes = _boxes(left, not a_turned, ROWS), _boxes(right, b_turned, columns)
    batches = (int(x.array.shape[0] > 1) for x in boxes)
    kind, wide = np.int32(ACTIVATIONS.index(activation)), np.int32(cuda.aligned(out, bias, residual))
    problem = np.array((m, n, k, each, *batches, kind, wide), PROBLEM)[()]
    name, shared = _kernel(t, columns, not a_turned, b_turned), PLACES * (ROWS + columns) * ROW_BYTES
    grid, end = (blocks, splits, batch), (bias, residual, Out(out), Out(before))
    if parts is None:
        MODULE.launch(name, grid, THREADS, *boxes, *end, None, problem, shared=shared)
    else:
        MODULE.launch(name, grid, THREADS, *boxes, None, None, None, None, Out(parts), problem, shared=shared)
        numbers = np.int32(splits), np.int64(out.size), np.int32(n), kind, wide
        cuda.MODULE.launch(f"matmul_parts<{t}>", *blocks_for(out.size), parts, *end, *numbers)
    return out, before


def _unasked(first: Any, *_: Any, **__: Any) -> bool:
    return on_hopper(first) and first.ndim > 1 and prod(first.shape[:-1]) > FEW_ROWS


register("cuda-wgmma", product, unasked=_unasked, dtypes="f2", priority=30)
register("cuda-wgmma-tf32", product, unasked=_unasked, when=chosen, dtypes="f4", priority=40, looseness=500.0)
