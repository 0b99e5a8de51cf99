"""Attention's CUDA kernels in the emulator: forward and backward, every mask, ragged lengths, what memory sees."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from operands import mask_of

import scratchgen as sg
from scratchgen.kernels.attention import cuda
from scratchgen.kernels.attention.cuda_vjp import gradients
from scratchgen.kernels.attention.reference import scaled_dot_product_attention, scaled_dot_product_attention_vjp
from scratchgen.kernels.emulate import emulator

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator compiles with g++")

SCHEDULES = (1, 2, 3)
ERRORS = {"float32": 5e-6, "tf32": 2e-3, "float16": 2e-3, "bfloat16": 1e-2}
# queries, keys, width of q and k, of v; causal; mask: each length and width ragged and not, each size of head
CASES = (
    (5, 7, 8, 3, False, "numbers"),
    (64, 64, 32, 32, True, None),
    (70, 75, 20, 13, True, "bools"),
    (37, 130, 40, 64, False, "padding"),
    (67, 33, 128, 100, True, None),
)


def error_of(got: np.ndarray, truth: np.ndarray) -> float:
    finite = np.isfinite(truth)
    assert got.shape == truth.shape
    assert (np.isfinite(got.astype(np.float32)) == finite).all()
    return float(np.abs(got[finite].astype(np.float64) - truth[finite]).max() / np.abs(truth[finite]).max())


@pytest.mark.parametrize("precision", ERRORS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[:4]}{case[5]}")
def test_forward_and_backward(case, precision):
    """Under each schedule; the same bits whatever the schedule."""
    queries, keys, width, values, causal, kind = case
    dtype = {"tf32": "float32"}.get(precision, precision)
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    rng, lead = np.random.default_rng(0), (2, 2)
    sizes = ((queries, width), (keys, width), (keys, values), (queries, values))
    q, k, v, g = (rng.standard_normal((*lead, *size)).astype(dtype) for size in sizes)
    mask, how = mask_of(kind, rng, (*lead, queries, keys), dtype), {"is_causal": causal, "scale": width**-0.5}
    wide = [None if a is None else a if a.dtype == bool else a.astype(np.float64) for a in (q, k, v, mask, g)]
    y, lse = scaled_dot_product_attention(*wide[:4], **how)
    how["needs"] = (True, True, True, kind == "numbers")
    truths = y, lse, *scaled_dot_product_attention_vjp(wide[4], y, *wide[:4], lse, **how)
    seen, tensor = set(), precision != "float32"
    for schedule in SCHEDULES:
        with emulator(schedule=schedule):
            y, lse = cuda.attend(q, k, v, mask, is_causal=causal, scale=how["scale"], form=cuda.Form(tensor))
            got = y, lse, *gradients(g, y, q, k, v, mask, lse, tensor=tensor, **how)
        for a, b in zip(got, truths, strict=True):
            assert (a is None) == (b is None)
            assert a is None or error_of(a, b) < ERRORS[precision]
        seen.add(b"".join(a.tobytes() for a in got if a is not None))
    assert len(seen) == 1


def test_grouped_heads_and_masks_are_not_copied():
    """Heads that share keys find them by a division, masks by their strides, whatever they are broadcast over."""
    k = np.broadcast_to(np.empty((2, 3, 1, 5, 8), np.float32), (2, 3, 4, 5, 8))
    keys, _, shared = cuda.pairs(k, k)
    assert (keys.shape, shared) == ((6, 5, 8), 4)
    full = (2, 3, 7, 5)
    for shape, size, how in (
        ((7, 5), 35, (35, 5, 1, 6, 1)),
        ((2, 1, 1, 5), 10, (5, 0, 1, 3, 2)),
        ((1, 3, 7, 1), 21, (7, 1, 0, 1, 3)),
        ((2, 3, 7, 5), 210, (35, 5, 1, 1, 6)),
    ):
        memory, found = cuda.added(np.broadcast_to(np.ones(shape, np.float32), full))
        assert (memory.size, found) == (size, how)
    assert cuda.added(None) == (None, (0, 0, 0, 1, 1))


def test_grouped_heads_and_second_derivatives_on_emu():
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(shape) for shape in ((1, 4, 5, 8), (1, 2, 6, 8), (1, 2, 6, 4), (5, 6))]

    def orders(device: str, dtype: Any) -> list[np.ndarray]:
        inputs = [sg.tensor(a.astype(dtype), device=device, requires_grad=True) for a in arrays]
        q, k, v, mask = inputs
        y = sg.nn.functional.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
        first = sg.grad((y * y).sum(), inputs, create_graph=True)
        total = (first[0] * first[0]).sum() + (first[1] * first[2].sum()).sum() + (first[3] * first[3]).sum()
        return [t.detach().numpy() for t in (y, *first, *sg.grad(total, inputs))]

    for got, truth in zip(orders("emu", np.float32), orders("cpu", np.float64), strict=True):
        assert error_of(got, truth) < 1e-5


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_no_bank_conflicts_and_whole_sectors(dtype, tensor):
    if dtype is np.float16 and not tensor:
        return
    q, k, v, g = np.random.default_rng(2).standard_normal((4, 1, 64, 64)).astype(dtype)
    how, counters = {"is_causal": False, "scale": 0.1}, []
    with emulator(counters=counters):
        y, lse = cuda.attend(q, k, v, None, form=cuda.Form(tensor), **how)
        gradients(g, y, q, k, v, None, lse, needs=(True, True, True, False), tensor=tensor, **how)
    assert [c.shared_passes - c.shared_requests for c in counters] == [0] * 4
    forward, _, dq, dkv = counters
    assert forward.global_read == 3 * q.nbytes  # a block of queries, each key and value once
    assert dq.global_read == 4 * q.nbytes + 2 * 4 * 64 * 4  # and lse and dots by each lane of a row
    product = 2 * 64 * 64 * 64 if tensor else 0
    split = 3 if dtype is np.float32 else 1  # in TF32 the two products of scores' kind are made of three each
    flops = [2 * product, (2 * split + 1) * product, (2 * split + 2) * product]
    assert [c.tensor_flops for c in (forward, dq, dkv)] == flops
    for c in (forward, dq):
        assert c.global_sectors == c.ideal_sectors


@pytest.mark.parametrize("keys", [2, 3, 40])
def test_gradients_in_tf32_are_right_to_three_digits(keys):
    """Also where dots are nearly as large as what they are subtracted from; rounded once, this reaches 2.9e-3."""
    how: dict[str, Any] = {"is_causal": False, "scale": 0.5, "needs": (True, True, True, False)}
    for seed in range(8):
        rng = np.random.default_rng(seed)
        q, k, v, g = (rng.standard_normal((3, n, 8)).astype(np.float32) for n in (9, keys, keys, 9))
        wide = [a.astype(np.float64) for a in (q, k, v, g)]
        y, lse = scaled_dot_product_attention(*wide[:3], None, is_causal=False, scale=0.5)
        truths = scaled_dot_product_attention_vjp(wide[3], y, *wide[:3], None, lse, **how)
        got = gradients(g, y.astype(np.float32), q, k, v, None, lse.astype(np.float32), tensor=True, **how)
        assert max(error_of(a, b) for a, b in zip(got[:3], truths[:3])) < 1e-3


def test_causal_blocks_beyond_the_diagonal_are_left_out():
    q = np.random.default_rng(3).standard_normal((1, 256, 32)).astype(np.float16)
    flops = []
    for causal in (False, True):
        counters: list = []
        with emulator(counters=counters):
            y, lse = cuda.attend(q, q, q, None, is_causal=causal, scale=0.1, form=cuda.Form(True))
            gradients(q, y, q, q, q, None, lse, is_causal=causal, scale=0.1, needs=(True,) * 3 + (False,), tensor=True)
        flops.append([c.tensor_flops for c in counters])
    for every, some in zip(*flops, strict=True):
        assert some == every * 10 / 16  # of 4 x 4 blocks of 64 those on and below the diagonal


def test_without_the_swizzle_there_are_conflicts():
    q, found = np.ones((1, 64, 64), np.float16), []
    for form in cuda.STEPS.values():
        counters: list = []
        with emulator(counters=counters):
            cuda.attend(q, q, q, None, is_causal=False, scale=0.1, form=form)
        found.append(counters[0].shared_passes / counters[0].shared_requests)
    assert found[0] > 5
    assert found[1] == 1
