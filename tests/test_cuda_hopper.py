"""Hopper's rung of the ladders in the emulator: every layout and length, what memory sees, and where it is chosen."""

from __future__ import annotations

import ctypes
import shutil
import types
from itertools import product as every
from typing import Any

import fake_cupy
import numpy as np
import pytest
from operands import error_of, mask_of, operand

import scratchgen as sg
from scratchgen import kernels
from scratchgen.kernels import gates, tensor_map
from scratchgen.kernels.attention import cuda as attention
from scratchgen.kernels.attention import cuda_hopper as attention_hopper
from scratchgen.kernels.attention.reference import scaled_dot_product_attention
from scratchgen.kernels.emulate import emulator
from scratchgen.kernels.launch import Module
from scratchgen.kernels.matmul import cuda, cuda_hopper
from scratchgen.kernels.tensor_map import Boxes

emulates = pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator compiles with g++")

SCHEDULES = (1, 2, 3)
ERRORS = {"tf32": 1e-3, "float16": 1e-3, "bfloat16": 6e-3}
# m, k, n: rows that begin at multiples of 16 bytes and such that do not, a panel or several, fewer than places and
# more, several tiles
SHAPES = ((1, 1, 1), (5, 7, 3), (70, 51, 90), (33, 424, 40), (136, 72, 264))


def dtype_of(precision: str) -> Any:
    if precision == "bfloat16":
        return pytest.importorskip("ml_dtypes").bfloat16
    return np.dtype({"tf32": "float32"}.get(precision, precision))


def counted(call: Any, *arguments: Any, **how: Any) -> Any:
    counters: list = []
    with emulator(counters=counters):
        call(*arguments, **how)
    return counters[0]


# --- products of matrices


@emulates
@pytest.mark.parametrize("precision", ERRORS)
def test_every_layout_and_ragged_size(precision):
    """Under each schedule, with narrow and with wide tiles; the same bits whatever the schedule."""
    dtype, rng = dtype_of(precision), np.random.default_rng(0)
    for (m, k, n), a_turned, b_turned in every(SHAPES, (False, True), (False, True)):
        a, b = operand(rng, m, k, a_turned, dtype), operand(rng, k, n, b_turned, dtype)
        truth = a.astype(np.float64) @ b.astype(np.float64)
        for columns in cuda_hopper.COLUMNS:
            seen = set()
            for schedule in SCHEDULES:
                with emulator(schedule=schedule):
                    got, _ = cuda_hopper.product(a, b, columns=columns)
                assert error_of(got, truth) < ERRORS[precision], (m, k, n, a_turned, b_turned, columns, schedule)
                seen.add(got.tobytes())
            assert len(seen) == 1


@emulates
@pytest.mark.parametrize("precision", ["tf32", "float16"])
def test_batches_a_divided_depth_and_what_follows_the_product(precision):
    """One matrix for all of a batch, parts added up in their order, bias, activation and residual."""
    rng, dtype = np.random.default_rng(1), dtype_of(precision)
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in ((2, 20, 777), (777, 37)))
    bias, residual = rng.standard_normal(37).astype(dtype), rng.standard_normal((2, 20, 37)).astype(dtype)
    z = a.astype(np.float64) @ b.astype(np.float64) + bias
    for splits, more in every((1, 5), (residual, None)):
        truth = np.maximum(z, 0) + (0 if more is None else more)
        seen = set()
        for schedule in SCHEDULES:
            with emulator(schedule=schedule):
                got, kept = cuda_hopper.product(a, b, bias, more, activation="relu", keep=True, splits=splits)
            assert error_of(got, truth) < ERRORS[precision]
            assert error_of(kept, z) < ERRORS[precision]
            seen.add(got.tobytes())
        assert len(seen) == 1
    assert cuda.splits_for(blocks=4, panels=1000, enough=132) == 33
    assert cuda.splits_for(blocks=150, panels=1000, enough=132) == cuda.splits_for(blocks=1, panels=15) == 1
    empty = cuda_hopper.product(np.ones((2, 3, 0), np.float16), np.ones((0, 4), np.float16))[0]
    assert empty.shape == (2, 3, 4)
    assert not empty.any()


