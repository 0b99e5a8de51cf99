"""The gradients of attention in CUDA C++: see backward.cu. The same numbers in every run, since nothing is atomic."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out
from ..matmul.cuda import chosen, way_for
from ..registry import kernel
from .cuda import BLOCK_ROWS, HEADS, STAGE_BYTES, UNITS, WARPS, added, fits, head_for, on_gpu, pairs, shape_of, stacked
from .reference import vjp_cost

COLUMNS = 32  # rows of a block that comes by

MODULE = Module(
    "attention/backward.cu",
    *(f"attention_dots<{t}>" for t in TYPES.values()),
    *(
        f"attention_{kind}<{t}, {head}, {str(tensor).lower()}>"
        for t, units in UNITS.items()
        for tensor in units
        for head in HEADS
        for kind in ("dq", "dkv")
    ),
)


def gradients(
    g: Any,
    y: Any,
    q: Any,
    k: Any,
    v: Any,
    mask: Any,
    lse: Any,
    *,
    is_causal: bool,
    scale: float,
    needs: tuple[bool, ...],
    tensor: bool,
) -> tuple[Any, ...]:
    """Gradients in q, k, v and, where it is needed, the mask."""
    xp, t, head = array_module(q), TYPES[q.dtype.name], head_for(q, v)
    batches, rows = prod(q.shape[:-2]), prod(q.shape[:-1])
    g, dots = stacked(g), xp.empty(rows, np.float32)
    sizes = np.int32(rows), np.int32(v.shape[-1])
    MODULE.launch(f"attention_dots<{t}>", -(-rows // WARPS), 32 * WARPS, g, stacked(y), Out(dots), *sizes)
    dq, dk, dv = (xp.empty(a.shape, a.dtype) for a in (q, k, v))
    dmask = xp.empty((*q.shape[:-1], k.shape[-2]), np.float32) if needs[3] else None
    (keys, values, shared), queries, (numbers, how) = pairs(k, v), stacked(q), added(mask)
    shape = shape_of(queries, keys, values, how, shared, is_causal, scale, g, dq, dk, dv)
    inputs = g, queries, keys, values, numbers, xp.ascontiguousarray(lse, np.float32), dots
    memory = (2 * BLOCK_ROWS + 4 * COLUMNS) * head * q.itemsize + (0 if tensor else WARPS * STAGE_BYTES)
    for kind, length, outputs in (("dq", q.shape[-2], (dq, dmask)), ("dkv", k.shape[-2], (dk, dv))):
        name, grid = f"attention_{kind}<{t}, {head}, {str(tensor).lower()}>", (-(-length // BLOCK_ROWS), batches)
        MODULE.launch(name, grid, 32 * WARPS, *inputs, *map(Out, outputs), shape, shared=memory)
    return dq, dk, dv, None if dmask is None else dmask.reshape(mask.shape).astype(mask.dtype, copy=False)


def _register(impl: str, tf32: bool, **options: Any) -> None:
    """Once for each choice of precision."""

    def when(g: Any, *rest: Any, **_: Any) -> bool:
        """The engine asks with g alone, having chosen in forward."""
        return (not rest or fits(*rest[1:5])) and (not tf32 or chosen())

    @kernel("scaled_dot_product_attention_vjp", impl=impl, cost=vjp_cost, when=when, **options, **on_gpu)
    def scaled_dot_product_attention_vjp(
        g: Any, y: Any, q: Any, k: Any, v: Any, mask: Any, lse: Any, *, needs: tuple[bool, ...], **how: Any
    ) -> tuple[Any, ...]:
        """Gradients in q, k, v and, where it is needed, the mask."""
        return gradients(g, y, q, k, v, mask, lse, needs=needs, tensor=way_for(q.dtype, tf32).tensor, **how)


_register("cuda", False, dtypes="f4 f2")
_register("cuda-tf32", True, dtypes="f4", priority=20, looseness=500.0)
