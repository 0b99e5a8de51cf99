"""Kernels that take many arrays in one launch: Adam, moving averages, clipping; and dropout, bit by bit."""

from __future__ import annotations

import shutil
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import scratchgen as sg
from scratchgen import kernels
from scratchgen.kernels.emulate import EmulatorError, emulator
from scratchgen.kernels.launch import Changed, Module
from scratchgen.kernels.tables import BLOCK_SHARE, MOST_ARRAYS, THREADS, alike, tables

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator compiles with g++")

SCHEDULES = (0, 1, 2, 3)
DTYPES = {"float32": (np.float32, 2e-6), "float16": (np.float16, 1e-3), "bfloat16": (ml_dtypes.bfloat16, 8e-3)}
# Less than a pack, a whole share and one element more, several shares; and more arrays than one launch takes.
SIZES = [1, 7, BLOCK_SHARE, BLOCK_SHARE + 1, 2 * BLOCK_SHARE + 100, 0, *[3] * MOST_ARRAYS]


def drawn(dtype: Any, seed: int, positive: bool = False) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    found = [rng.standard_normal(size).astype(dtype) for size in SIZES]
    found[0] = rng.standard_normal(5).astype(dtype)[1:2]  # begins at no multiple of 16 bytes
    return [(np.abs(a) + dtype(0.5)).astype(dtype) for a in found] if positive else found


def close(got: list[np.ndarray], truth: list[np.ndarray], tolerance: float) -> bool:
    return all(
        np.abs(a.astype(np.float64) - b).max(initial=0) <= tolerance * max(np.abs(b).max(initial=0), 1)
        for a, b in zip(got, truth, strict=True)
    )


