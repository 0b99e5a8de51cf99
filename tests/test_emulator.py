"""The emulator does what CUDA's manual says, and the wrappers of ptx.cuh do so on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scratchgen.kernels.emulate import EmulatorError, emulator
from scratchgen.kernels.launch import Changed, Module, Out

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator compiles with g++")

UNITS = Module(
    str(Path(__file__).parent / "emulator" / "units.cu"),
    *(f"shuffles<{t}>" for t in ("float", "double")),
    *(f"{way}<{t}>" for way in ("widen", "narrow") for t in ("half_t", "bfloat_t")),
    *(f"tensor_16<{t}>" for t in ("half_t", "bfloat_t")),
    *("votes", "quarters", "warp_exchange", "tensor_tf32", "pipeline", "histogram", "in_dynamic_shared", "where_am_i"),
    *("strided", "packed", "transpose<32>", "transpose<33>", "order_of_warps"),
)
SCHEDULES = pytest.mark.parametrize("schedule", [0, 1, 2, 3])


def bfloat(x: np.ndarray) -> np.ndarray:
    """float32 numbers as the bits of bfloat16, rounded to the nearest even."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


@SCHEDULES
@pytest.mark.parametrize(("name", "dtype"), [("float", np.float32), ("double", np.float64)])
@pytest.mark.parametrize("width", [32, 8])
def test_shuffles(schedule, name, dtype, width):
    x = np.random.default_rng(0).standard_normal(96).astype(dtype)
    xored, downed, upped, sent = outs = [np.empty_like(x) for _ in range(4)]
    with emulator(schedule=schedule):
        UNITS.launch(f"shuffles<{name}>", 1, 96, x, *map(Out, outs), np.int32(width))
    groups = x.reshape(-1, width)
    place = np.arange(width)
    np.testing.assert_array_equal(xored, groups[:, place ^ 3].ravel())
    np.testing.assert_array_equal(downed, groups[:, np.where(place + 2 < width, place + 2, place)].ravel())
    np.testing.assert_array_equal(upped, groups[:, np.where(place >= 2, place - 2, place)].ravel())
    np.testing.assert_array_equal(sent, groups[:, [5] * width].ravel())


@SCHEDULES
def test_votes_masks_and_warp_barriers(schedule):
    x = np.array([1, -1] * 16 + [1] * 32 + [0] * 32, np.int32)
    ballot, any_, all_ = np.empty(96, np.uint32), np.empty(96, np.int32), np.empty(96, np.int32)
    with emulator(schedule=schedule):
        UNITS.launch("votes", 1, 96, x, Out(ballot), Out(any_), Out(all_))
        assert ballot[::32].tolist() == [0x55555555, 0xFFFFFFFF, 0]
        assert any_[::32].tolist() == [1, 1, 0]
        assert all_[::32].tolist() == [0, 1, 0]
        values, sums = np.arange(64, dtype=np.float32), np.empty(64, np.float32)
        UNITS.launch("quarters", 1, 64, values, Out(sums))
        np.testing.assert_array_equal(sums, np.repeat(values.reshape(-1, 8).sum(1), 8))
        UNITS.launch("warp_exchange", 1, 64, values, Out(sums))
        np.testing.assert_array_equal(sums, values.reshape(2, 32)[:, ::-1].ravel())


