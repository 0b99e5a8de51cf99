"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1), forward and backward: the specification.

A block of queries at a time, so that of the L x S matrix of weights only a block of rows exists. The backward pass
computes the weights again from ``lse``, the logarithm of a row's sum of exponentials, as FlashAttention does (Dao
2023). A query that may attend to no key has lse = inf; its weights, its output and all its gradients are 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arrays import array_module, widen
from ..registry import Cost, kernel

BLOCK_ELEMENTS = 1 << 20  # weights held at a time: 4 MB in float32
BLOCK_ROWS = 64  # but no fewer queries of a sequence: matrix products of a few rows are slow


def value_cost(q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float) -> Cost:
    """Reads q, k and v and writes y once; two matrix products, half of them if causal."""
    pairs = q.size // q.shape[-1] * k.shape[-2] // (2 if is_causal else 1)
    moved = q.nbytes + k.nbytes + v.nbytes + q.nbytes // q.shape[-1] * v.shape[-1]
    return Cost(bytes=moved, flops=pairs * 2 * (q.shape[-1] + v.shape[-1]))


def vjp_cost(
    g: Any, y: Any, q: Any, k: Any, v: Any, mask: Any, lse: Any, *, is_causal: bool, scale: float, needs: Any
) -> Cost:
    """Reads g, y, q, k, v and writes three gradients; five matrix products."""
    pairs = q.size // q.shape[-1] * k.shape[-2] // (2 if is_causal else 1)
    moved = 2 * (g.nbytes + q.nbytes + k.nbytes + v.nbytes)
    return Cost(bytes=moved, flops=pairs * 2 * (3 * q.shape[-1] + 2 * v.shape[-1]))


def _blocks(q: Any, k: Any, is_causal: bool) -> Iterator[tuple[slice, slice]]:
    """Rows of queries, and the keys that any of them may attend to."""
    queries, keys = q.shape[-2], k.shape[-2]
    block = max(BLOCK_ROWS, BLOCK_ELEMENTS // max(1, math.prod(q.shape[:-2]) * keys))
    for start in range(0, queries, block):
        stop = min(start + block, queries)
        yield slice(start, stop), slice(0, min(keys, stop) if is_causal else keys)


def _scores(q: Any, k: Any, mask: Any, rows: slice, cols: slice, is_causal: bool, scale: float) -> Any:
    """Scaled products of a block of queries with its keys; -inf where a query may not attend."""
    xp = array_module(q)
    scores = (q[..., rows, :] * scale) @ k[..., cols, :].swapaxes(-1, -2)
    if is_causal:
        future = xp.arange(cols.start, cols.stop) > xp.arange(rows.start, rows.stop)[:, None]
        scores = xp.where(future, -np.inf, scores)
    if mask is not None:
        part = mask[..., rows, cols]
        scores = xp.where(part, scores, -np.inf) if part.dtype.kind == "b" else scores + part
    return scores


@kernel("scaled_dot_product_attention", cost=value_cost)
def scaled_dot_product_attention(
    q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float
) -> tuple[Any, Any]:
    """y (..., L, Ev) and lse (..., L) from q (..., L, E), k (..., S, E), v (..., S, Ev).

    ``mask`` (..., L, S) or None: bools, True where a query may attend, or numbers added to the scores.
    """
    xp = array_module(q)
    wide_q, wide_k, wide_v = widen(q), widen(k), widen(v)
    y = xp.zeros((*q.shape[:-1], v.shape[-1]), wide_v.dtype)
    lse = xp.full(q.shape[:-1], np.inf, wide_q.dtype)
    for rows, cols in _blocks(q, k, is_causal) if k.shape[-2] else ():
        scores = _scores(wide_q, wide_k, mask, rows, cols, is_causal, scale)
        top = scores.max(-1, keepdims=True)
        top = xp.where(top == -np.inf, 0, top)
        weights = np.exp(scores - top)
        total = weights.sum(-1, keepdims=True)
        attends = total > 0
        weights /= xp.where(attends, total, 1)
        y[..., rows, :] = weights @ wide_v[..., cols, :]
        lse[..., rows] = xp.where(attends, top + np.log(xp.where(attends, total, 1)), np.inf)[..., 0]
    return y.astype(q.dtype, copy=False), lse


@kernel("scaled_dot_product_attention_vjp", cost=vjp_cost)
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
    """With P the weights: dV = P'g, dS = P (gV' - rowsum(g y)), dQ = scale dS K, dK = scale dS'Q; the mask's is dS."""
    xp = array_module(q)
    g, wide_q, wide_k, wide_v = widen(g), widen(q), widen(k), widen(v)
    dq, dk, dv = xp.zeros_like(wide_q), xp.zeros_like(wide_k), xp.zeros_like(wide_v)
    dmask = xp.zeros(mask.shape, wide_q.dtype) if needs[3] else None
    mean = (g * widen(y)).sum(-1, keepdims=True)
    for rows, cols in _blocks(q, k, is_causal) if k.shape[-2] else ():
        scores = _scores(wide_q, wide_k, mask, rows, cols, is_causal, scale)
        weights = np.exp(scores - lse[..., rows, None])
        slope = g[..., rows, :]
        dv[..., cols, :] += weights.swapaxes(-1, -2) @ slope
        dscores = slope @ wide_v[..., cols, :].swapaxes(-1, -2)
        dscores -= mean[..., rows, :]
        dscores *= weights
        if dmask is not None:
            dmask[..., rows, cols] = dscores
        dscores *= scale
        dq[..., rows, :] = dscores @ wide_k[..., cols, :]
        dk[..., cols, :] += dscores.swapaxes(-1, -2) @ wide_q[..., rows, :]
    grads = [d.astype(x.dtype, copy=False) for d, x in ((dq, q), (dk, k), (dv, v))]
    return *grads, None if dmask is None else dmask.astype(mask.dtype, copy=False)
