"""Scaled dot-product attention in CUDA C++: fused, in blocks of queries and keys.

The choices are those of ``kernels/matmul``: float32 on the ordinary units unless TF32 has been asked for by name, 16
bits on tensor cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out, begins_at_multiples_of
from ..matmul.cuda import chosen, way_for
from ..matmul.cuda import product as matrix_product
from ..registry import kernel
from .reference import value_cost

WARPS, BLOCK_ROWS, STAGE_BYTES = 4, 64, 2048
HEADS = (32, 64, 128)  # numbers of a row in shared memory; a head takes the smallest that holds it
MOST = HEADS[-1]


class Form(NamedTuple):
    """On tensor cores or not, blocks of keys in shared memory, swizzled or not."""

    tensor: bool
    stages: int = 2
    swizzled: bool = True

    def kernel(self, t: str, head: int) -> str:
        return f"attention<{t}, {head}, {_flag(self.tensor)}, {self.stages}, {_flag(self.swizzled)}>"


def _flag(value: bool) -> str:
    return str(value).lower()


STEPS = {"cuda-4-tensor": Form(True, 1, False), "cuda-5-swizzled": Form(True, 1)}
UNITS = {"float": (False, True), "half_t": (True,), "bfloat_t": (True,)}  # on tensor cores or not

MODULE = Module(
    "attention/attention.cu",
    *(f"attention_by_warps<{t}>" for t in TYPES.values()),
    *(Form(tensor).kernel(t, head) for t, units in UNITS.items() for tensor in units for head in HEADS),
    *(form.kernel(t, 64) for form in STEPS.values() for t in ("half_t", "bfloat_t")),
)
SHAPE = np.dtype(
    [(name, np.int64) for name in ("mask_batch", "mask_query")]
    + [(name, np.int32) for name in ("mask_key", "mask_each", "mask_count")]
    + [(name, np.int32) for name in ("queries", "keys", "width", "values", "shared", "causal", "aligned")]
    + [("scale", np.float32), ("", np.float32)]
)
_op = "scaled_dot_product_attention"
on_gpu: dict[str, Any] = {"device": "cuda emu"}


def fits(q: Any, k: Any, v: Any, mask: Any, **_: Any) -> bool:
    """Whether the kernels take these shapes."""
    widths = q.shape[-1], v.shape[-1]
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        return False
    return min(widths) > 0 and max(widths) <= MOST and q.size > 0 and k.size > 0 and prod(q.shape[:-2]) < 1 << 16


def head_for(q: Any, v: Any) -> int:
    """The numbers of a row in shared memory."""
    return next(head for head in HEADS if head >= max(q.shape[-1], v.shape[-1]))


# --- arrays as kernels see them


def stacked(x: Any) -> Any:
    """All leading dimensions as one, contiguous."""
    return array_module(x).ascontiguousarray(x).reshape(-1, *x.shape[-2:])


def pairs(k: Any, v: Any) -> tuple[Any, Any, int]:
    """Keys and values stacked, and how many heads in a row share them: one in memory, a dimension of stride 0 here."""
    shared, lead = 1, k.ndim - 2
    while lead and all(x.shape[lead - 1] == 1 or x.strides[lead - 1] == 0 for x in (k, v)):
        lead -= 1
        shared *= k.shape[lead]
    first = (slice(None),) * lead + (0,) * (k.ndim - 2 - lead)
    return stacked(k[first]), stacked(v[first]), shared


def added(mask: Any) -> tuple[Any, tuple[int, ...]]:
    """The mask as float32 numbers to add, without what it is broadcast over; and the start of ``SHAPE``."""
    if mask is None:
        return None, (0, 0, 0, 1, 1)
    xp, lead = array_module(mask), mask.shape[:-2]
    varies = [length > 1 and stride != 0 for length, stride in zip(mask.shape, mask.strides)]
    inner = [i for i in range(len(lead)) if varies[i]]
    begin, end = (inner[0], inner[-1] + 1) if inner else (0, 0)
    small = mask[tuple(slice(None) if v or begin <= i < end else slice(1) for i, v in enumerate(varies))]
    numbers = xp.where(small, np.float32(0), np.float32(-np.inf)) if mask.dtype.kind == "b" else small
    rows, columns = small.shape[-2:]
    strides = (rows * columns, columns if varies[-2] else 0, int(varies[-1]))
    return stacked(numbers.astype(np.float32, copy=False)), (*strides, prod(lead[end:]), prod(lead[begin:end]))


def shape_of(q: Any, k: Any, v: Any, mask: tuple[int, ...], shared: int, causal: bool, scale: float, *more: Any) -> Any:
    """``Shape`` of warps.cuh. ``more``: further arrays whose rows are fetched or stored."""
    aligned = all(begins_at_multiples_of(16, x) and x.shape[-1] * x.itemsize % 16 == 0 for x in (q, k, v, *more))
    lengths = q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]
    return np.array((*mask, *lengths, shared, causal, aligned, scale, 0), SHAPE)[()]


# --- forward


def attend(
    q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float, form: Form, head: int | None = None
) -> tuple[Any, Any]:
    """y and lse."""
    xp, lead, t = array_module(q), q.shape[:-1], TYPES[q.dtype.name]
    y, lse = xp.empty((*lead, v.shape[-1]), q.dtype), xp.empty(lead, np.float32)
    head = head_for(q, v) if head is None else head
    (keys, values, shared), queries, (numbers, how) = pairs(k, v), stacked(q), added(mask)
    shape = shape_of(queries, keys, values, how, shared, is_causal, scale, y)
    columns = 32 if q.itemsize == 4 else 64
    memory = (BLOCK_ROWS + form.stages * 2 * columns) * head * q.itemsize + (0 if form.tensor else WARPS * STAGE_BYTES)
    grid = -(-q.shape[-2] // BLOCK_ROWS), prod(lead[:-1])
    arrays = queries, keys, values, numbers, Out(y), Out(lse), shape
    MODULE.launch(form.kernel(t, head), grid, 32 * WARPS, *arrays, shared=memory)
    return y, lse


def _register(impl: str, tf32: bool, **options: Any) -> None:
    """Forward, once for each choice of precision."""

    def when(*arrays: Any, **how: Any) -> bool:
        return fits(*arrays) and (not tf32 or chosen())

    @kernel(_op, impl=impl, cost=value_cost, when=when, **options, **on_gpu)
    def scaled_dot_product_attention(q: Any, k: Any, v: Any, mask: Any, **how: Any) -> tuple[Any, Any]:
        """y and lse."""
        return attend(q, k, v, mask, form=Form(way_for(q.dtype, tf32).tensor), **how)


_register("cuda", False, dtypes="f4 f2")
_register("cuda-tf32", True, dtypes="f4", priority=20, looseness=500.0)


# --- the steps before


def _unfused(q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float) -> tuple[Any, Any]:
    """1. Two products and a softmax, with the matrix of weights in memory in between."""
    xp = array_module(q)
    (queries, keys), way = (q.shape[-2], k.shape[-2]), way_for(q.dtype)
    scores = matrix_product(q, k.swapaxes(-1, -2), way=way)[0].astype(np.float32) * np.float32(scale)
    if is_causal:
        scores = xp.where(xp.arange(keys) > xp.arange(queries)[:, None], -np.inf, scores)
    if mask is not None:
        scores = xp.where(mask, scores, -np.inf) if mask.dtype.kind == "b" else scores + mask.astype(np.float32)
    top = scores.max(-1, keepdims=True)
    weights = xp.exp(scores - xp.where(top == -np.inf, 0, top)).astype(np.float32)
    total = weights.sum(-1, keepdims=True)
    some = total > 0
    weights /= xp.where(some, total, 1)
    y, _ = matrix_product(weights.astype(q.dtype), v, way=way)
    lse = xp.where(some, top + xp.log(xp.where(some, total, 1)), np.inf)[..., 0]
    return y, lse.astype(np.float32)


def _by_warps(q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float) -> tuple[Any, Any]:
    xp, lead = array_module(q), q.shape[:-1]
    y, lse = xp.empty((*lead, v.shape[-1]), q.dtype), xp.empty(lead, np.float32)
    (keys, values, shared), (numbers, how) = pairs(k, v), added(mask)
    shape = shape_of(q, keys, values, how, shared, is_causal, scale)
    grid = -(-q.shape[-2] // WARPS), prod(lead[:-1])
    arrays = stacked(q), keys, values, numbers, Out(y), Out(lse), shape
    MODULE.launch(f"attention_by_warps<{TYPES[q.dtype.name]}>", grid, 32 * WARPS, *arrays)
    return y, lse


def _step(form: Form) -> Callable[..., Any]:
    return lambda q, k, v, mask, **how: attend(q, k, v, mask, form=form, head=64, **how)


for _name, _dtypes, _fn in (
    ("cuda-1-unfused", "f4 f2", _unfused),
    ("cuda-2-by-warps", "f4 f2", _by_warps),
    *((name, "f2", _step(form)) for name, form in STEPS.items()),
):
    kernel(_op, impl=_name, cost=value_cost, when=fits, study=True, dtypes=_dtypes, **on_gpu)(_fn)


def ladder() -> Iterator[tuple[str, Callable[[], Any]]]:
    """The steps on a head of 256 queries and keys of 64, for ``kernels.model``, in the number type they are for."""
    from .cuda_hopper import attend as attend_on_hopper  # which import this module
    from .cuda_vjp import gradients

    wide = [np.random.default_rng(0).standard_normal((1, 256, 64)).astype(np.float32) for _ in range(4)]
    narrow = [x.astype(np.float16) for x in wide]
    how: dict[str, Any] = {"is_causal": False, "scale": 0.125}
    for name, arrays, fn in (
        ("cuda-1-unfused", wide, _unfused),
        ("cuda-2-by-warps", wide, _by_warps),
        ("cuda (float32)", wide, _step(Form(False))),
        ("cuda-4-tensor", narrow, _step(STEPS["cuda-4-tensor"])),
        ("cuda-5-swizzled", narrow, _step(STEPS["cuda-5-swizzled"])),
        ("cuda (float16)", narrow, _step(Form(True))),
        ("cuda-tf32", wide, _step(Form(True))),
        ("cuda-wgmma (float16)", narrow, attend_on_hopper),
    ):
        yield name, lambda fn=fn, arrays=arrays: fn(*arrays[:3], None, **how)  # type: ignore[misc]
    q, k, v, g = narrow
    y, lse = attend(q, k, v, None, form=Form(True), **how)
    yield (
        "gradients (float16)",
        lambda: gradients(g, y, q, k, v, None, lse, needs=(True, True, True, False), tensor=True, **how),
    )
