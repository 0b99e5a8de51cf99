"""Scaled dot-product attention in CUDA C++: fused, on the ordinary float32 units."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out
from ..registry import kernel
from .reference import value_cost, vjp_cost

WARPS, MOST = 4, 128  # of a block; components of a row
MODULE = Module(
    "attention/attention.cu",
    *(f"attention{kind}<{t}>" for t in TYPES.values() for kind in ("", "_dots", "_dq", "_dkv")),
)
SHAPE = np.dtype(
    [(name, np.int32) for name in ("queries", "keys", "width", "values", "causal")] + [("scale", np.float32)]
)

_op = "scaled_dot_product_attention"
_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


def _fits(q: Any, k: Any, v: Any, mask: Any, **_: Any) -> bool:
    widths = q.shape[-1], v.shape[-1]
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        return False
    return min(widths) > 0 and max(widths) <= MOST and q.size > 0 and k.size > 0 and prod(q.shape[:-2]) < 1 << 16


def _stacked(x: Any) -> Any:
    """All leading dimensions as one, contiguous."""
    return array_module(x).ascontiguousarray(x).reshape(-1, *x.shape[-2:])


def _added(mask: Any, shape: tuple[int, ...]) -> Any:
    """The mask as float32 numbers to add, for every batch and head; None stays None."""
    if mask is None:
        return None
    xp = array_module(mask)
    numbers = xp.where(mask, 0, -np.inf) if mask.dtype.kind == "b" else mask
    return _stacked(xp.broadcast_to(numbers.astype(np.float32), shape))


def _shape(q: Any, k: Any, v: Any, causal: bool, scale: float) -> Any:
    return np.array((q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1], causal, scale), SHAPE)[()]


@kernel(_op, when=_fits, cost=value_cost, **_on_gpu)
def scaled_dot_product_attention(
    q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float
) -> tuple[Any, Any]:
    """y and lse."""
    xp, lead = array_module(q), q.shape[:-1]
    y, lse = xp.empty((*lead, v.shape[-1]), q.dtype), xp.empty(lead, np.float32)
    grid = -(-q.shape[-2] // WARPS), prod(lead[:-1])
    MODULE.launch(
        f"attention<{TYPES[q.dtype.name]}>", grid, (32, WARPS), _stacked(q), _stacked(k), _stacked(v),
        _added(mask, (*lead, k.shape[-2])), Out(y), Out(lse), _shape(q, k, v, is_causal, scale),
    )  # fmt: skip
    return y, lse


def _vjp_fits(g: Any, *rest: Any, **_: Any) -> bool:
    return not rest or _fits(*rest[1:5])  # the engine asks with g alone, having chosen in forward


@kernel(f"{_op}_vjp", when=_vjp_fits, cost=vjp_cost, **_on_gpu)
def scaled_dot_product_attention_vjp(
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
) -> tuple[Any, ...]:
    """Gradients in q, k, v and, where it is needed, the mask."""
    xp, t, shape = array_module(q), TYPES[q.dtype.name], _shape(q, k, v, is_causal, scale)
    batches, rows = prod(q.shape[:-2]), prod(q.shape[:-1])
    g, dots = _stacked(g), xp.empty(rows, np.float32)
    sizes = np.int32(rows), np.int32(v.shape[-1])
    MODULE.launch(f"attention_dots<{t}>", -(-rows // WARPS), (32, WARPS), g, _stacked(y), Out(dots), *sizes)
    dq, dk, dv = (xp.empty(a.shape, a.dtype) for a in (q, k, v))
    added = _added(mask, (*q.shape[:-1], k.shape[-2]))
    dmask = xp.empty(added.shape, np.float32) if needs[3] else None
    inputs = g, _stacked(q), _stacked(k), _stacked(v), added, xp.ascontiguousarray(lse, np.float32), dots
    grids = [(-(-n // WARPS), batches) for n in (q.shape[-2], k.shape[-2])]
    MODULE.launch(f"attention_dq<{t}>", grids[0], (32, WARPS), *inputs, Out(dq), Out(dmask), shape)
    MODULE.launch(f"attention_dkv<{t}>", grids[1], (32, WARPS), *inputs, Out(dk), Out(dv), shape)
    return dq, dk, dv, None if dmask is None else dmask.reshape(mask.shape).astype(mask.dtype, copy=False)
