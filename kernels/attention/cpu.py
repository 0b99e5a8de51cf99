"""Scaled dot-product attention on the CPU: where arrays lie, and which loops run.

Units of work, blocks of queries forward and heads or parts of them backward, share nothing, so threads take them as
they come and no result depends on who computed it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from ..layout import row_order
from ..registry import kernel
from . import backward, few, forward, reference
from .panels import BOOLS, LANES, LOG2E, NO_MASK, NUMBERS
from .reference import value_cost, vjp_cost

PARTS = 8  # units of the backward pass to aim at, where there are fewer heads
FEWEST_PANELS = 4  # of a part
FEWEST_QUERIES = 8  # of panels; below, a lane for each query would leave most lanes empty
COMPILED_FROM = 1 << 12  # scores, and a quarter as many slopes; below, NumPy's time is not worth a compilation
FEW_COMPILED_FROM = 1 << 7  # scores of fewer queries: writing asks for them thousands of times
PARALLEL_FROM = 1 << 20  # multiplications; below, waking a second thread costs more than it saves
FEW_PARALLEL_FROM = 1 << 18  # of few queries, which wait for memory: each number read has one multiplication
LINE = 64  # bytes
F4 = np.dtype(np.float32)


def _aligned(x: np.ndarray) -> np.ndarray:
    return x if x.flags.aligned else x.copy()


def _places(arrays: Sequence[np.ndarray | None], lead: int) -> np.ndarray:
    """Of each array: address, step between rows and between columns, step of each leading dimension, all in bytes."""
    nowhere = [0] * (3 + lead)
    return np.array([nowhere if x is None else [x.ctypes.data, *x.strides[lead:], *x.strides[:lead]] for x in arrays])


def _beside(x: np.ndarray, size: int, copies: int = 1) -> np.ndarray:
    """``copies`` arrays of x's shape, but for the last dimension of ``size``, each lying in memory as x does."""
    order = row_order(x, -1)
    out = np.empty((copies, *[x.shape[d] for d in order[:-1]], size), F4)
    return out.transpose(0, *[1 + order.index(d) for d in range(x.ndim)])


def _beside_three(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> list[np.ndarray] | None:
    """Arrays for three gradients that lie to each other as q, k and v do, if those are cut out of one projection.

    Then the projection's gradient is there when they are; else None.
    """
    step = k.ctypes.data - q.ctypes.data
    if not (q.shape == k.shape == v.shape and q.strides == k.strides == v.strides and q.base is k.base is v.base):
        return None
    order, inner = row_order(q, -1), q.ndim - 1
    while inner and math.prod([q.shape[d] for d in order[inner:]]) * q.itemsize < step:
        inner -= 1
    if q.base is None or v.ctypes.data - k.ctypes.data != step:
        return None
    shape = [q.shape[d] for d in order]
    if math.prod(shape[inner:]) * q.itemsize != step or (inner and q.strides[order[inner - 1]] != 3 * step):
        return None
    out = np.empty((*shape[:inner], 3, *shape[inner:]), F4)
    back = [order.index(d) for d in range(q.ndim)]
    return [np.moveaxis(out, inner, 0)[i].transpose(back) for i in range(3)]


def _sizes(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None, is_causal: bool) -> tuple[int, ...]:
    """Heads, queries, keys, size, size of values, whether causal, kind of mask."""
    kind = NO_MASK if mask is None else BOOLS if mask.dtype == np.bool_ else NUMBERS
    return math.prod(q.shape[:-2]), q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1], int(is_causal), kind


def _threads(units: int, sizes: tuple[int, ...], parallel_from: int = PARALLEL_FROM) -> int:
    heads, queries, keys, size, value_size = sizes[:5]
    multiplications = heads * queries * keys * (size + value_size)
    return min(numba.get_num_threads(), units) if multiplications >= parallel_from else 1