def wide(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [a.astype(np.float64) for a in arrays]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_of_many_parameters(dtype, decoupled):
    dtype, tolerance = DTYPES[dtype]
    options = {"step": 3, "lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "decoupled": decoupled}
    ops = kernels.implementations("adam_many", "emu")
    columns = [drawn(dtype, i, positive=i == 3) for i in range(4)]
    truth = [wide(column) for column in columns]
    ops["reference"].fn(*truth, **options)
    seen = set()
    for schedule in SCHEDULES:
        mine = [[a.copy() for a in column] for column in columns]
        with emulator(schedule=schedule):
            ops["cuda"].fn(*mine, **options)
        assert all(close(got, right, tolerance) for got, right in zip(mine, truth))
        assert all(np.array_equal(a, b) for a, b in zip(mine[1], columns[1])), "gradients stay as they are"
        seen.add(b"".join(a.tobytes() for column in mine for a in column))
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_moving_averages_of_many(dtype):
    dtype, tolerance = DTYPES[dtype]
    averages, values = drawn(dtype, 1), drawn(dtype, 2)
    truth = [0.9 * a + 0.1 * b for a, b in zip(wide(averages), wide(values))]
    for schedule in SCHEDULES:
        mine = [a.copy() for a in averages]
        with emulator(schedule=schedule):
            kernels.implementations("ema_many", "emu")["cuda"].fn(mine, values, decay=0.9)
        assert close(mine, truth, tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_norm_of_many_and_scaling_them(dtype):
    dtype, tolerance = DTYPES[dtype]
    arrays = drawn(dtype, 1)
    truth = np.sqrt(sum(np.square(a).sum() for a in wide(arrays)))
    norms = set()
    for schedule in SCHEDULES:
        mine = [a.copy() for a in arrays]
        with emulator(schedule=schedule):
            norms.add(kernels.implementations("norm_many", "emu")["cuda"].fn(mine).tobytes())
            kernels.implementations("scale_many", "emu")["cuda"].fn(mine, np.float32(2))
        assert close(mine, [2 * a for a in wide(arrays)], 0)
    assert len(norms) == 1
    assert float(np.frombuffer(norms.pop(), dtype)[0]) == pytest.approx(truth, rel=tolerance)


def test_a_launch_takes_many_arrays():
    counters: list = []
    averages, values = drawn(np.float32, 1), drawn(np.float32, 2)
    with emulator(counters=counters):
        kernels.implementations("ema_many", "emu")["cuda"].fn(averages, values, decay=0.9)
    assert len(counters) == -(-len(SIZES) // MOST_ARRAYS) == 2
    elements = sum(SIZES)
    assert sum(c.global_read for c in counters) == 2 * 4 * elements  # each number once
    assert sum(c.global_written for c in counters) == 4 * elements
    requests = sum(c.global_requests for c in counters)
    assert requests < 3 * (elements / 128 + 3 * len(SIZES)), "16 bytes a lane, but for what is left over"


def test_the_table_is_small_enough_to_travel_with_the_arguments():
    ((table, blocks),) = tables(*[[np.zeros(5000, np.float32)]] * 4)
    assert table.record.nbytes + 64 <= 4096
    assert (blocks, list(table.record["first"][:2])) == (2, [0, 2])


def test_what_is_behind_an_address_is_checked_like_an_argument():
    module = Module("ema/ema.cu", "ema_many<float>")
    average, value = np.zeros(10, np.float32), np.zeros(4, np.float32)
    ((table, blocks),) = tables([Changed(average)], [value])
    with pytest.raises(EmulatorError, match=r"out of bounds.*argument 3, float32\[4\], which has 16"):
        module.launch("ema_many<float>", blocks, THREADS, table, np.float32(0.1))
    ((table, blocks),) = tables([average], [np.zeros(10, np.float32)])
    with pytest.raises(EmulatorError, match="write to an input"):
        module.launch("ema_many<float>", blocks, THREADS, table, np.float32(0.1))
    assert not alike([average], [average.astype(np.float16)])
    assert not alike([np.zeros((4, 4), np.float32).T])


def test_arrays_that_are_no_run_of_numbers_take_the_reference():
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    kernels.implementations("scale_many", "emu")["cuda"].fn([base.T, base[:1]], np.float32(2))
    np.testing.assert_array_equal(base[1:], [[8, 10, 12, 14], [16, 18, 20, 22]])
    assert kernels.implementations("norm_many", "emu")["cuda"].fn([base[:, 0]]) == np.float32(np.sqrt(0 + 64 + 256))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_add_up_in_place(dtype):
    dtype, tolerance = DTYPES[dtype]
    rng = np.random.default_rng(0)
    channels_last = rng.standard_normal((2, 5, 3, 7)).transpose(0, 3, 1, 2)
    for a, b in ((rng.standard_normal(1001), rng.standard_normal(1001)), (channels_last, 2 * channels_last.copy())):
        for schedule in SCHEDULES:
            mine, other = a.astype(dtype), b.astype(dtype)
            with emulator(schedule=schedule):
                got = kernels.implementations("accumulate", "emu")["cuda"].fn(mine, other)
            assert got is mine
            assert close([got], [a + b], 2 * tolerance)


def test_an_optimizer_on_emu_steps_as_on_the_cpu():
    def trained(device):
        sg.manual_seed(0)
        net = sg.nn.Sequential(sg.nn.Linear(6, 5), sg.nn.Linear(5, 3)).to(device)
        optimizer, ema = sg.optim.AdamW(net.parameters(), 0.1), sg.optim.EMA(net, 0.5)
        for _ in range(3):
            optimizer.zero_grad()
            net(sg.ones(4, 6, device=device)).square().sum().backward()
            norm = sg.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            ema.update()
        return [norm, *net.parameters(), *ema.average.values()]

    for a, b in zip(trained("cpu"), trained("emu"), strict=True):
        np.testing.assert_allclose(a.numpy(force=True), b.numpy(force=True), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_dropout_keeps_what_the_cpu_keeps(dtype):
    key = np.array([77], np.uint64)
    for size in (1, 3, 8, 4099):
        for p in (0.1, 0.7):
            x = np.random.default_rng(0).standard_normal(size).astype(dtype)
            attrs = {"key": key, "counter": 2**32 - 2, "p": p}
            here = kernels.implementations("dropout", "cpu")["numba"].fn(x.astype(np.float32), **attrs)
            there = kernels.implementations("dropout", "emu")["cuda"].fn(x, **attrs)
            np.testing.assert_array_equal(there == 0, here == 0)
            np.testing.assert_array_equal(there, here.astype(dtype))
