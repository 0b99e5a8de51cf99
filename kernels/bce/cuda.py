"""Binary cross entropy in CUDA C++."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out, blocks_for
from ..layout import flat
from ..registry import kernel
from .reference import value_cost, vjp_cost

MOST_PARTS = 1024  # blocks that add up
MODULE = Module(
    "bce/bce.cu",
    *(f"{kind}<{t}>" for t in TYPES.values() for kind in ("bce", "bce_parts", "bce_vjp", "finish_sum")),
)


def _inputs(like: Any, x: Any, target: Any, weight: Any, pos_weight: Any) -> list[Any]:
    """The four inputs in the memory order of ``like``; weights with a number for each element, or None."""
    xp = array_module(x)
    weights = [None if w is None else xp.broadcast_to(w, x.shape) for w in (weight, pos_weight)]
    given = [a for a in (x, target, *weights) if a is not None]
    rows = iter(flat(like, *given)[1:])
    return [None if a is None else next(rows) for a in (x, target, *weights)]


def _fits(x: Any, target: Any, weight: Any, pos_weight: Any, **_: Any) -> bool:
    return x.size > 0 and all(a is None or a.dtype == x.dtype for a in (target, weight, pos_weight))


_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


@kernel("binary_cross_entropy_with_logits", when=_fits, cost=value_cost, **_on_gpu)
def binary_cross_entropy_with_logits(x: Any, target: Any, weight: Any, pos_weight: Any, *, reduction: str) -> Any:
    """The loss of each element, their sum or their mean."""
    xp, t, count = array_module(x), TYPES[x.dtype.name], np.int64(x.size)
    if reduction == "none":
        out = np.empty_like(x)
        inputs = _inputs(out, x, target, weight, pos_weight)
        MODULE.launch(f"bce<{t}>", *blocks_for(x.size), *inputs, Out(flat(out)[0]), count)
        return out
    blocks = min(MOST_PARTS, blocks_for(x.size)[0])
    parts, out = xp.empty(blocks, np.float32), xp.empty((), x.dtype)
    MODULE.launch(f"bce_parts<{t}>", blocks, 256, *_inputs(x, x, target, weight, pos_weight), Out(parts), count)
    scale = np.float32(1 / x.size if reduction == "mean" else 1)
    MODULE.launch(f"finish_sum<{t}>", 1, 256, parts, np.int32(blocks), scale, Out(out))
    return out


@kernel("binary_cross_entropy_with_logits_vjp", cost=vjp_cost, **_on_gpu)
def binary_cross_entropy_with_logits_vjp(
    g: Any,
    y: Any,
    x: Any,
    target: Any,
    weight: Any,
    pos_weight: Any,
    *,
    reduction: str,
    needs: tuple[bool, ...],
) -> tuple[Any, Any, None, None]:
    """Gradients in x and target."""
    like, each = np.empty_like(x), reduction == "none"
    dx, dtarget = (np.empty_like(like) if need else None for need in needs[:2])
    outputs = [Out(None if a is None else flat(a)[0]) for a in (dx, dtarget)]
    MODULE.launch(
        f"bce_vjp<{TYPES[x.dtype.name]}>",
        *blocks_for(x.size),
        flat(like, g)[1] if each else g,
        *_inputs(like, x, target, weight, pos_weight),
        *outputs,
        np.int64(x.size),
        np.int32(each),
        np.float32(1 / x.size if reduction == "mean" and x.size else 1),
    )
    return dx, dtarget, None, None
