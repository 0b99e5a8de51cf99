"""Attention of a few queries, forward, in Numba: what writing token by token asks for, with the keys of earlier tokens.

Too few queries to fill the lanes of a panel. Here the lanes run along a key's numbers: as many keys at a time as there
are lanes, each with a vector of partial products, and these are added up across lanes all at once, by a tree that ends
in one vector with a key's score in each lane. The weighted sum of values runs along a value's numbers. Keys and values
are read once, in place, so long as the numbers of each lie side by side.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..numba_config import prange
from .forward import KEYS, finish
from .panels import BOOLS, BOTTOM, LANES, LOG2E, MINUS_INFINITY, NARROW, ZERO, compiled, of_head, on_panels
from .vectors import INT, LOWEST, Lanes, flag, floats, take

CHAINS = 4  # sums of weighted values that grow side by side, so that none waits for the one before it


def scratch_floats(keys: int, size: int, value_size: int) -> int:
    """Numbers that one thread needs: a query, its scores, a sum of values, the highest score, the sum, its inverse."""
    return size + keys + LANES + value_size + 3


@cache
def score(lanes: int, last: bool) -> Any:
    """An intrinsic ``step(q, vectors, k, k_row, groups, keys, scores)``: the products of a query and its keys.

    The query and each key have ``vectors`` > 0 times ``lanes`` numbers; keys come in ``groups`` > 0 of ``lanes``,
    ``k_row`` elements apart. ``last``: only ``keys`` of them are there, and the others' scores are those of the first.
    """
    signature = types.void(*[types.int64] * 7)

    @intrinsic
    def step(typing, q, vectors, k, k_row, groups, keys, scores):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            q, vectors, k, k_row, groups, keys, scores = values
            lane = Lanes(builder, lanes)
            step = builder.mul(k_row, INT(4))

            def row(first: ir.Value, i: int) -> ir.Value:
                index = builder.add(first, INT(i))
                if last:
                    there = builder.icmp_signed("<", index, keys)
                    index = builder.select(there, index, INT(0))
                return builder.add(k, builder.mul(index, step))

            def group(number: ir.Value, _: list) -> list:
                first = builder.mul(number, INT(lanes))
                rows = [row(first, i) for i in range(lanes)]

                def part(d: ir.Value, sums: list) -> list:
                    query = lane.load(q, d, lanes, 0)
                    numbers = [lane.load(address, d, lanes, 0) for address in rows]
                    return [builder.call(lane.fma, [query, x, total]) for x, total in zip(numbers, sums)]

                found = lane.loop(vectors, [lane.constant(0.0)] * lanes, part)
                lane.store(_across(lane, found), scores, number, lanes, 0)
                return []

            lane.loop(groups, [], group)
            return context.get_dummy_value()

        return signature, emit

    return step


def _across(lane: Lanes, vectors: list[ir.Value]) -> ir.Value:
    """The vector whose lane i is the sum of all lanes of ``vectors[i]``.

    Of two vectors each stage makes one: where a bit of the lane's number is 0 it has the first's sums of two lanes
    that differ in that bit, elsewhere the second's.
    """
    half = lane.lanes // 2
    while half:
        low = [e if not e & half else lane.lanes + (e ^ half) for e in range(lane.lanes)]
        high = [e ^ half if not e & half else lane.lanes + e for e in range(lane.lanes)]
        pairs = zip(vectors[:half], vectors[half:], strict=True)
        vectors = [lane.ir.fadd(*(_pick(lane, a, b, picks) for picks in (low, high))) for a, b in pairs]
        half //= 2
    return vectors[0]


def _pick(lane: Lanes, a: ir.Value, b: ir.Value, picks: list[int]) -> ir.Value:
    return lane.ir.shuffle_vector(a, b, ir.Constant(lane.bits, picks))


@cache
def weigh_row(lanes: int) -> Any:
    """An intrinsic ``step(scores, groups, top, total)``: each score of ``groups`` > 0 vectors becomes 2^(score - top).

    ``top``: a number that is the highest score afterwards, at least ``LOWEST``; ``total``: the sum of all weights.
    """
    signature = types.void(*[types.int64] * 4)

    @intrinsic
    def step(typing, scores, groups, top, total):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            scores, groups, top, total = values
            lane = Lanes(builder, lanes)

            def everywhere(vector: ir.Value, join: Any) -> ir.Value:
                """All lanes of one vector joined, in every lane."""
                half = lanes // 2
                while half:
                    vector = join(vector, _pick(lane, vector, vector, [e ^ half for e in range(lanes)]))
                    half //= 2
                return vector

            def higher(g: ir.Value, carried: list) -> list:
                return [lane.maximum(lane.load(scores, g, lanes, 0), carried[0])]

            highest = everywhere(lane.loop(groups, [lane.constant(LOWEST)], higher)[0], lane.maximum)

            def weight(g: ir.Value, carried: list) -> list:
                made = lane.power_of_two(builder.fsub(lane.load(scores, g, lanes, 0), highest))
                lane.store(made, scores, g, lanes, 0)
                return [builder.fadd(carried[0], made)]

            sums = everywhere(lane.loop(groups, [lane.constant(0.0)], weight)[0], builder.fadd)
            for vector, address in ((highest, top), (sums, total)):
                number = builder.extract_element(vector, INT(0))
                builder.store(number, builder.inttoptr(address, ir.FloatType().as_pointer()))
            return context.get_dummy_value()

        return signature, emit

    return step


@cache
def add_values(vectors: int, chains: int, lanes: int) -> Any:
    """An intrinsic ``step(weights, v, v_row, groups, sums)``: ``vectors`` of sums grow by ``groups * chains`` weighted
    values, ``v_row`` elements apart."""
    signature = types.void(*[types.int64] * 5)
    columns = range(vectors)

    @intrinsic
    def step(typing, weights, v, v_row, groups, sums):
        def emit(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            weights, v, v_row, groups, sums = values
            lane = Lanes(builder, lanes)
            row = builder.mul(v_row, INT(4))

            def grown(g: ir.Value, totals: list) -> list:
                made = []
                for c in range(chains):
                    key = builder.add(builder.mul(g, INT(chains)), INT(c))
                    weight, base = lane.everywhere(weights, key), builder.add(v, builder.mul(key, row))
                    for j in columns:
                        value = lane.load(base, INT(0), lanes * vectors, j)
                        made.append(builder.call(lane.fma, [weight, value, totals[c * vectors + j]]))
                return made

            found = lane.loop(groups, [lane.constant(0.0)] * (chains * vectors), grown)
            for j in columns:
                level = found[j::vectors]
                while len(level) > 1:
                    level = [builder.fadd(a, b) for a, b in zip(level[::2], level[1::2])]
                old = lane.load(sums, INT(0), lanes * vectors, j)
                lane.store(builder.fadd(old, level[0]), sums, INT(0), lanes * vectors, j)
            return context.get_dummy_value()

        return signature, emit

    return step


fill = on_panels(NARROW)["fill"]
score_whole, score_last, weigh = score(LANES, False), score(LANES, True), weigh_row(LANES)
add_two, add_one = add_values(2, CHAINS, LANES), add_values(1, CHAINS, LANES)
add_two_singly, add_one_singly = add_values(2, 1, LANES), add_values(1, 1, LANES)


def _scores(q, size, k, k_row, keys, scores):
    """Scores of ``keys`` keys, and -inf up to whole vectors."""
    groups, rest = keys // LANES, keys % LANES
    if groups:
        score_whole(q, size // LANES, k, k_row, groups, 0, scores)
    if rest:
        done = groups * LANES
        score_last(q, size // LANES, k + 4 * done * k_row, k_row, 1, rest, scores + 4 * done)
        fill(scores + 4 * keys, LANES - rest, MINUS_INFINITY)


def _mask_row(scores, keys, mask, step, kind):
    """Close, or add to, the scores of a query by a mask whose steps between keys are bytes."""
    score = floats(scores)
    for j in range(keys):
        at = mask + j * step
        if kind == BOOLS:
            score[j] = score[j] if flag(at) else MINUS_INFINITY
        else:
            added = floats(at)[0]
            scaled = added * LOG2E
            score[j] += BOTTOM if scaled < BOTTOM and added >= BOTTOM else scaled  # as of a panel


def _values(weights, keys, v, v_row, value_size, sums):
    """``sums`` grow by the weighted values of ``keys`` keys."""
    whole, rest = keys // CHAINS, keys % CHAINS
    done = 4 * whole * CHAINS
    for j in range(0, value_size, 2 * LANES):
        two = j + 2 * LANES <= value_size
        if whole and two:
            add_two(weights, v + 4 * j, v_row, whole, sums + 4 * j)
        elif whole:
            add_one(weights, v + 4 * j, v_row, whole, sums + 4 * j)
        if rest and two:
            add_two_singly(weights + done, v + done * v_row + 4 * j, v_row, rest, sums + 4 * j)
        elif rest:
            add_one_singly(weights + done, v + done * v_row + 4 * j, v_row, rest, sums + 4 * j)


scores_of, mask_row, add_weighted = compiled(_scores), compiled(_mask_row), compiled(_values)


def _query(sizes, places, lead, head, i, scale, scratch):
    """The result of query ``i`` of a head."""
    _, queries, keys, size, value_size, causal, kind = sizes
    scores = scratch + 4 * size
    sums = scores + 4 * (keys + LANES)
    top, total, inverse = sums + 4 * value_size, sums + 4 * (value_size + 1), sums + 4 * (value_size + 2)
    k_row, v_row = places[1, 1] // 4, places[2, 1] // 4
    k, v = of_head(places[1], lead, head), of_head(places[2], lead, head)
    given, column = floats(of_head(places[0], lead, head) + i * places[0, 1]), places[0, 2] // 4
    scaled, added = floats(scratch), floats(sums)
    for d in range(size):
        scaled[d] = given[d * column] * scale
    for d in range(value_size):
        added[d] = ZERO
    visible = min(keys, i + 1) if causal else keys
    scores_of(scratch, size, k, k_row, visible, scores)
    if kind:
        mask_row(scores, visible, of_head(places[3], lead, head) + i * places[3, 1], places[3, 2], kind)
    weigh(scores, (visible + LANES - 1) // LANES, top, total)
    for start in range(0, visible, KEYS):  # sums of blocks, which have smaller errors than one long sum
        add_weighted(scores + 4 * start, min(KEYS, visible - start), v + 4 * start * v_row, v_row, value_size, sums)
    finish(top, total, inverse, places[5, 0] + 4 * (head * queries + i), 1, 1)
    result, factor = floats(of_head(places[4], lead, head) + i * places[4, 1]), floats(inverse)[0]
    for d in range(value_size):
        result[d] = added[d] * factor


query = compiled(_query)


def _attend_few(sizes, places, lead, scale, scratch, taken):
    """Queries one by one, as long as there are any."""
    heads, queries = sizes[0], sizes[1]
    unit = take(taken)
    while unit < heads * queries:
        query(sizes, places, lead, unit // queries, unit % queries, scale, scratch)
        unit = take(taken)


attend_few = compiled(_attend_few)


def _attend_few_in_parallel(sizes, places, lead, scale, scratch, taken, stride, threads):
    for thread in prange(threads):
        attend_few(sizes, places, lead, scale, scratch + np.int64(thread) * stride, taken)


attend_few_in_parallel = compiled(_attend_few_in_parallel, options={"parallel": True})