def _run(serial: Any, parallel: Any, threads: int, floats: int, *arguments: Any) -> None:
    """Run the loops with scratch memory for each thread and a counter of the units taken."""
    stride = -(-4 * floats // LINE) * LINE
    memory = np.empty(threads * stride + 2 * LINE, np.uint8)
    taken = -(-memory.ctypes.data // LINE) * LINE
    memory[: 2 * LINE] = 0
    if threads == 1:
        serial(*arguments, taken + LINE, taken)
    else:
        parallel(*arguments, taken + LINE, taken, stride, threads)


def enough_to_attend(q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float) -> bool:
    """Enough queries to fill lanes, and enough scores to be worth a compilation."""
    scores = q.size // max(1, q.shape[-1]) * k.shape[-2]
    return q.shape[-2] >= FEWEST_QUERIES and scores >= COMPILED_FROM and min(q.size, v.size) > 0


def _few_when(q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float) -> bool:
    """Fewer queries, whose numbers, and those of values, fill vectors."""
    size, value_size = q.shape[-1], v.shape[-1]
    in_vectors = size % LANES == value_size % LANES == 0 and min(q.size, v.size) > 0
    scores = q.size // max(size, 1) * k.shape[-2]
    return q.shape[-2] < FEWEST_QUERIES and in_vectors and scores >= FEW_COMPILED_FROM


def _derive_when(g: Any, *_: Any, **__: Any) -> bool:
    return g.shape[-2] >= FEWEST_QUERIES and 4 * g.size >= COMPILED_FROM


_on_cpu: dict[str, Any] = {"impl": "numba", "device": "cpu", "dtypes": "f4"}


def attention_by(
    serial: Any,
    parallel: Any,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None,
    is_causal: bool,
    scale: float,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The forward pass by these compiled loops, of ``forward`` or made like them."""
    q, k, v = _aligned(q), _aligned(k), _aligned(v)
    lead, sizes = q.shape[:-2], _sizes(q, k, v, mask, is_causal)
    heads, queries, keys, size, value_size = sizes[:5]
    blocks = forward.together(keys, size, value_size)
    y, lse = _beside(q, value_size)[0], np.empty(q.shape[:-1], F4)
    _run(
        serial, parallel, threads or _threads(heads * -(-queries // (blocks * forward.MOST_LANES)), sizes),
        blocks * forward.scratch_floats(size, value_size),
        sizes, _places((q, k, v, mask, y, lse[..., None]), len(lead)), np.array(lead, np.int64),
        np.float32(scale * LOG2E),
    )  # fmt: skip
    return y, lse


@kernel("scaled_dot_product_attention", cost=value_cost, when=_few_when, **_on_cpu | {"impl": "few"})
def attention_of_few(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None, *, is_causal: bool, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """The forward pass by the loops of ``few``. Gradients of so few queries are the reference's."""
    q = _aligned(q)
    k, v = (_aligned(x) if x.strides[-1] == x.itemsize else np.ascontiguousarray(x) for x in (k, v))
    lead, sizes = q.shape[:-2], _sizes(q, k, v, mask, is_causal)
    heads, queries, keys, size, value_size = sizes[:5]
    y, lse = np.empty((*q.shape[:-1], value_size), F4), np.empty(q.shape[:-1], F4)
    _run(
        few.attend_few, few.attend_few_in_parallel, _threads(heads * queries, sizes, FEW_PARALLEL_FROM),
        few.scratch_floats(keys, size, value_size),
        sizes, _places((q, k, v, mask, y, lse[..., None]), len(lead)), np.array(lead, np.int64),
        np.float32(scale * LOG2E),
    )  # fmt: skip
    return y, lse


@kernel("scaled_dot_product_attention", cost=value_cost, when=enough_to_attend, **_on_cpu)
def scaled_dot_product_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None, *, is_causal: bool, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    return attention_by(forward.attend, forward.attend_in_parallel, q, k, v, mask, is_causal, scale)


@kernel("scaled_dot_product_attention_vjp", cost=vjp_cost, when=_derive_when, **_on_cpu)
def scaled_dot_product_attention_vjp(
    g: np.ndarray,
    y: np.ndarray,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None,
    lse: np.ndarray,
    *,
    is_causal: bool,
    scale: float,
    needs: tuple[bool, ...],
) -> tuple[np.ndarray | None, ...]:
    if needs[3] or q.size == 0:
        return reference.scaled_dot_product_attention_vjp(
            g, y, q, k, v, mask, lse, is_causal=is_causal, scale=scale, needs=needs
        )
    g, y, q, k, v, lse = (_aligned(x) for x in (g, y, q, k, v, np.ascontiguousarray(lse)))
    lead, sizes = q.shape[:-2], _sizes(q, k, v, mask, is_causal)
    heads, queries, keys, size, value_size = sizes[:5]
    wide = -(-size // backward.SPAN) * backward.SPAN
    parts = max(1, min(-(-PARTS // heads), -(-keys // backward.MOST_LANES) // FEWEST_PANELS))
    three = _beside_three(q, k, v) if parts == 1 and wide == size else None
    if three is None:
        dq, dk, dv = _beside(q, wide, parts), _beside(k, size)[0], _beside(v, value_size)[0]
    else:
        dq, dk, dv = three[0][None], *three[1:]
    _run(
        backward.derive, backward.derive_in_parallel, _threads(heads * parts, sizes),
        backward.scratch_floats(queries, size, value_size),
        sizes, _places((q, k, v, mask, y, lse[..., None], g, dq[0], dk, dv), len(lead)), np.array(lead, np.int64),
        np.float32(scale), parts, dq.strides[0],
    )  # fmt: skip
    return (dq[0] if parts == 1 else dq.sum(0))[..., :size], dk, dv, None
