"""Cross entropy in CUDA C++."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out
from ..registry import kernel
from .reference import rows, value_cost, vjp_cost

MODULE = Module(
    "cross_entropy/cross_entropy.cu",
    *(f"cross_entropy{kind}<{t}>" for t in TYPES.values() for kind in ("", "_reduce", "_weights", "_vjp")),
)

_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


def _prepared(x: Any, target: Any, weight: Any) -> tuple[Any, Any, Any, int, int]:
    """Logits as rows, targets as int64, weights of x's type; how many rows and classes."""
    xp, logits = array_module(x), rows(x)
    count, classes = prod(logits.shape[:-1]), logits.shape[-1]
    flat = xp.ascontiguousarray(target.reshape(-1), np.int64)
    weight = None if weight is None else xp.ascontiguousarray(weight, x.dtype)
    return xp.ascontiguousarray(logits), flat, weight, count, classes


def _fits(x: Any, target: Any, weight: Any, **_: Any) -> bool:
    return x.size > 0


@kernel("cross_entropy", when=_fits, cost=value_cost, **_on_gpu)
def cross_entropy(
    x: Any, target: Any, weight: Any, *, ignore_index: int, reduction: str, label_smoothing: float
) -> tuple[Any, Any]:
    """The loss, and lse of each row."""
    xp, t = array_module(x), TYPES[x.dtype.name]
    logits, flat, weight, count, classes = _prepared(x, target, weight)
    loss, row_weight, lse = (xp.empty(count, np.float32) for _ in range(3))
    MODULE.launch(
        f"cross_entropy<{t}>", -(-count // 8), (32, 8), logits, flat, weight, Out(loss), Out(row_weight), Out(lse),
        np.int32(count), np.int32(classes), np.int64(ignore_index), np.float32(label_smoothing),
    )  # fmt: skip
    lse = lse.reshape(target.shape)
    if reduction == "none":
        return loss.astype(x.dtype, copy=False).reshape(target.shape), lse
    out, mean = xp.empty((), x.dtype), np.int32(reduction == "mean")
    MODULE.launch(f"cross_entropy_reduce<{t}>", 1, 256, loss, row_weight, Out(out), np.int32(count), mean)
    return out, lse


@kernel("cross_entropy_vjp", cost=vjp_cost, **_on_gpu)
def cross_entropy_vjp(
    g: Any,
    y: Any,
    x: Any,
    target: Any,
    weight: Any,
    lse: Any,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> tuple[Any, None, None]:
    """The gradient in the logits."""
    xp, t = array_module(x), TYPES[x.dtype.name]
    logits, flat, weight, count, classes = _prepared(x, target, weight)
    each, ignored, divisor = reduction == "none", np.int64(ignore_index), None
    if reduction == "mean":
        divisor = xp.empty(1, np.float32)
        MODULE.launch(f"cross_entropy_weights<{t}>", 1, 256, flat, weight, Out(divisor), np.int32(count), ignored)
    dx = xp.empty_like(logits)
    MODULE.launch(
        f"cross_entropy_vjp<{t}>", -(-count // 8), (32, 8), xp.ascontiguousarray(g), logits, flat, weight,
        xp.ascontiguousarray(lse, np.float32), divisor, Out(dx), np.int32(count), np.int32(classes), ignored,
        np.float32(label_smoothing), np.int32(each),
    )  # fmt: skip
    return dx[0] if x.ndim == 1 else xp.moveaxis(dx, -1, 1), None, None