@emulates
@pytest.mark.parametrize(("precision", "columns"), [*every(["float16"], cuda_hopper.COLUMNS), ("tf32", 128)])
def test_no_bank_conflicts_and_each_operand_once_a_tile(precision, columns):
    rng, dtype = np.random.default_rng(2), dtype_of(precision)
    m, k, n = 256, 64, 256
    for a_turned, b_turned in every((False, True), (False, True)):
        a, b = operand(rng, m, k, a_turned, dtype), operand(rng, k, n, b_turned, dtype)
        c = counted(cuda_hopper.product, a, b, columns=columns, splits=1)
        assert c.shared_passes == c.shared_requests
        assert c.global_sectors == c.ideal_sectors
        assert c.tensor_flops == 2 * m * k * n
        assert c.global_read == a.nbytes * (n // columns) + b.nbytes * (m // cuda_hopper.ROWS)
        assert c.barriers == (m // cuda_hopper.ROWS) * (n // columns)  # one, before anything has begun
        # Each warpgroup reads its half of a and all of b, and every result goes out through shared memory, in float32.
        assert c.shared_read == c.global_read + b.nbytes * (m // cuda_hopper.ROWS) + 4 * m * n


# --- attention

# queries, keys, width of q and k, of v; causal; mask: as in test_cuda_attention.py, and lengths of several blocks
LENGTHS = (
    (5, 7, 8, 3, False, "numbers"),
    (70, 75, 20, 13, True, "bools"),
    (37, 130, 40, 64, False, "padding"),
    (67, 33, 128, 100, True, None),
    (200, 300, 64, 64, True, None),
    (129, 257, 128, 128, False, "padding"),
)


@emulates
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", LENGTHS, ids=lambda case: f"{case[:4]}{case[5]}")
def test_attention_of_ragged_lengths_and_every_mask(case, precision):
    """y and lse, under each schedule; the same bits whatever the schedule; lse that of the rung below."""
    queries, keys, width, values, causal, kind = case
    dtype, rng, lead = dtype_of(precision), np.random.default_rng(3), (2, 2)
    sizes = ((queries, width), (keys, width), (keys, values))
    q, k, v = (rng.standard_normal((*lead, *size)).astype(dtype) for size in sizes)
    mask, how = mask_of(kind, rng, (*lead, queries, keys), dtype), {"is_causal": causal, "scale": width**-0.5}
    wide = [None if a is None else a if a.dtype == bool else a.astype(np.float64) for a in (q, k, v, mask)]
    truths, seen = scaled_dot_product_attention(*wide, **how), set()
    for schedule in SCHEDULES:
        with emulator(schedule=schedule):
            got = attention_hopper.attend(q, k, v, mask, **how)
        open_rows = np.isfinite(truths[1])
        assert (np.isfinite(got[1]) == open_rows).all()
        assert error_of(got[0], truths[0]) < {"float16": 1e-3, "bfloat16": 6e-3}[precision]
        assert error_of(got[1][open_rows], truths[1][open_rows]) < 1e-6
        seen.add(got[0].tobytes() + got[1].tobytes())
    assert len(seen) == 1
    below = attention.attend(q, k, v, mask, form=attention.Form(True), **how)
    np.testing.assert_allclose(got[1], below[1], rtol=1e-5, atol=1e-5)


@emulates
def test_attention_of_shared_heads_is_the_same_and_fetches_them_for_each():
    rng = np.random.default_rng(4)
    q, k, v = (rng.standard_normal((1, heads, 33, 64)).astype(np.float16) for heads in (4, 2, 2))
    spread = [np.broadcast_to(x[:, :, None], (1, 2, 2, 33, 64)) for x in (k, v)]
    how = {"mask": None, "is_causal": True, "scale": 0.125}
    got = attention_hopper.attend(q.reshape(1, 2, 2, 33, 64), *spread, **how)
    apart = attention_hopper.attend(q, *(np.ascontiguousarray(x).reshape(1, 4, 33, 64) for x in spread), **how)
    for a, b in zip(got, apart):
        np.testing.assert_array_equal(a.reshape(b.shape), b)


@emulates
@pytest.mark.parametrize("head", attention_hopper.HEADS)
def test_attention_reads_each_block_once_without_bank_conflicts(head):
    q = np.random.default_rng(5).standard_normal((1, 256, head)).astype(np.float16)
    c = counted(attention_hopper.attend, q, q, q, None, is_causal=False, scale=0.1)
    causal = counted(attention_hopper.attend, q, q, q, None, is_causal=True, scale=0.1)
    assert c.shared_passes == c.shared_requests
    assert c.global_sectors == c.ideal_sectors
    assert c.global_read == 5 * q.nbytes  # queries once, keys and values for each of two blocks
    assert c.tensor_flops == 4 * 256 * 256 * head
    assert causal.tensor_flops == c.tensor_flops * 3 / 4  # of 2 x 2 blocks
    # Both warpgroups of both blocks read all keys and values, and each its queries for both blocks of keys; results go
    # through shared memory.
    assert c.shared_read == (4 + 4 + 2 + 1) * q.nbytes
    assert c.shared_written == (5 + 1) * q.nbytes + 2 * 9 * 8  # and nine barriers in each block


# --- where it is chosen, and how it gets to a GPU


def test_it_is_chosen_where_the_gpu_has_its_instructions(monkeypatch):
    with fake_cupy.installed() as cupy:
        a, few = (cupy.asarray(np.ones(shape, np.float16)) for shape in ((128, 64), (16, 64)))
        wide = a.astype(np.float32)

        def chosen(*arrays: Any, op: str = "matmul", device: str = "cuda", prefer: str | None = None) -> str:
            return kernels.select(op, device, arrays, {}, prefer).impl

        assert chosen(a, a.T) == "cuda"
        monkeypatch.setattr(fake_cupy, "CAPABILITY", "90")
        assert chosen(a, a.T) == chosen(a, a.T, op="linear") == "cuda-wgmma"
        attend = {"op": "scaled_dot_product_attention"}
        assert (chosen(a, a, a, None, **attend), chosen(few, a, a, None, **attend)) == ("cuda-wgmma", "cuda")
        assert chosen(few, a.T) == "cuda"  # it would leave most of a tile empty
        assert chosen(few, prefer="cuda-wgmma", op="linear_vjp") == "cuda-wgmma"  # what forward has chosen
        assert chosen(wide, wide.T) == "cuda"
        monkeypatch.setattr("scratchgen.kernels.precision._chosen", "tf32")
        assert chosen(wide, wide.T) == "cuda-wgmma-tf32"
    here = np.ones((128, 64), np.float16)
    assert chosen(here, here.T, device="emu") == "cuda"
    with kernels.use(matmul="cuda-wgmma"):
        assert chosen(here, here.T, device="emu") == "cuda-wgmma"


@emulates
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_on_cupy_arrays_it_does_the_same(dtype):
    """Through tensor maps, of which the stand-in's driver tells the emulator: to the last bit what ``emu`` returns."""
    rng = np.random.default_rng(6)
    a, b, q = (rng.standard_normal(shape).astype(dtype) for shape in ((2, 70, 51), (51, 40), (2, 3, 40, 24)))
    calls = [(cuda_hopper.product, (a, b), {})]
    if dtype is np.float16:
        calls.append((attention_hopper.attend, (q, q, q, None), {"is_causal": True, "scale": 0.2}))
    here = [call(*arrays, **how)[0] for call, arrays, how in calls]
    with fake_cupy.installed() as cupy:
        there = [call(*(x if x is None else cupy.asarray(x) for x in arrays), **how)[0] for call, arrays, how in calls]
        for mine, other in zip(here, there):
            np.testing.assert_array_equal(mine, other.get())


@emulates
def test_a_layer_that_is_asked_for_it_has_its_gradients_by_it_too(monkeypatch):
    ran = []
    original = Module.launch
    monkeypatch.setattr(Module, "launch", lambda self, name, *a, **k: (ran.append(name), original(self, name, *a, **k)))
    numbers = np.random.default_rng(7).standard_normal((2, 9, 16))
    x, w = (sg.tensor(v, device="emu", requires_grad=True) for v in numbers)
    with kernels.use(linear="cuda-wgmma"):
        y = sg.nn.functional.linear(x.to(sg.float16), w.to(sg.float16))
    y.square().sum().backward()
    truth = x.array @ w.array.T
    assert error_of(y.array, truth) < 1e-3
    assert error_of(w.grad.array, 2 * truth.T @ x.array) < 2e-3
    assert sum(name.startswith("matmul_hopper<") for name in ran) == 3


def test_its_status_is_that_of_its_own_sources():
    for name, module in (("cuda", "cuda"), ("cuda-wgmma", "cuda_hopper")):
        kernel = kernels.implementations("linear", "emu")[name]
        assert kernel.fn.__module__ == f"scratchgen.kernels.matmul.{module}"
        assert gates.status(kernel) == "compiled, emulated"


def test_a_tensor_map_is_asked_of_the_driver(monkeypatch):
    asked = []

    def encode(place: Any, kind: int, rank: int, address: Any, *rest: Any) -> int:
        sizes = [tuple(v) if isinstance(v, ctypes.Array) else v for v in rest]
        asked.append((place.value % 64, kind, rank, address.value, *sizes))
        ctypes.memset(place, 7, 128)
        return 0 if len(asked) < 3 else 1

    monkeypatch.setattr(tensor_map, "_driver", lambda: types.SimpleNamespace(cuTensorMapEncodeTiled=encode))
    x = types.SimpleNamespace(shape=(3, 50, 88), itemsize=2, dtype=np.dtype(np.float16),
                              data=types.SimpleNamespace(ptr=1 << 20))  # fmt: skip
    made = Boxes(x, (40, 64)).encoded()
    assert (made.dtype.itemsize, bytes(made)) == (128, b"\7" * 128)
    assert asked == [
        (0, 6, 3, 1 << 20, (88, 50, 3), (176, 8800), (64, 40, 1), (1, 1, 1), 0, 3, 3, 0)
    ]  # fmt: skip
    x.shape, x.itemsize, x.dtype = (50, 88), 4, np.dtype(np.float32)
    Boxes(x, (40, 32), swizzled=False, to_tf32=True).encoded()
    assert asked[1] == (0, 11, 3, 1 << 20, (88, 50, 1), (352, 17600), (32, 40, 1), (1, 1, 1), 0, 0, 3, 0)
    with pytest.raises(RuntimeError, match=r"no tensor map of float32\[50, 88\]: error 1"):
        Boxes(x, (40, 32)).encoded()
