"""Attention, forward, in Numba: one block of queries at a time.

The lanes of a panel are queries. Scores are the product of keys and the transposed block of queries; the softmax works
lane by lane; the weighted sum of values is again a product with a panel, and is transposed at the end. Keys come in
blocks as well: what was added up before is scaled down when a later block has a larger score (Milakov and Gimelshein
2018), so memory does not grow with their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..numba_config import prange
from ..vecmath import log1p
from .panels import (
    BOTTOM,
    INFINITY,
    LANES,
    LN2,
    MINUS_INFINITY,
    NARROW,
    ONE,
    ROWS,
    WIDE,
    ZERO,
    compiled,
    of_head,
    on_panels,
)
from .vectors import floats, take

KEYS = 128  # rows of a panel, which then stays in the first cache; measured: flat from 64, at 256 3 % slower
MOST_LANES = WIDE * LANES
NEAR = 1 << 18  # numbers of keys and values of a head, which the second cache holds
STRETCH = 4 * KEYS  # keys, where there are more, that several blocks of queries pass before the next are fetched
TOGETHER = 4  # blocks of queries that do


def scratch_floats(size: int, value_size: int) -> int:
    """Numbers of a block: queries, scores, sums of values, and three rows of statistics."""
    return (size + KEYS + value_size + 3) * MOST_LANES


def together(keys: int, size: int, value_size: int) -> int:
    """How many blocks of queries a thread has under way."""
    return TOGETHER if keys * (size + value_size) > NEAR else 1


def _finish(top, total, inverse, lse, panel, lanes):
    """1 / total and the natural logarithm of the sum, 2^top total, for each lane; 0 and inf where nothing was open."""
    tops, totals, inverses, sums = floats(top), floats(total), floats(inverse), floats(lse)
    for j in range(panel):
        inverses[j] = ZERO if totals[j] == ZERO else ONE / totals[j]
    for j in range(lanes):
        bits = np.float32(totals[j]).view(np.int32)
        exponent = (bits >> np.int32(23)) - np.int32(127)
        mantissa = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32)
        log_sum = (tops[j] + np.float32(exponent)) * LN2 + log1p(mantissa - ONE)
        sums[j] = INFINITY if totals[j] == ZERO else log_sum


finish = compiled(_finish)

PANEL = 0  # `on_panels` gives these names their values
fill: Any = None
turn: Any = None
times: Any = None
weigh: Any = None
product: Any = None
product_add: Any = None
panel_of: Any = None
mask_panel: Any = None


def _block(sizes, places, lead, head, first, lanes, begin, end, scale, scratch):
    """What keys ``begin`` to ``end`` add to ``lanes`` queries, from query ``first`` of a head on; at the end, results.

    ``scratch`` holds what was added up before.
    """
    _, queries, keys, size, value_size, causal, kind = sizes
    turned = scratch  # the queries, (size) x lanes
    scores = turned + 4 * size * PANEL
    sums = scores + 4 * KEYS * PANEL  # of weighted values, (value_size) x lanes
    top = sums + 4 * value_size * PANEL
    total, factors = top + 4 * PANEL, top + 8 * PANEL
    q_row, k_row, v_row, y_row = places[0, 1] // 4, places[1, 1] // 4, places[2, 1] // 4, places[4, 1] // 4
    q_column, k_column, v_column = places[0, 2] // 4, places[1, 2] // 4, places[2, 2] // 4
    q, k = of_head(places[0], lead, head) + 4 * first * q_row, of_head(places[1], lead, head)
    v, y = of_head(places[2], lead, head), of_head(places[4], lead, head) + 4 * first * y_row
    if begin == 0:
        panel_of(q, q_row, q_column, lanes, size, scale, turned, factors)
        fill(sums, value_size * PANEL, ZERO)
        fill(top, PANEL, BOTTOM)
        fill(total, PANEL, ZERO)
    visible = min(keys, first + lanes) if causal else keys
    for start in range(begin, min(visible, end), KEYS):
        count = min(KEYS, visible - start)
        product(k + 4 * start * k_row, k_row, k_column, turned, scores, size, count)
        if kind:
            mask = of_head(places[3], lead, head) + first * places[3, 1] + start * places[3, 2]
            mask_panel(scores, count, lanes, mask, places[3, 2], places[3, 1], kind)
        if causal:
            for i in range(max(0, first + 1 - start), count):
                fill(scores + 4 * i * PANEL, start + i - first, MINUS_INFINITY)
        groups = (count + ROWS - 1) // ROWS
        fill(scores + 4 * count * PANEL, (groups * ROWS - count) * PANEL, MINUS_INFINITY)
        weigh(scores, groups, top, total, factors)
        if start:
            times(sums, value_size, factors)
        product_add(v + 4 * start * v_row, v_column, v_row, scores, PANEL, sums, PANEL, count, value_size)
    if begin < visible <= end:
        finish(top, total, factors, places[5, 0] + 4 * (head * queries + first), PANEL, lanes)
        times(sums, value_size, factors)
        turn(sums, PANEL, 1, value_size, lanes, y, y_row)


wide_block = compiled(_block, "wide_", **on_panels(WIDE))
narrow_block = compiled(_block, "narrow_", **on_panels(NARROW))


def _attend(sizes, places, lead, scale, scratch, taken):
    """Groups of blocks of queries, head by head so that its keys stay in the cache, as long as there are any.

    Keys and values that do not fit it pass by in stretches, each of them for all blocks of a group.
    """
    heads, queries, keys, size, value_size = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    count = together(keys, size, value_size)
    stretch = STRETCH if count > 1 else keys
    groups = (queries + count * MOST_LANES - 1) // (count * MOST_LANES)
    unit = take(taken)
    while unit < heads * groups:
        head, group = unit // groups, groups - 1 - unit % groups  # if causal, the longest first
        low = group * count * MOST_LANES
        high = min(queries, low + count * MOST_LANES)
        for begin in range(0, keys, stretch):
            end, place = min(keys, begin + stretch), scratch
            for first in range(low, high, MOST_LANES):
                lanes = min(MOST_LANES, high - first)
                if lanes > LANES:
                    wide_block(sizes, places, lead, head, first, lanes, begin, end, scale, place)
                else:
                    narrow_block(sizes, places, lead, head, first, lanes, begin, end, scale, place)
                place += 4 * scratch_floats(size, value_size)
        unit = take(taken)


attend = compiled(_attend, together=compiled(together), scratch_floats=compiled(scratch_floats))


def _attend_in_parallel(sizes, places, lead, scale, scratch, taken, stride, threads):
    for thread in prange(threads):
        attend(sizes, places, lead, scale, scratch + np.int64(thread) * stride, taken)


attend_in_parallel = compiled(_attend_in_parallel, options={"parallel": True})
