"""What the fused and the memory-bound CUDA kernels promise: few bytes moved, 16 at once, and bfloat16."""

from __future__ import annotations

import shutil
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from scratchgen import kernels
from scratchgen.kernels.compare import deviation, drawn, outputs
from scratchgen.kernels.emulate import emulator
from scratchgen.kernels.launch import all_modules

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator compiles with g++")
SCHEDULES = (0, 1, 2, 3)
EPS = 1e-5


def counted(op: str, *arrays: Any, **attrs: Any) -> tuple[list, Any]:
    """The counters of all launches, and what came out."""
    counters: list = []
    with emulator(counters=counters):
        got = kernels.select(op, "emu", arrays, attrs).fn(*arrays, **attrs)
    return counters, got


def image(n: int, c: int, h: int, w: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n, h, w, c), np.float32)
    return x.transpose(0, 3, 1, 2)


def sectors(counters: list) -> int:
    """Bytes of the sectors that warps touch: a number that all lanes read counts once."""
    return 32 * sum(c.global_sectors for c in counters)


def few_requests(counters: list, size: int, passes: int) -> bool:
    """Whether nearly all accesses were of 16 bytes: a warp's request moves 512 of them."""
    return sum(c.global_requests for c in counters) < 1.3 * passes * size / 512


# --- bytes


def test_group_norm_silu_reads_what_it_keeps_once():
    x = image(4, 64, 16, 16)
    (forward,), (_, mean, rstd) = counted("group_norm_silu", x, None, None, num_groups=8, eps=EPS)
    assert forward.kernel == "group_norm<float, 4, true, true>"
    assert (forward.global_read, forward.global_written) == (x.nbytes, x.nbytes + 2 * 4 * 4 * 8)
    assert forward.global_sectors == forward.ideal_sectors
    assert few_requests([forward], x.nbytes, 2)
    g = image(*x.shape, seed=1)
    found, _ = counted("group_norm_silu_vjp", g, None, x, None, None, None, mean, rstd, num_groups=8, eps=EPS)
    assert [c.kernel for c in found] == ["group_norm_vjp<float, 4, true, true>"]
    assert found[0].global_written == x.nbytes
    assert 3 * x.nbytes <= sectors(found) < 1.2 * 3 * x.nbytes  # the statistics of each thread's channels, besides


def test_parameters_gradients_come_from_the_same_pass():
    x, g, weight = image(6, 32, 12, 12), image(6, 32, 12, 12, seed=1), np.ones(32, np.float32)
    _, (_, mean, rstd) = counted("group_norm", x, weight, weight, num_groups=8, eps=EPS)
    found, _ = counted("group_norm_vjp", g, None, x, weight, weight, mean, rstd, num_groups=8, eps=EPS)
    assert [c.kernel.partition("<")[0] for c in found] == ["group_norm_vjp", "column_sums", "column_sums"]
    assert 3 * x.nbytes <= sectors(found) < 1.5 * 3 * x.nbytes


def test_batch_norm_relu_reads_twice_and_writes_once():
    x = image(8, 32, 12, 12)
    found, _ = counted("batch_norm_relu", x, None, None, eps=EPS, slope=0.0)
    assert [c.kernel for c in found] == [
        "batch_norm_moments<float, 4>", "batch_norm_join<float>", "batch_norm_apply<float, 4>",
    ]  # fmt: skip
    assert 3 * x.nbytes <= sectors(found) < 1.3 * 3 * x.nbytes


def test_layer_norm_of_a_sum_is_one_pass_and_its_derivative_two_launches_more():
    x, r, g = (np.random.default_rng(i).standard_normal((64, 1024), np.float32) for i in range(3))
    weight = np.ones(1024, np.float32)
    attrs = {"normalized_shape": (1024,), "eps": EPS}
    (forward,), (y, total, mean, rstd) = counted("layer_norm_residual", x, r, None, None, **attrs)
    assert (forward.global_read, forward.global_written) == (2 * x.nbytes, 2 * x.nbytes + 2 * 4 * 64)
    arrays = (g, g), (y, total), None, None, weight, weight, mean, rstd
    with emulator(counters=(found := [])):
        kernels.implementations("layer_norm_residual_vjp", "emu")["cuda"].fn(*arrays, **attrs)
    # g, the sum and the sum's gradient in; dx out; of each of 64 groups the weight in, and two rows of sums out.
    groups = 64 * 3 * weight.nbytes
    assert 4 * x.nbytes + groups <= sectors(found[:1]) < 1.1 * (4 * x.nbytes + groups)
    assert [c.kernel.partition("<")[0] for c in found[1:]] == ["column_sums"] * 2


KEY = {"key": np.array([3], np.uint64), "counter": 0, "p": 0.1}


