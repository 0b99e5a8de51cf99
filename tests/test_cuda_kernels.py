"""Every CUDA kernel in the emulator, under several schedules, against the float64 reference."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from scratchgen import kernels
from scratchgen.kernels import precision
from scratchgen.kernels.emulate import emulator
from scratchgen.kernels.launch import all_modules

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator compiles with g++")

SCHEDULES = (0, 1, 2, 3)
all_modules()
ON_GPU = {
    op: [k for k in kernels.implementations(op, "emu").values() if "emu" in k.device.split()] for op in kernels.ops()
}
CHOSEN = [(op, k.impl) for op, found in ON_GPU.items() for k in found if not k.study and op in kernels.comparable()]
LADDER = [(op, k.impl) for op, found in ON_GPU.items() for k in found if k.study]
# Their kernels change their inputs, so they have tests of their own, below and in test_cuda_many.py.
IN_PLACE = ("accumulate", "adam", "adam_many", "ema", "ema_many", "norm_many", "scale_many")


def error_of(got: Any, truth: Any) -> float:
    got, truth = np.asarray(got, np.float64), np.asarray(truth, np.float64)
    assert got.shape == truth.shape
    return float(np.abs(got - truth).max(initial=0) / max(np.abs(truth).max(initial=0), 1e-30))


def outputs(got: Any, truth: Any) -> list[tuple[Any, Any]]:
    """Pairs of what an implementation returned and what it should have."""
    as_tuples = [v if isinstance(v, tuple) else (v,) for v in (got, truth)]
    pairs = list(zip(*as_tuples, strict=True))
    assert all((a is None) == (b is None) for a, b in pairs)
    return [(a, b) for a, b in pairs if a is not None]


def test_every_kernel_is_tested_here():
    covered = {op for op, _ in CHOSEN} | {op for op, _ in LADDER} | set(IN_PLACE) | set(ODD)
    assert {op for op, found in ON_GPU.items() if found} == covered
    assert {(op, impl) for op, impl in LADDER} == {(op, impl) for op in ODD for impl in study_versions(op)}


@pytest.mark.parametrize(("op", "impl"), CHOSEN)
def test_the_kernel_that_runs_agrees_with_its_reference(op, impl, monkeypatch):
    """On all cases of its op, in float32 under each schedule and in float16.

    The many multiplications of convolution and attention run under one schedule here, and under all on few sizes below.
    """
    tf32, long = impl.endswith("tf32"), op.startswith(("conv2d", "scaled_dot"))
    monkeypatch.setattr(precision, "_chosen", "tf32" if tf32 else "float32")
    runs = [("float32", (3,) if tf32 else (1,) if long else SCHEDULES), ("float16", (2,))]
    if op == "conv2d_weight_bias":  # conv2d_weight, and a sum
        runs = [("float32", (2,))]
    for dtype, schedules in runs:
        for schedule in schedules:
            with emulator(schedule=schedule):
                for c in kernels.compare(op, impl, device="emu", dtype=dtype):
                    assert c.passed, f"{c.case} in {dtype}, schedule {schedule}: {c.error:.1e} > {c.tolerance:.0e}"


# --- ladders: steps that are there to be read, on few and odd sizes


def study_versions(op: str) -> list[str]:
    return [k.impl for k in ON_GPU[op] if k.study]


def _rows(rng: np.random.Generator, *sizes: tuple[int, int]) -> list[np.ndarray]:
    return [4 * rng.standard_normal(size) for size in sizes]


def _softmax_inputs(rng: np.random.Generator) -> list[tuple[tuple, dict]]:
    rows = _rows(rng, (1, 1), (5, 7), (3, 64), (2, 1000), (9, 33), (2, 520))
    return [((x,), {"dim": 1}) for x in rows]


def _matmul_inputs(rng: np.random.Generator) -> list[tuple[tuple, dict]]:
    sizes = [(1, 1, 1), (5, 7, 3), (17, 16, 33), (30, 65, 20), (4, 0, 3)]
    return [((rng.standard_normal((m, k)), rng.standard_normal((k, n))), {}) for m, k, n in sizes]


def _layer_norm_inputs(rng: np.random.Generator) -> list[tuple[tuple, dict]]:
    rows = _rows(rng, (1, 1), (5, 7), (3, 64), (2, 1000), (9, 33), (2, 520))
    return [
        ((x + 2, rng.standard_normal(x.shape[1]), rng.standard_normal(x.shape[1]) if len(x) % 2 else None),
         {"normalized_shape": x.shape[1:], "eps": 1e-5})
        for x in rows
    ]  # fmt: skip


def _conv_inputs(op: str) -> Any:
    """Images and geometries of which none is simple."""

    def inputs(rng: np.random.Generator) -> list[tuple[tuple, dict]]:
        found = []
        for x, w, stride, padding, dilation, groups in (
            ((2, 5, 6, 7), (3, 5, 3, 3), (1, 1), (1, 1), (1, 1), 1),
            ((1, 6, 9, 8), (4, 3, 2, 3), (2, 3), (1, 2), (2, 1), 2),
        ):
            size = tuple(
                (m + 2 * p - d * (t - 1) - 1) // s + 1 for m, p, d, t, s in zip(x[2:], padding, dilation, w[2:], stride)
            )
            how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
            image, weight, out = (rng.standard_normal(shape) for shape in (x, w, (x[0], w[0], *size)))
            arrays, size = {
                "conv2d": ((image, weight, rng.standard_normal(w[0])), size),
                "conv2d_input": ((out, weight, rng.standard_normal(x[1])), x[2:]),
                "conv2d_weight": ((image, out), w[2:]),
                "conv2d_weight_bias": ((image, out), w[2:]),
            }[op]
            found.append((arrays, {"size": size, **how}))
        return found

    return inputs


def _attention_inputs(rng: np.random.Generator) -> list[tuple[tuple, dict]]:
    draw = rng.standard_normal
    return [
        ((draw((2, 5, 8)), draw((2, 7, 8)), draw((2, 7, 3)), None), {"is_causal": False, "scale": 0.3}),
        ((draw((1, 37, 40)), draw((1, 37, 40)), draw((1, 37, 33)), None), {"is_causal": True, "scale": 0.2}),
        ((draw((3, 4, 6)), draw((3, 35, 6)), draw((3, 35, 6)), draw((3, 4, 35))), {"is_causal": False, "scale": 1.0}),
    ]


def _attention_vjp_inputs(rng: np.random.Generator) -> list[tuple[tuple, dict]]:
    forward, found = kernels.implementations("scaled_dot_product_attention", "emu")["reference"].fn, []
    for arrays, attrs in _attention_inputs(rng):
        y, lse = forward(*arrays, **attrs)
        needs = (True, True, True, arrays[3] is not None)
        found.append(((rng.standard_normal(y.shape), y, *arrays, lse), {**attrs, "needs": needs}))
    return found


CONVOLUTIONS = ("conv2d", "conv2d_input", "conv2d_weight", "conv2d_weight_bias")
ODD = {"softmax": _softmax_inputs, "matmul": _matmul_inputs, "layer_norm": _layer_norm_inputs}
ODD |= {"scaled_dot_product_attention": _attention_inputs, "scaled_dot_product_attention_vjp": _attention_vjp_inputs}
ODD |= {op: _conv_inputs(op) for op in CONVOLUTIONS}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("op", "impl"), [*LADDER, *((op, "cuda") for op in ODD)])
def test_ladders_agree_with_their_reference(op, impl, dtype):
    """Also in bfloat16, which NumPy has from ml_dtypes only."""
    ops = kernels.implementations(op, "emu")
    if not ops[impl].accepts(np.dtype("float16" if dtype == "bfloat16" else dtype)):
        return  # a step for tensor cores, or one for the float32 units
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    for arrays, attrs in ODD[op](np.random.default_rng(0)):
        cast = [None if a is None else a.astype(dtype) for a in arrays]
        truth = ops["reference"].fn(*(None if a is None else a.astype(np.float64) for a in cast), **attrs)
        tolerance = 4e-6 if dtype == "float32" else 2e-3 if dtype == "float16" else 8e-3
        seen = []
        for schedule in SCHEDULES:
            with emulator(schedule=schedule):
                got = ops[impl].fn(*cast, **attrs)
            for a, b in outputs(got, truth):
                assert error_of(a, b) <= tolerance, (arrays[0].shape, schedule)
            seen.append(b"".join(np.asarray(a).tobytes() for a, _ in outputs(got, truth)))
        assert len(set(seen)) == 1, "the result depends on the schedule"


def counted(op: str, impl: str, *arrays: np.ndarray, **attrs: Any) -> Any:
    counters: list = []
    with emulator(counters=counters):
        kernels.implementations(op, "emu")[impl].fn(*arrays, **attrs)
    return counters[0]


def test_each_step_of_softmax_does_what_its_story_says():
    x = np.random.default_rng(4).standard_normal((128, 1024)).astype(np.float32)
    names = ("1-thread-per-row", "2-tree", "3-shuffle", "4-warp-per-row", "6-online")
    naive, tree, shuffle, warp, online = (counted("softmax", f"cuda-{name}", x, dim=1) for name in names)
    best = counted("softmax", "cuda", x, dim=1)
    assert naive.global_sectors == 8 * naive.ideal_sectors  # of 32 bytes, a number is used
    assert all(c.global_sectors == c.ideal_sectors for c in (tree, shuffle, warp, best, online))
    assert (tree.barriers, shuffle.barriers, warp.barriers, best.barriers) == (128 * 20, 128 * 4, 0, 0)
    assert (shuffle.global_requests, warp.global_requests) == (16384, 16384 // 4)  # 16 bytes in each access
    assert [c.global_read // x.nbytes for c in (naive, tree, shuffle, warp, online, best)] == [3, 3, 3, 3, 2, 1]
    assert best.global_written == x.nbytes


def test_each_step_of_layer_norm_does_what_its_story_says():
    x = np.random.default_rng(4).standard_normal((128, 1024)).astype(np.float32)
    attrs = {"normalized_shape": (1024,), "eps": 1e-5}
    names = ("1-thread-per-row", "2-block-per-row", "3-warp-per-row", "5-welford")
    naive, block, warp, welford = (counted("layer_norm", f"cuda-{name}", x, None, None, **attrs) for name in names)
    best = counted("layer_norm", "cuda", x, None, None, **attrs)
    assert naive.global_sectors > 7.9 * naive.ideal_sectors
    assert all(c.global_sectors == c.ideal_sectors for c in (block, warp, welford, best))
    assert (block.barriers, warp.barriers, best.barriers) == (128 * 4, 0, 0)
    assert [c.global_read // x.nbytes for c in (naive, block, warp, welford, best)] == [3, 3, 3, 2, 1]
    assert best.global_requests == 2 * 128 * 8 + 2 * 128  # 16 bytes a lane, and mean and rstd


WIDTH = 9001  # more than any kernel keeps in registers
LONG = {
    "softmax_vjp": lambda x, g: ((g, np.exp(x) / np.exp(x).sum(1, keepdims=True), None), {"dim": 1}),
    "log_softmax": lambda x, g: ((x,), {"dim": 1}),
    "log_softmax_vjp": lambda x, g: ((g, x - np.log(np.exp(x).sum(1, keepdims=True)), None), {"dim": 1}),
    "layer_norm": lambda x, g: ((x, g[0], g[1]), {"normalized_shape": (WIDTH,), "eps": 1e-5}),
    "layer_norm_vjp": lambda x, g: (
        (g, None, x, g[0], g[1], x.mean(1, keepdims=True), 1 / x.std(1, keepdims=True)),
        {"normalized_shape": (WIDTH,), "eps": 1e-5},
    ),
    "rms_norm": lambda x, g: ((x, g[0]), {"normalized_shape": (WIDTH,), "eps": 1e-5}),
    "rms_norm_vjp": lambda x, g: (
        (g, None, x, g[0], np.square(x).mean(1, keepdims=True) ** -0.5),
        {"normalized_shape": (WIDTH,), "eps": 1e-5},
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("op", LONG)
def test_rows_that_no_registers_hold(op, schedule):
    rng = np.random.default_rng(3)
    arrays, attrs = LONG[op](rng.standard_normal((2, WIDTH)), rng.standard_normal((2, WIDTH)))
    ops = kernels.implementations(op, "emu")
    truth = ops["reference"].fn(*arrays, **attrs)
    with emulator(schedule=schedule):
        got = ops["cuda"].fn(*(None if a is None else a.astype(np.float32) for a in arrays), **attrs)
    assert all(error_of(a, b) < 4e-6 for a, b in outputs(got, truth))


# --- optimizers, in place


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("options", [
    {}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled": True}, {"maximize": True}, {"amsgrad": True},
])  # fmt: skip
def test_adam(options, schedule):
    rng, options = np.random.default_rng(1), dict(options)
    arrays = [rng.standard_normal((7, 43)), rng.standard_normal((7, 43)), rng.standard_normal((7, 43)),
              rng.random((7, 43)), rng.random((7, 43)) if options.pop("amsgrad", False) else None]  # fmt: skip
    attrs = {"step": 3, "lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8, **options}
    wide = [None if a is None else a.copy() for a in arrays]
    narrow = [None if a is None else a.astype(np.float32) for a in arrays]
    ops = kernels.implementations("adam", "emu")
    ops["reference"].fn(*wide, **attrs)
    with emulator(schedule=schedule):
        changed = ops["cuda"].fn(*narrow, **attrs)
    assert changed[0] is narrow[0]
    for got, truth in zip(changed, [wide[0], *(a for a in wide[2:] if a is not None)], strict=True):
        assert error_of(got, truth) < 1e-6


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ema(schedule):
    rng = np.random.default_rng(2)
    average, value = rng.standard_normal(1000).astype(np.float32), rng.standard_normal(1000).astype(np.float32)
    truth = 0.9 * average.astype(np.float64) + 0.1 * value
    with emulator(schedule=schedule):
        got = kernels.implementations("ema", "emu")["cuda"].fn(average, value, decay=0.9)
    assert got is average
    assert error_of(got, truth) < 1e-6


def test_random_bits_and_uniforms_are_those_of_the_cpu():
    key = np.array([0x123456789ABCDEF0], np.uint64)
    for op, attrs in (
        ("philox_bits", {}),
        ("philox_uniform", {"dtype": np.float32}),
        ("philox_uniform", {"dtype": np.float16}),
    ):
        ops = kernels.implementations(op)
        here = ops["reference"].fn(key, counter=2**32 - 5, count=1003, **attrs)
        there = ops["cuda"].fn(key, counter=2**32 - 5, count=1003, **attrs)
        np.testing.assert_array_equal(here, there)
        assert here.dtype == there.dtype