def test_half_precision_to_the_last_bit():
    every = np.arange(1 << 16, dtype=np.uint16)
    wide = np.empty(1 << 16, np.float32)
    UNITS.launch("widen<half_t>", 256, 256, every, Out(wide), np.int32(1 << 16))
    np.testing.assert_array_equal(wide, every.view(np.float16).astype(np.float32))
    UNITS.launch("widen<bfloat_t>", 256, 256, every, Out(wide), np.int32(1 << 16))
    np.testing.assert_array_equal(wide.view(np.uint32), every.astype(np.uint32) << 16)

    rng = np.random.default_rng(1)
    finite_half = every.view(np.float16)[np.isfinite(every.view(np.float16))].astype(np.float32)
    x = np.concatenate([
        rng.integers(0, 1 << 32, 5000, np.uint64).astype(np.uint32).view(np.float32),
        finite_half * np.float32(1 + 2**-11),  # half-way between neighbours
        rng.standard_normal(2000).astype(np.float32) * np.float32(2.0**-20),  # subnormal
        np.array([0, -0.0, 65504, 65519.996, 65520, np.inf, -np.inf, np.nan], np.float32),
    ])  # fmt: skip
    half, brain = np.empty(x.size, np.uint16), np.empty(x.size, np.uint16)
    UNITS.launch("narrow<half_t>", -(-x.size // 256), 256, x, Out(half), np.int32(x.size))
    UNITS.launch("narrow<bfloat_t>", -(-x.size // 256), 256, x, Out(brain), np.int32(x.size))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(half.view(np.float16), x.astype(np.float16))
    finite = ~np.isnan(x)
    np.testing.assert_array_equal(brain[finite], bfloat(x[finite]))
    assert np.isnan(from_bfloat(brain[~finite])).all()


@SCHEDULES
def test_tensor_cores(schedule):
    rng = np.random.default_rng(2)
    a, b, c = rng.standard_normal((16, 16)), rng.standard_normal((16, 8)), np.empty((16, 8), np.float32)
    half = [v.astype(np.float16) for v in (a, b)]
    brain = [bfloat(v) for v in (a, b)]
    with emulator(schedule=schedule):
        UNITS.launch("tensor_16<half_t>", 1, 32, *half, Out(c))
        np.testing.assert_allclose(c, np.matmul(*(v.astype(np.float64) for v in half)), atol=3e-6)
        UNITS.launch("tensor_16<bfloat_t>", 1, 32, *brain, Out(c))
        np.testing.assert_allclose(c, np.matmul(*(from_bfloat(v).astype(np.float64) for v in brain)), atol=3e-6)
        left, right = a[:, :8].astype(np.float32), b[:8].astype(np.float32)
        UNITS.launch("tensor_tf32", 1, 32, left, right, Out(c))
    exact = left.astype(np.float64) @ right
    error = np.abs(c - exact).max()
    assert 1e-5 < error < 5e-3, "11 bits of the operands count, no more and no fewer"


@SCHEDULES
@pytest.mark.parametrize("n", [4, 127, 128, 130, 515])
def test_asynchronous_copies_come_late_and_are_filled_up_with_zeros(schedule, n):
    x, y = np.random.default_rng(n).standard_normal(n).astype(np.float32), np.empty(128, np.float32)
    with emulator(schedule=schedule):
        UNITS.launch("pipeline", 1, 128, x, Out(y), np.int32(n))
    padded = np.zeros((-(-n // 128), 128))
    padded.ravel()[:n] = x
    np.testing.assert_allclose(y, padded.sum(0)[::-1], rtol=1e-5, atol=1e-6)


@SCHEDULES
def test_atomics_dynamic_shared_memory_and_indices(schedule):
    x = np.random.default_rng(3).integers(0, 10, 1000).astype(np.int32)
    counts, largest = np.zeros(10, np.int32), np.zeros(1, np.int32)
    with emulator(schedule=schedule):
        UNITS.launch("histogram", 8, 128, x, Changed(counts), Changed(largest), np.int32(1000))
        np.testing.assert_array_equal(counts, np.bincount(x, minlength=10))
        assert largest[0] == x.max()
        values, turned = np.arange(200, dtype=np.float32), np.empty(200, np.float32)
        UNITS.launch("in_dynamic_shared", 1, 200, values, Out(turned), shared=800)
        np.testing.assert_array_equal(turned, values[::-1])
        with pytest.raises(EmulatorError, match="shared memory, which has 796"):
            UNITS.launch("in_dynamic_shared", 1, 200, values, Out(turned), shared=796)
        places = np.empty(24 * 30, np.int32)
        UNITS.launch("where_am_i", (2, 3, 4), (5, 3, 2), Out(places))
        np.testing.assert_array_equal(places.reshape(24, 30), 1000 * np.arange(24)[:, None] + np.arange(30))


def test_schedules_differ_and_repeat():
    def order(schedule: int) -> tuple[int, ...]:
        place = np.empty(256, np.int32)
        with emulator(schedule=schedule):
            UNITS.launch("order_of_warps", 1, 256, Changed(np.zeros(1, np.int32)), Out(place))
        return tuple(place[::32])

    assert order(0) == tuple(range(8))
    assert len({order(seed) for seed in range(10)}) > 5
    assert order(3) == order(3)


def test_the_model_of_memory_counts_sectors_and_bank_conflicts():
    counted = []
    x, y = np.zeros(1024, np.float32), np.empty(32, np.float32)
    with emulator(counters=counted):
        UNITS.launch("strided", 1, 32, x, Out(y), np.int32(1))
        UNITS.launch("strided", 1, 32, x, Out(y), np.int32(32))
        UNITS.launch("packed", 1, 32, x[:128], Out(np.empty(128, np.float32)))
        for width in (32, 33):
            UNITS.launch(f"transpose<{width}>", 1, 32, x, Out(np.empty(1024, np.float32)))
    dense, sparse, packs, conflicts, padded = counted
    assert (dense.global_read, dense.global_written, dense.global_requests) == (128, 128, 2)
    assert (dense.global_sectors, dense.ideal_sectors) == (8, 8)
    assert (sparse.global_sectors, sparse.ideal_sectors) == (32 + 4, 8)
    assert (packs.global_read, packs.global_requests, packs.global_sectors) == (512, 2, 32)
    assert (conflicts.shared_requests, conflicts.shared_passes) == (64, 32 + 32 * 32)
    assert (padded.shared_requests, padded.shared_passes) == (64, 64)
    assert padded.barriers == 1


def test_arguments_that_do_not_fit_are_refused():
    x, y = np.zeros(32, np.float32), np.empty(32, np.float32)
    with pytest.raises(TypeError, match="strided takes 3 arguments, got 2"):
        UNITS.launch("strided", 1, 32, x, Out(y))
    with pytest.raises(TypeError, match="parameter 2 is a signed integer of 4 bytes, got int64"):
        UNITS.launch("strided", 1, 32, x, Out(y), np.int64(1))
    with pytest.raises(TypeError, match="parameter 0 is a pointer to const 4 bytes, got an array of float64"):
        UNITS.launch("strided", 1, 32, x.astype(np.float64), Out(y), np.int32(1))
    with pytest.raises(TypeError, match="parameter 0 is a pointer to const"):
        UNITS.launch("strided", 1, 32, Out(x), Out(y), np.int32(1))
    with pytest.raises(ValueError, match="must be contiguous"):
        UNITS.launch("strided", 1, 16, x[::2], Out(y), np.int32(1))
    y.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        UNITS.launch("strided", 1, 32, x, Out(y), np.int32(1))
    with pytest.raises(KeyError, match="has no kernel 'stridden'"):
        UNITS.launch("stridden", 1, 32, x)


def test_a_block_of_more_threads_or_memory_than_a_gpu_has_is_refused():
    with pytest.raises(ValueError, match="1,025 threads; a block has at most 1,024"):
        UNITS.launch("where_am_i", 1, 1025, Out(np.empty(1025, np.int32)))
    with pytest.raises(ValueError, match="232,449 bytes of shared memory"):
        UNITS.launch("in_dynamic_shared", 1, 32, np.zeros(32, np.float32), Out(np.empty(32, np.float32)), shared=232449)


def test_a_view_lies_as_misaligned_as_it_would_on_a_gpu():
    base, y = np.zeros(129, np.float32), np.empty(128, np.float32)
    UNITS.launch("packed", 1, 32, base[:128], Out(y))
    with pytest.raises(EmulatorError, match="misaligned"):
        UNITS.launch("packed", 1, 32, base[1:], Out(y))


def test_without_a_compiler_one_clear_sentence():
    code = "import scratchgen as sg; sg.rand(3, device='emu')"
    env = {**os.environ, "CXX": "no-such-compiler"}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (
        "RuntimeError: device 'emu' compiles CUDA kernels with no-such-compiler, which is not on the path" in ran.stderr
    )


def test_a_source_that_does_not_compile_says_where(tmp_path):
    (tmp_path / "broken.cu").write_text('#include "ptx.cuh"\n__global__ void broken(float* y) { y[0] = nothing; }\n')
    with pytest.raises(RuntimeError, match=r"(?s)could not compile.*broken.cu:2.*nothing"):
        Module(str(tmp_path / "broken.cu"), "broken").launch("broken", 1, 1, Out(np.empty(1, np.float32)))