@pytest.mark.parametrize(("op", "arrays", "attrs"), [
    ("sum", (np.ones((512, 512), np.float32),), {"dim": (0,), "keepdim": False}),
    ("sum", (np.ones((4, 40_000), np.float32),), {"dim": (1,), "keepdim": False}),
    ("add", (np.ones((512, 512), np.float32), np.ones(512, np.float32)), {}),
    ("cat", (image(2, 32, 16, 16), image(2, 16, 16, 16)), {"dim": 1}),
    ("take_rows", (np.ones((50, 512), np.float32), np.arange(50)), {}),
    ("dropout", (np.ones(70_000, np.float32),), KEY),
])  # fmt: skip
def test_each_number_moves_once_and_16_bytes_at_once(op, arrays, attrs):
    found, y = counted(op, *arrays, **attrs)
    size = sum(a.nbytes for a in arrays if a.dtype == np.float32) + (0 if op == "sum" else y.nbytes)
    (main,) = found if op != "sum" else [max(found, key=lambda c: c.global_read)]
    assert main.global_sectors < 1.1 * main.ideal_sectors
    assert size <= sectors([main]) < 1.2 * size
    assert few_requests([main], size, 1.3)


# --- sizes that the ops' cases do not reach

LARGE = {
    "more positions than registers hold": ((1, 8, 50, 50), 2),
    "some strips left over": ((2, 12, 30, 31), 3),
    "two tiles, the last one narrow": ((1, 200, 5, 9), 25),
    "a group as wide as a block": ((2, 256, 3, 3), 1),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", LARGE)
def test_group_norm_of_other_shapes(name, dtype):
    shape, groups = LARGE[name]
    rng = np.random.default_rng(5)
    x, g = (image(*shape, seed=i).astype(dtype) for i in range(2))
    weight, bias = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(2))
    attrs = {"num_groups": groups, "eps": EPS}
    tolerance = 4e-6 if dtype == "float32" else 4e-3
    for op in ("group_norm", "group_norm_silu"):
        ops, back = (kernels.implementations(o, "emu") for o in (op, f"{op}_vjp"))
        assert kernels.select(op, "emu", (x, weight, bias), attrs).impl == "cuda"
        wide = [a.astype(np.float64) for a in (g, x, weight, bias)]
        shift = (None,) if op == "group_norm_silu" else ()
        truth = ops["reference"].fn(*wide[1:], **attrs)
        slopes = back["reference"].fn(wide[0], None, *wide[1:], *shift, *truth[1:], **attrs)
        seen = set()
        for schedule in SCHEDULES:
            with emulator(schedule=schedule):
                y, mean, rstd = ops["cuda"].fn(x, weight, bias, **attrs)
                found = back["cuda"].fn(g, None, x, weight, bias, *shift, mean, rstd, **attrs)[:3]
            for got, right in zip((y, mean, rstd, *found), (*truth, *slopes[:3]), strict=True):
                assert deviation(np.asarray(got), right) <= tolerance
            seen.add(b"".join(np.asarray(a).tobytes() for a in (y, mean, rstd, *found)))
        assert len(seen) == 1, "the result depends on the schedule"


def test_batch_norm_of_many_chunks_and_tiles():
    x = 100 + image(40, 136, 9, 9)  # 3,240 rows, two tiles of channels
    ops = kernels.implementations("batch_norm", "emu")
    got, truth = ops["cuda"].fn(x, None, None, eps=EPS), ops["reference"].fn(x.astype(np.float64), None, None, eps=EPS)
    assert all(deviation(np.asarray(a), b) < 1e-5 for a, b in zip(got, truth))
    with emulator(counters=(counters := [])):
        ops["cuda"].fn(x, None, None, eps=EPS)
    assert counters[1].kernel == "batch_norm_join<float>"
    assert counters[1].global_read > 8 * 136 * 4  # several chunks


# --- bfloat16, which NumPy has from ml_dtypes only

all_modules()
LONG = ("conv2d", "scaled_dot", "linear", "matmul")  # in tests of their own
BFLOAT = [
    op for op in kernels.comparable()
    if "cuda" in kernels.implementations(op, "emu") and not op.startswith(("philox", *LONG))
]  # fmt: skip


def narrowed(a: Any) -> Any:
    if isinstance(a, tuple):
        return tuple(narrowed(x) for x in a)
    return a.astype(ml_dtypes.bfloat16, order="K") if a is not None and a.dtype.kind == "f" else a


def widened(a: Any) -> Any:
    if isinstance(a, tuple):
        return tuple(widened(x) for x in a)
    return a.astype(np.float64, order="K") if a is not None and a.dtype == ml_dtypes.bfloat16 else a


def size_of(a: Any) -> int:
    return sum(map(size_of, a)) if isinstance(a, tuple) else 0 if a is None else a.size


@pytest.mark.parametrize("op", BFLOAT)
def test_bfloat16(op):
    """Against the float64 reference of the same rounded inputs, under one schedule and on the small cases."""
    ops, count = kernels.implementations(op, "emu"), 0
    for case in drawn(op):
        arrays = narrowed(case.arrays)
        fits = ops["cuda"].when is None or ops["cuda"].when(*arrays, **case.attrs)
        if not fits or not 0 < size_of(arrays) <= 200_000:
            continue
        got = outputs(ops["cuda"].fn(*arrays, **case.attrs))
        truth = outputs(ops["reference"].fn(*widened(arrays), **case.attrs))
        for a, b in zip(got, truth, strict=True):
            assert deviation(np.asarray(a, np.float64), b) < 1.5e-2, case.name
        count += 1
    assert count
