"""A step of transformer blocks in Numba: one call in place of some twenty for each block.

With one token of a text each weight is used once, so the products are no more than reading the weights; what takes
the time otherwise is Python between small calls. A product with one vector is what scores of one query are
(``attention.few``): the lanes run along the inputs, as many outputs at a time as there are lanes. All its numbers are
in one scratch array; each stage is split over threads by outputs or heads, so threads change no bit.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np

from ..attention import few
from ..attention.few import add_weighted, fill, score_whole, scores_of, weigh
from ..attention.forward import KEYS
from ..attention.panels import LANES, LOG2E, MINUS_INFINITY, ONE, ZERO
from ..attention.vectors import floats
from ..many import block_of, kept_addresses
from ..matmul import drivers
from ..matmul.drivers import GELU, GELU_TANH, RELU, activate_row
from ..numba_config import prange, specialise
from ..registry import kernel
from ..vecmath import vector_sums
from .reference import OF_A_BLOCK, blocks_step_cost

FEW = 8  # texts; more go op by op if, times the weights of a block, they are more than
MOST = 1 << 24  # from where products of matrices save more than Python costs
PARALLEL_FROM = 1 << 17  # weights of a block; below, starting threads five times costs more than they save
ACTIVATIONS = {"relu": RELU, "gelu": GELU, "gelu_tanh": GELU_TANH}

# Numba's disk cache looks only at the file of the function that it caches, so the names tell the version of these.
_VERSION = hashlib.sha256(b"".join(Path(str(m.__file__)).read_bytes() for m in (few, drivers))).hexdigest()[:8]


@vector_sums
def _norm(x, weight, bias, eps, y):
    """Layer norm of one row."""
    mean = ZERO
    for i in range(x.size):
        mean += x[i]
    mean /= np.float32(x.size)
    square = ZERO
    for i in range(x.size):
        square += (x[i] - mean) * (x[i] - mean)
    rstd = ONE / np.sqrt(square / np.float32(x.size) + eps)
    for i in range(x.size):
        y[i] = (x[i] - mean) * rstd * weight[i] + bias[i]


def _norms(x, weight, bias, eps, n, width, zeros, y):
    scale, shift = block_of(weight, 0, width), block_of(bias if bias else zeros, 0, width)
    for r in range(n):
        first, last = r * width, (r + 1) * width
        _norm(block_of(x, first, last), scale, shift, eps, block_of(y, first, last))


def _linear(first, last, weight, bias, inputs, x, outputs, y, n):
    """Outputs ``first`` to ``last``, whole vectors of them, of n rows: y = x weight' + bias."""
    added = floats(bias)
    for o in range(first, last, LANES):
        for r in range(n):
            at = y + 4 * (r * outputs + o)
            score_whole(x + 4 * r * inputs, inputs // LANES, weight + 4 * o * inputs, inputs, 1, 0, at)
            if bias:
                made = floats(at)
                for i in range(LANES):
                    made[i] += added[o + i]


def _head(q, k, v, keys, key_row, values, value_row, length, size, scale, scratch, mixed):
    """One head of one text: what the query takes of the values of ``length`` earlier tokens and of its own."""
    scores, top, total = scratch + 4 * size, scratch, scratch + 4
    query, scaled, key, own = floats(q), floats(scratch), floats(k), ZERO
    for d in range(size):
        scaled[d] = query[d] * scale
        own += scaled[d] * key[d]
    whole = length // LANES
    fill(scores + 4 * whole * LANES, LANES, MINUS_INFINITY)
    scores_of(scratch, size, keys, key_row, length, scores)
    floats(scores)[length] = own
    weigh(scores, whole + 1, top, total)
    fill(mixed, size, ZERO)
    for start in range(0, length, KEYS):  # sums of blocks, which have smaller errors than one long sum
        taken = min(KEYS, length - start)
        add_weighted(scores + 4 * start, taken, values + 4 * start * value_row, value_row, size, mixed)
    add_weighted(scores + 4 * length, 1, v, size, size, mixed)
    result, inverse = floats(mixed), ONE / floats(total)[0]
    for d in range(size):
        result[d] *= inverse


def _activate(first, last, outputs, n, z, y, activation):
    for r in range(n):
        row = block_of(z, r * outputs + first, r * outputs + last)
        activate_row(row, block_of(y, r * outputs + first, r * outputs + last), activation)


def _add(first, last, outputs, n, x, y):
    for r in range(n):
        more = block_of(x, r * outputs + first, r * outputs + last)
        row = block_of(y, r * outputs + first, r * outputs + last)
        for i in range(row.size):
            row[i] += more[i]


def _share(part, parts, count):
    """First and last of ``count`` numbers in whole vectors, of so many parts."""
    groups = count // LANES
    return part * groups // parts * LANES, (part + 1) * groups // parts * LANES


def _blocks_step(weights, remembered, x, own, n, heads, length, size, hidden, eps, scale, activation, scratch, threads):
    """``x`` goes through all blocks, in place; queries, keys and values of each stay in ``own``.

    ``weights`` [blocks, 12]: addresses, 0 for none. ``remembered`` [2, blocks, 4]: of keys and values the address, and
    the bytes between texts, heads and tokens.
    """
    width = heads * size
    zeros = scratch
    normed, mixed = zeros + 4 * width, zeros + 4 * (width + n * width)
    a = mixed + 4 * n * width
    z = a + 4 * n * width
    wide = z + 4 * n * hidden
    heads_own, each = wide + 4 * n * hidden, size + length + LANES
    fill(zeros, width, ZERO)
    for b in range(len(weights)):
        w, keys, values = weights[b], remembered[0, b], remembered[1, b]
        qkv = own + 12 * b * n * width
        norms(x, w[0], w[1], eps, n, width, zeros, normed)
        for t in prange(threads):
            first, last = share(t, threads, 3 * width)
            linear(first, last, w[2], w[3], width, normed, 3 * width, qkv, n)
        for t in prange(threads):
            for unit in range(t * n * heads // threads, (t + 1) * n * heads // threads):
                r, h = unit // heads, unit % heads
                q = qkv + 4 * (r * 3 * width + h * size)
                head(
                    q, q + 4 * width, q + 8 * width,
                    keys[0] + r * keys[1] + h * keys[2], keys[3] // 4,
                    values[0] + r * values[1] + h * values[2], values[3] // 4,
                    length, size, scale, heads_own + 4 * t * each, mixed + 4 * (r * width + h * size),
                )  # fmt: skip
        for t in prange(threads):
            first, last = share(t, threads, width)
            linear(first, last, w[4], w[5], width, mixed, width, a, n)
            add(first, last, width, n, x, a)
        norms(a, w[6], w[7], eps, n, width, zeros, normed)
        for t in prange(threads):
            first, last = share(t, threads, hidden)
            linear(first, last, w[8], w[9], width, normed, hidden, z, n)
            activate(first, last, hidden, n, z, wide, activation)
        for t in prange(threads):
            first, last = share(t, threads, width)
            linear(first, last, w[10], w[11], hidden, wide, width, x, n)
            add(first, last, width, n, a, x)


def _named(body: Any) -> Any:
    return specialise(body, _VERSION, {}, error_model="numpy")


norms, linear, head, activate, add, share = map(_named, (_norms, _linear, _head, _activate, _add, _share))


@cache
def _compiled(parallel: bool) -> Any:
    variant = f"{'parallel' if parallel else 'serial'}_{_VERSION}"
    return specialise(_blocks_step, variant, {}, parallel=parallel, error_model="numpy")


def _weights(width: int, hidden: int) -> int:
    """How many a block has."""
    return 2 * width * (2 * width + hidden)


def _fits(x: Any, *arrays: Any, blocks: int, **_: Any) -> bool:
    """Few texts, whole vectors in every size, numbers that lie side by side."""
    size, hidden = arrays[0].shape[3], arrays[2 * blocks + 8].shape[0]
    return (
        (len(x) <= FEW or len(x) * _weights(x.shape[1], hidden) <= MOST)
        and size % LANES == 0
        and hidden % LANES == 0
        and all(a.strides[3] == a.itemsize and a.dtype == x.dtype for a in arrays[: 2 * blocks])
        and all(w is None or (w.flags.c_contiguous and w.dtype == x.dtype) for w in arrays[2 * blocks :])
    )


@kernel("blocks_step", impl="numba", device="cpu", dtypes="f4", when=_fits, cost=blocks_step_cost)
def blocks_step(x: Any, *arrays: Any, blocks: int, length: int, eps: float, activation: str) -> tuple[Any, Any, Any]:
    stores, weights = arrays[: 2 * blocks], arrays[2 * blocks :]
    n, heads, _, size = stores[0].shape
    width, hidden = heads * size, weights[8].shape[0]
    parallel = _weights(width, hidden) >= PARALLEL_FROM
    threads = numba.get_num_threads() if parallel else 1
    y, own = np.array(x, order="C"), np.empty((blocks, n, 3, heads, size), np.float32)
    scratch = np.empty(width + n * (3 * width + 2 * hidden) + threads * (size + length + LANES), np.float32)
    table = np.array(kept_addresses(weights), np.int64).reshape(blocks, OF_A_BLOCK)
    places = [(address, *a.strides[:3]) for address, a in zip(kept_addresses(stores), stores)]
    _compiled(parallel)(
        table, np.array(places, np.int64).reshape(2, blocks, 4), y.ctypes.data, own.ctypes.data, n, heads, length,
        size, hidden, np.float32(eps), np.float32(LOG2E / math.sqrt(size)), ACTIVATIONS[activation],
        scratch.ctypes.data, threads,
    )  # fmt: skip
    return y, own[:, :, 1], own[:, :, 2]
