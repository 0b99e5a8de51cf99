"""Attention, forward, step by step up to the kernel that runs; for study, each tested and timed. README.md compares.

``loops``, then ``blas``, then the loops of forward.py with parts of them in plainer form: ``panels`` has no generated
code, ``tiles`` has generated products but a softmax of one pass after the other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..registry import kernel
from ..vecmath import exp, vector
from . import forward
from .cpu import attention_by, enough_to_attend
from .panels import LN2, NARROW, ROWS, WIDE, ZERO, compiled, on_panels
from .reference import value_cost
from .vectors import floats

_study: dict[str, Any] = {"device": "cpu", "dtypes": "f4", "study": True, "cost": value_cost}


# --- loops: a query at a time


def _loops(q, k, v, causal, scale, y, lse):
    weights = np.empty(k.shape[1], np.float32)
    for head in range(q.shape[0]):
        for i in range(q.shape[1]):
            visible = min(i + 1, k.shape[1]) if causal else k.shape[1]
            top = -np.inf
            for j in range(visible):
                score = np.float32(0)
                for d in range(q.shape[2]):
                    score += q[head, i, d] * k[head, j, d]
                weights[j] = score * scale
                top = max(top, weights[j])
            total = np.float32(0)
            for j in range(visible):
                weights[j] = math.exp(weights[j] - top)
                total += weights[j]
            for d in range(v.shape[2]):
                value = np.float32(0)
                for j in range(visible):
                    value += weights[j] * v[head, j, d]
                y[head, i, d] = value / total
            lse[head, i] = top + math.log(total)


_compiled_loops = compiled(_loops)


def _without_mask(q: Any, k: Any, v: Any, mask: Any, *, is_causal: bool, scale: float) -> bool:
    return mask is None and min(q.size, k.size, v.size) > 0


@kernel("scaled_dot_product_attention", impl="loops", when=_without_mask, **_study)
def loops(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: None, *, is_causal: bool, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Three loops over numbers, and the textbook's softmax."""
    heads = [np.ascontiguousarray(x).reshape(-1, *x.shape[-2:]) for x in (q, k, v)]
    y, lse = np.empty((*q.shape[:-1], v.shape[-1]), np.float32), np.empty(q.shape[:-1], np.float32)
    _compiled_loops(*heads, is_causal, np.float32(scale), y.reshape(-1, *y.shape[-2:]), lse.reshape(-1, q.shape[-2]))
    return y, lse


# --- blas: whole matrices of weights


@kernel("scaled_dot_product_attention", impl="blas", when=_without_mask, **_study)
def blas(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: None, *, is_causal: bool, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Two products of matrices with a softmax between, each a pass or more over all weights; causal ones are wasted."""
    scores = (q * np.float32(scale)) @ k.swapaxes(-1, -2)
    if is_causal:
        scores[..., ~np.tri(*scores.shape[-2:], dtype=np.bool_)] = -np.inf
    top = scores.max(-1, keepdims=True)
    weights = np.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    return weights @ v / total, (top + np.log(total))[..., 0]


# --- panels and tiles: forward.py in plainer form

PANEL = 0  # `on_panels` gives it its value


def _plain_product(a, a_row, a_column, b, c, depth, rows):
    left, panel, out = floats(a), floats(b), floats(c)
    for i in range(rows):
        for j in range(PANEL):
            out[i * PANEL + j] = ZERO
        for k in range(depth):
            factor = left[i * a_row + k * a_column]
            for j in range(PANEL):
                out[i * PANEL + j] += factor * panel[k * PANEL + j]


def _plain_product_add(a, a_row, a_column, b, b_row, c, c_row, depth, rows):
    left, panel, out = floats(a), floats(b), floats(c)
    for i in range(rows):
        for k in range(depth):
            factor = left[i * a_row + k * a_column]
            for j in range(PANEL):
                out[i * c_row + j] += factor * panel[k * b_row + j]


@vector
def _exp2(x):
    return exp(x * LN2)


def _pass_after_pass(scores, groups, top, total, change):
    """What ``weigh`` does: maximum, difference, exponential and sum, each over the whole panel."""
    score, tops, totals, changes = floats(scores), floats(top), floats(total), floats(change)
    rows = groups * ROWS
    for j in range(PANEL):
        changes[j] = tops[j]
    for i in range(rows):
        for j in range(PANEL):
            tops[j] = score[i * PANEL + j] if score[i * PANEL + j] > tops[j] else tops[j]
    for i in range(rows):
        for j in range(PANEL):
            score[i * PANEL + j] -= tops[j]
    for i in range(rows * PANEL):
        score[i] = _exp2(score[i])
    for j in range(PANEL):
        changes[j] = _exp2(changes[j] - tops[j])
        totals[j] *= changes[j]
    for i in range(rows):
        for j in range(PANEL):
            totals[j] += score[i * PANEL + j]


def _attend_with(step: str, **plainer: Any) -> Any:
    """The loops of ``forward`` with these functions in place of generated code."""

    def block(count: int) -> Any:
        names = on_panels(count)
        variant = f"{step}_{count}_"
        own = {name: compiled(body, variant, PANEL=names["PANEL"]) for name, body in plainer.items()}
        return compiled(forward._block, variant, **{**names, **own})

    sizes = {f.__name__: compiled(f) for f in (forward.together, forward.scratch_floats)}
    return compiled(forward._attend, f"{step}_", wide_block=block(WIDE), narrow_block=block(NARROW), **sizes)


_panels = _attend_with("panels", product=_plain_product, product_add=_plain_product_add, weigh=_pass_after_pass)
_tiles = _attend_with("tiles", weigh=_pass_after_pass)


@kernel("scaled_dot_product_attention", impl="panels", when=enough_to_attend, **_study)
def panels(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None, *, is_causal: bool, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of scores that stay in the cache; LLVM finds the vectors."""
    return attention_by(_panels, None, q, k, v, mask, is_causal, scale, threads=1)


@kernel("scaled_dot_product_attention", impl="tiles", when=enough_to_attend, **_study)
def tiles(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None, *, is_causal: bool, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Products in registers by the generated tiles."""
    return attention_by(_tiles, None, q, k, v, mask, is_causal, scale, threads=1)
