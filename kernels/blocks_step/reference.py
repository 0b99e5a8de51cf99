"""A step of pre-norm transformer blocks, the specification: one more token of each text, earlier ones remembered."""

from __future__ import annotations

import math
from typing import Any

from ..arrays import array_module
from ..layer_norm.reference import layer_norm
from ..matmul.reference import linear, linear_activation
from ..registry import Cost, kernel

OF_A_BLOCK = 12  # weights and biases


def parts(arrays: tuple[Any, ...], blocks: int) -> tuple[Any, Any, list]:
    """Keys, values and weights, by block."""
    weights = arrays[2 * blocks :]
    by_block = [weights[i : i + OF_A_BLOCK] for i in range(0, len(weights), OF_A_BLOCK)]
    return arrays[:blocks], arrays[blocks : 2 * blocks], by_block


def blocks_step_cost(x: Any, *arrays: Any, blocks: int, length: int, **_: Any) -> Cost:
    """Weights, keys and values are read once; two flops for each of them and each text."""
    keys, values, weights = parts(arrays, blocks)
    matrices = sum(w.size for block in weights for w in block if w is not None and w.ndim == 2)
    vectors = sum(w.size for block in weights for w in block if w is not None and w.ndim == 1)
    remembered = sum(a.size // a.shape[2] * (length + 1) for a in (*keys, *values))
    moved = (2 * x.size + remembered + matrices + vectors) * x.itemsize
    return Cost(bytes=moved, flops=2 * (len(x) * matrices + remembered))


@kernel("blocks_step", cost=blocks_step_cost)
def blocks_step(x: Any, *arrays: Any, blocks: int, length: int, eps: float, activation: str) -> tuple[Any, Any, Any]:
    """For ``x`` [n, width], block after block, with the keys K and values V of ``length`` earlier tokens:

        q, k, v = A norm1(x);    a = x + B attention(q, K + k, V + v);    x = a + D f(C norm2(a))

    ``arrays``: K of every block, V of every block, [n, heads, room, size] with room >= ``length``; then of each block
    weight and bias (or None) of norm1, A, B, norm2, C and D, matrices [out, in]; f is ``activation``. Returns x
    [n, width], and the token's own k and v [blocks, n, heads, size], which are the caller's to remember.
    """
    xp = array_module(x)
    norm = {"normalized_shape": x.shape[1:], "eps": eps}
    own = []
    for keys, values, (w1, b1, wa, ba, wb, bb, w2, b2, wc, bc, wd, bd) in zip(*parts(arrays, blocks), strict=True):
        n, heads, _, size = keys.shape
        qkv = linear(layer_norm(x, w1, b1, **norm)[0], wa, ba).reshape(n, 3, heads, 1, size)
        q, k, v = qkv[:, 0], qkv[:, 1], qkv[:, 2]
        keys, values = (xp.concatenate([old[:, :, :length], new], 2) for old, new in ((keys, k), (values, v)))
        scores = q @ keys.swapaxes(2, 3) / math.sqrt(size)
        weights = xp.exp(scores - scores.max(-1, keepdims=True))
        mixed = weights @ values / weights.sum(-1, keepdims=True)
        a = x + linear(mixed.reshape(x.shape), wb, bb)
        hidden, _ = linear_activation(layer_norm(a, w2, b2, **norm)[0], wc, bc, activation=activation)
        x = a + linear(hidden, wd, bd)
        own.append((k[:, :, 0], v[:, :, 0]))
    return x, xp.stack([k for k, _ in own]), xp.stack([v for _, v in own])
