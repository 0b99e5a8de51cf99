"""Attention, backward, in Numba: one panel of keys at a time, over all queries that may attend to them.

The lanes of a panel are keys, so that queries and slopes are read in place. Weights are computed again from ``lse``.
The gradients in the keys and values of a panel stay in the cache, transposed, until all queries have passed by; those
in the queries are added to their place in memory. Queries that do not fit the second cache pass by in stretches.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..numba_config import prange
from .panels import LANES, LOG2E, MINUS_INFINITY, NARROW, ONE, WIDE, ZERO, compiled, of_head, on_panels
from .vectors import floats, take

QUERIES = 64  # rows of a panel of scores; measured, flat from 32 to 128
MOST_LANES = WIDE * LANES
NEAR, STRETCH = 1 << 18, 1024  # numbers of queries, slopes and gradients that stay in the second cache; queries that do
SPAN_VECTORS = 2
SPAN = SPAN_VECTORS * LANES  # columns of the gradient in the queries that are computed together


def scratch_floats(queries: int, size: int, value_size: int) -> int:
    """Numbers that one thread needs: keys, values and their gradients, keys as rows, two panels, two for each query."""
    wide = -(-size // SPAN) * SPAN
    return (2 * size + 2 * value_size + wide + 2 * QUERIES + 1) * MOST_LANES + 2 * queries


def _means(g, g_row, g_column, y, y_row, y_column, queries, size, scale, mean):
    """``scale`` times the sum of g y along each row, in four sums so that additions need not wait for each other."""
    slopes, values, means = floats(g), floats(y), floats(mean)
    fours = size - size % 4
    for i in range(queries):
        at, of = i * g_row, i * y_row
        a = b = c = d = ZERO
        for j in range(0, fours, 4):
            a += slopes[at + j * g_column] * values[of + j * y_column]
            b += slopes[at + (j + 1) * g_column] * values[of + (j + 1) * y_column]
            c += slopes[at + (j + 2) * g_column] * values[of + (j + 2) * y_column]
            d += slopes[at + (j + 3) * g_column] * values[of + (j + 3) * y_column]
        for j in range(fours, size):
            a += slopes[at + j * g_column] * values[of + j * y_column]
        means[i] = ((a + b) + (c + d)) * scale


means = compiled(_means)
clear = on_panels(SPAN_VECTORS)["fill"]
add_to_span = on_panels(SPAN_VECTORS)["product_add"]

PANEL = 0  # `on_panels` gives these names their values
fill: Any = None
turn: Any = None
slope: Any = None
product: Any = None
product_add: Any = None
panel_of: Any = None
rows_of: Any = None
mask_panel: Any = None


def _panel(sizes, places, lead, head, low, lanes, begin, end, scale, dq, sums, mean, scratch):
    """What queries ``begin`` to ``end`` say of ``lanes`` keys and values, from key ``low`` of a head on.

    It is added to their gradients, which begin with the first of these queries, and to the queries' in ``dq``.
    ``sums``: logarithms of base 2 of every query's sum of exponentials; ``mean``: of every query, g y scale.
    """
    _, _, _, size, value_size, causal, kind = sizes
    wide = (size + SPAN - 1) // SPAN * SPAN
    turned_k, turned_v = scratch, scratch + 4 * size * PANEL
    turned_dk, turned_dv = turned_v + 4 * value_size * PANEL, turned_v + 4 * (value_size + size) * PANEL
    rows_k = turned_dv + 4 * value_size * PANEL
    weights = rows_k + 4 * wide * PANEL
    slopes, factors = weights + 4 * QUERIES * PANEL, weights + 8 * QUERIES * PANEL
    q_row, k_row, v_row, g_row = places[0, 1] // 4, places[1, 1] // 4, places[2, 1] // 4, places[6, 1] // 4
    q_column, k_column = places[0, 2] // 4, places[1, 2] // 4
    v_column, g_column = places[2, 2] // 4, places[6, 2] // 4
    dq_row, dk_row, dv_row = places[7, 1] // 4, places[8, 1] // 4, places[9, 1] // 4
    q, g = of_head(places[0], lead, head), of_head(places[6], lead, head)
    k, v = of_head(places[1], lead, head) + 4 * low * k_row, of_head(places[2], lead, head) + 4 * low * v_row
    dk, dv = of_head(places[8], lead, head) + 4 * low * dk_row, of_head(places[9], lead, head) + 4 * low * dv_row
    panel_of(k, k_row, k_column, lanes, size, scale * LOG2E, turned_k, factors)
    panel_of(v, v_row, v_column, lanes, value_size, scale, turned_v, factors)
    rows_of(k, k_row, k_column, lanes, size, rows_k, wide)
    if begin == 0 or (causal and low >= begin):
        fill(turned_dk, (size + value_size) * PANEL, ZERO)
    else:
        panel_of(dk, dk_row, 1, lanes, size, ONE, turned_dk, factors)
        panel_of(dv, dv_row, 1, lanes, value_size, ONE, turned_dv, factors)
    for first in range(max(low, begin) if causal else begin, end, QUERIES):
        count = min(QUERIES, end - first)
        this_q, this_g = q + 4 * first * q_row, g + 4 * first * g_row
        product(this_q, q_row, q_column, turned_k, weights, size, count)
        product(this_g, g_row, g_column, turned_v, slopes, value_size, count)
        if kind:
            mask = of_head(places[3], lead, head) + first * places[3, 1] + low * places[3, 2]
            mask_panel(weights, count, lanes, mask, places[3, 1], places[3, 2], kind)
        for i in range(count):
            visible = min(lanes, first + i + 1 - low) if causal else lanes
            if visible < PANEL:
                fill(weights + 4 * (i * PANEL + visible), PANEL - visible, MINUS_INFINITY)
        slope(weights, slopes, count, sums + 4 * first, mean + 4 * first)
        product_add(this_g, g_column, g_row, weights, PANEL, turned_dv, PANEL, count, value_size)
        product_add(this_q, q_column, q_row, slopes, PANEL, turned_dk, PANEL, count, size)
        for j in range(0, wide, SPAN):
            add_to_span(slopes, PANEL, 1, rows_k + 4 * j, wide, dq + 4 * (first * dq_row + j), dq_row, PANEL, count)
    turn(turned_dk, PANEL, 1, size, lanes, dk, dk_row)
    turn(turned_dv, PANEL, 1, value_size, lanes, dv, dv_row)


wide_panel = compiled(_panel, "wide_", **on_panels(WIDE))
narrow_panel = compiled(_panel, "narrow_", **on_panels(NARROW))


def _derive(sizes, places, lead, scale, parts, copy, scratch, taken):
    """Heads, or parts of them, as long as there are any. A part is every ``parts``-th panel of the keys of a head.

    Each part of a head adds the gradient in the queries to a copy of its own, ``copy`` bytes from the next.
    """
    heads, queries, keys, size, value_size, causal, _ = sizes
    wide = (size + SPAN - 1) // SPAN * SPAN
    mean, sums = scratch, scratch + 4 * queries
    g_row, g_column, y_row, y_column = places[6, 1] // 4, places[6, 2] // 4, places[4, 1] // 4, places[4, 2] // 4
    unit = take(taken)
    while unit < heads * parts:
        head, part = unit % heads, unit // heads
        y, g = of_head(places[4], lead, head), of_head(places[6], lead, head)
        dq = of_head(places[7], lead, head) + part * copy
        means(g, g_row, g_column, y, y_row, y_column, queries, value_size, scale, mean)
        given, logs = floats(places[5, 0] + 4 * head * queries), floats(sums)
        for i in range(queries):
            logs[i] = given[i] * LOG2E
            clear(dq + i * places[7, 1], wide, ZERO)
        stretch = STRETCH if queries * (2 * size + value_size) > NEAR else queries
        for begin in range(0, queries, stretch):
            end = min(queries, begin + stretch)
            for low in range(part * MOST_LANES, keys, parts * MOST_LANES):
                lanes = min(MOST_LANES, keys - low)
                if causal and low >= end and end < queries:
                    continue  # a later stretch is the first to see these keys, or the last, where none does
                if lanes > LANES:
                    wide_panel(
                        sizes, places, lead, head, low, lanes, begin, end, scale, dq, sums, mean, sums + 4 * queries
                    )
                else:
                    narrow_panel(
                        sizes, places, lead, head, low, lanes, begin, end, scale, dq, sums, mean, sums + 4 * queries
                    )
        unit = take(taken)


derive = compiled(_derive)


def _derive_in_parallel(sizes, places, lead, scale, parts, copy, scratch, taken, stride, threads):
    for thread in prange(threads):
        derive(sizes, places, lead, scale, parts, copy, scratch + np.int64(thread) * stride, taken)


derive_in_parallel = compiled(_derive_in_parallel, options={"parallel": True})
