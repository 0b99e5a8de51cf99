"""Attention in Numba CUDA, to be read: FlashAttention-2 (Dao 2023) in its plainest form, forward and backward.

A block has eight queries (or, for the gradients of keys and values, eight keys) and goes over the others in tiles of
eight, so that of the matrix of weights only 8 x 8 numbers exist, in shared memory. Thread (i, j) computes weight (i, j)
of a tile, and then every eighth column, from j on, of what row i adds up.

It runs in Numba's simulator too (``NUMBA_ENABLE_CUDASIM=1``), on NumPy arrays and without a GPU.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float32

from ..arrays import array_module
from ..registry import kernel
from .reference import value_cost, vjp_cost

TILE = 8
WIDTH = 64  # numbers of a query or a value, at most


@cuda.jit(device=True)
def _score(q, k, head, i, j, causal, scale):
    """Of query i and key j; -inf where the query may not attend."""
    if i >= q.shape[1] or j >= k.shape[1] or (causal and j > i):
        return float32(-math.inf)
    total = float32(0)
    for e in range(q.shape[2]):
        total += q[head, i, e] * k[head, j, e]
    return total * scale


@cuda.jit
def _forward(q, k, v, y, lse, causal, scale):
    scores = cuda.shared.array((TILE, TILE), float32)
    sums = cuda.shared.array((TILE, WIDTH), float32)
    i, j, head = cuda.threadIdx.y, cuda.threadIdx.x, cuda.blockIdx.y
    query, width = cuda.blockIdx.x * TILE + i, v.shape[2]
    for e in range(j, width, TILE):
        sums[i, e] = 0
    top, total = float32(-math.inf), float32(0)  # of the keys so far; all threads of a row have them
    for start in range(0, k.shape[1], TILE):
        scores[i, j] = _score(q, k, head, query, start + j, causal, scale)
        cuda.syncthreads()
        higher = top
        for t in range(TILE):
            higher = max(higher, scores[i, t])
        if higher > -math.inf:
            shrink = math.exp(top - higher)  # what was added up so far was relative to a lower top
            total *= shrink
            for t in range(TILE):
                total += math.exp(scores[i, t] - higher)
            for e in range(j, width, TILE):
                part = sums[i, e] * shrink
                for t in range(min(TILE, k.shape[1] - start)):
                    part += math.exp(scores[i, t] - higher) * v[head, start + t, e]
                sums[i, e] = part
            top = higher
        cuda.syncthreads()
    if query < q.shape[1]:
        for e in range(j, width, TILE):
            y[head, query, e] = sums[i, e] / total if total > 0 else float32(0)
        if j == 0:
            lse[head, query] = top + math.log(total) if total > 0 else math.inf


@cuda.jit(device=True)
def _slopes(g, mean, q, k, v, lse, head, i, j, causal, scale):
    """Weight (i, j), and the gradient in score (i, j)."""
    score = _score(q, k, head, i, j, causal, scale)
    if score == -math.inf:
        return float32(0), float32(0)
    weight = math.exp(score - lse[head, i])
    along = float32(0)
    for e in range(v.shape[2]):
        along += g[head, i, e] * v[head, j, e]
    return weight, weight * (along - mean[head, i])


@cuda.jit
def _queries(g, mean, q, k, v, lse, dq, causal, scale):
    slopes = cuda.shared.array((TILE, TILE), float32)
    sums = cuda.shared.array((TILE, WIDTH), float32)
    i, j, head = cuda.threadIdx.y, cuda.threadIdx.x, cuda.blockIdx.y
    query = cuda.blockIdx.x * TILE + i
    for e in range(j, q.shape[2], TILE):
        sums[i, e] = 0
    for start in range(0, k.shape[1], TILE):
        slopes[i, j] = _slopes(g, mean, q, k, v, lse, head, query, start + j, causal, scale)[1]
        cuda.syncthreads()
        for e in range(j, q.shape[2], TILE):
            for t in range(min(TILE, k.shape[1] - start)):
                sums[i, e] += slopes[i, t] * k[head, start + t, e]
        cuda.syncthreads()
    if query < q.shape[1]:
        for e in range(j, q.shape[2], TILE):
            dq[head, query, e] = scale * sums[i, e]


@cuda.jit
def _keys_and_values(g, mean, q, k, v, lse, dk, dv, causal, scale):
    weights = cuda.shared.array((TILE, TILE), float32)
    slopes = cuda.shared.array((TILE, TILE), float32)
    key_sums = cuda.shared.array((TILE, WIDTH), float32)
    value_sums = cuda.shared.array((TILE, WIDTH), float32)
    i, j, head = cuda.threadIdx.y, cuda.threadIdx.x, cuda.blockIdx.y  # here i is the key's place in its tile
    key = cuda.blockIdx.x * TILE + i
    for e in range(j, WIDTH, TILE):
        key_sums[i, e] = 0
        value_sums[i, e] = 0
    for start in range(0, q.shape[1], TILE):
        weights[i, j], slopes[i, j] = _slopes(g, mean, q, k, v, lse, head, start + j, key, causal, scale)
        cuda.syncthreads()
        for t in range(min(TILE, q.shape[1] - start)):
            for e in range(j, q.shape[2], TILE):
                key_sums[i, e] += slopes[i, t] * q[head, start + t, e]
            for e in range(j, v.shape[2], TILE):
                value_sums[i, e] += weights[i, t] * g[head, start + t, e]
        cuda.syncthreads()
    if key < k.shape[1]:
        for e in range(j, q.shape[2], TILE):
            dk[head, key, e] = scale * key_sums[i, e]
        for e in range(j, v.shape[2], TILE):
            dv[head, key, e] = value_sums[i, e]


def _heads(*arrays: Any) -> list[Any]:
    """[..., L, E] as contiguous [heads, L, E]."""
    return [array_module(a).ascontiguousarray(a.reshape(-1, *a.shape[-2:])) for a in arrays]


def _fits(q: Any, k: Any, v: Any, mask: Any, **_: Any) -> bool:
    return mask is None and q.size > 0 and k.size > 0 and 0 < v.shape[-1] <= WIDTH and q.shape[-1] <= WIDTH


def _fits_vjp(g: Any, *rest: Any, **_: Any) -> bool:
    return len(rest) > 4 and _fits(*rest[1:5])  # q, k, v and the mask


_on_gpu: dict[str, Any] = {"impl": "numba-cuda", "device": "cuda", "dtypes": "f4", "study": True}


@kernel("scaled_dot_product_attention", when=_fits, cost=value_cost, **_on_gpu)
def scaled_dot_product_attention(
    q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float
) -> tuple[Any, Any]:
    """y [..., L, Ev] and lse [..., L]; without a mask."""
    xp = array_module(q)
    y, lse = xp.empty((*q.shape[:-1], v.shape[-1]), np.float32), xp.empty(q.shape[:-1], np.float32)
    arrays = _heads(q, k, v, y)
    grid = -(-q.shape[-2] // TILE), len(arrays[0])
    _forward[grid, (TILE, TILE)](*arrays, lse.reshape(-1, q.shape[-2]), is_causal, np.float32(scale))
    return y, lse


@kernel("scaled_dot_product_attention_vjp", when=_fits_vjp, cost=vjp_cost, **_on_gpu)
def scaled_dot_product_attention_vjp(
    g: Any, y: Any, q: Any, k: Any, v: Any, mask: Any, lse: Any, *,
    is_causal: bool, scale: float, needs: tuple[bool, ...],
) -> tuple[Any, ...]:  # fmt: skip
    """Gradients in q, k and v."""
    xp = array_module(q)
    grads = [xp.empty(a.shape, np.float32) for a in (q, k, v)]
    slope, queries, keys, values, dq, dk, dv = _heads(g, q, k, v, *grads)
    mean = (g * y).sum(-1).reshape(-1, q.shape[-2])
    inputs = slope, mean, queries, keys, values, xp.ascontiguousarray(lse).reshape(-1, q.shape[-2])
    how = is_causal, np.float32(scale)
    _queries[(-(-q.shape[-2] // TILE), len(queries)), (TILE, TILE)](*inputs, dq, *how)
    _keys_and_values[(-(-k.shape[-2] // TILE), len(queries)), (TILE, TILE)](*inputs, dk, dv, *how)
    return *grads, None
