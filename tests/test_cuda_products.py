"""The pipeline under matmul and convolution, in the emulator: every way to multiply, every layout, what memory sees."""

from __future__ import annotations

import shutil
from itertools import product as every
from typing import Any

import numpy as np
import pytest
from operands import error_of, operand

import scratchgen as sg
from scratchgen import kernels
from scratchgen.kernels.conv2d import cuda as convolution
from scratchgen.kernels.emulate import emulator
from scratchgen.kernels.matmul import cuda

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator compiles with g++")

SCHEDULES = (1, 2, 3)
WAYS = {"float32": cuda.PLAIN, "tf32": cuda.TENSOR, "float16": cuda.TENSOR, "bfloat16": cuda.TENSOR}
ERRORS = {"float32": 1e-6, "tf32": 1e-3, "float16": 1e-3, "bfloat16": 6e-3}
# m, k, n: nothing is a multiple of anything, lines that are multiples of 16 bytes and such that are not, one panel's
# depth less or more than the stages, several tiles
SHAPES = ((1, 1, 1), (5, 7, 3), (33, 24, 40), (64, 64, 64), (70, 51, 90), (3, 200, 136))


@pytest.fixture
def tf32():
    sg.set_matmul_precision("tf32")
    yield
    sg.set_matmul_precision("float32")


def counted(*arrays: np.ndarray, way: cuda.Way, tile: int) -> Any:
    counters: list = []
    with emulator(counters=counters):
        cuda.product(*arrays, way=way, tile=tile, splits=1)
    return counters[0]


def conflicts(c: Any) -> int:
    return c.shared_passes - c.shared_requests


@pytest.mark.parametrize("precision", WAYS)
def test_every_layout_and_ragged_size(precision):
    """Under each schedule, with small and with large tiles; the same bits whatever the schedule."""
    dtype = {"tf32": "float32"}.get(precision, precision)
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    rng = np.random.default_rng(0)
    for (m, k, n), a_turned, b_turned in every(SHAPES, (False, True), (False, True)):
        a, b = operand(rng, m, k, a_turned, dtype), operand(rng, k, n, b_turned, dtype)
        truth = a.astype(np.float64) @ b.astype(np.float64)
        for tile in cuda.TILES:
            seen = set()
            for schedule in SCHEDULES:
                with emulator(schedule=schedule):
                    got, _ = cuda.product(a, b, way=WAYS[precision], tile=tile)
                assert error_of(got, truth) < ERRORS[precision], (m, k, n, a_turned, b_turned, tile, schedule)
                seen.add(got.tobytes())
            assert len(seen) == 1


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16"])
def test_a_divided_depth_adds_up_in_a_fixed_order(precision):
    rng, dtype = np.random.default_rng(1), np.dtype({"tf32": "float32"}.get(precision, precision))
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in ((2, 20, 777), (777, 37)))
    bias, residual = rng.standard_normal(37).astype(dtype), rng.standard_normal((2, 20, 37)).astype(dtype)
    z = a.astype(np.float64) @ b.astype(np.float64) + bias
    truth = np.maximum(z, 0) + residual
    seen = set()
    for schedule in SCHEDULES:
        with emulator(schedule=schedule):
            got, kept = cuda.product(
                a, b, bias, residual, activation="relu", keep=True, way=WAYS[precision], splits=7
            )  # fmt: skip
        assert error_of(got, truth) < ERRORS[precision]
        assert error_of(kept, z) < ERRORS[precision]
        seen.add(got.tobytes())
    assert len(seen) == 1
    assert cuda.splits_for(blocks=4, panels=1000) == 66
    assert cuda.splits_for(blocks=300, panels=1000) == cuda.splits_for(blocks=1, panels=7) == 1


@pytest.mark.parametrize("activation", cuda.ACTIVATIONS)
@pytest.mark.parametrize("n", [40, 41])  # rows that begin at multiples of 16 bytes, and others
def test_what_follows_the_product(activation, n):
    rng = np.random.default_rng(2)
    x, w, b, r = (rng.standard_normal(shape).astype(np.float32) for shape in ((21, 30), (n, 30), n, (21, n)))
    ops = kernels.implementations("linear_activation", "emu")
    for bias, residual in every((None, b), (None, r)):
        truth = ops["reference"].fn(*(None if v is None else v.astype(float) for v in (x, w, bias, residual)),
                                    activation=activation)  # fmt: skip
        got = ops["cuda"].fn(x, w, bias, residual, activation=activation)
        assert all(error_of(g, t) < 1e-6 for g, t in zip(got, truth, strict=True))


def test_steps_on_the_float32_units_do_what_their_story_says():
    a = np.random.default_rng(4).standard_normal((128, 128)).astype(np.float32)
    multiplications, found = 128**3, {}
    for step in ("cuda-1-naive", "cuda-2-coalesced", "cuda-3-tiled", "cuda-4-registers"):
        counters: list = []
        with emulator(counters=counters):
            kernels.implementations("matmul", "emu")[step].fn(a, a)
        found[step] = counters[0]
    naive, coalesced, tiled, registers = found.values()
    warps, best = counted(a, a, way=cuda.STEPS["cuda-5-warps"], tile=64), counted(a, a, way=cuda.PLAIN, tile=128)
    assert naive.global_read == coalesced.global_read == 2 * 4 * multiplications
    assert naive.global_sectors / coalesced.global_sectors > 3
    assert tiled.global_read == naive.global_read / 16
    assert tiled.shared_read == 2 * 4 * multiplications
    assert registers.global_read == naive.global_read / 64
    assert registers.shared_read == tiled.shared_read / 4
    results = 2 * 4 * 128 * 128  # each is written to shared memory and read once on its way out
    assert warps.shared_read == tiled.shared_read * 6 / 32 + results / 2  # 4 x 8 results a lane
    assert best.shared_read == tiled.shared_read / 8 + results / 2  # 8 x 8
    assert best.global_read == naive.global_read / 128
    assert (warps.barriers, best.barriers) == (4 * 17, 9)  # two a panel and one at the end; one a panel


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16"])
def test_no_bank_conflicts_and_whole_sectors(precision):
    """In any layout, with small tiles and with large: what is swizzled has none, and every sector is used up."""
    rng, dtype = np.random.default_rng(5), np.dtype({"tf32": "float32"}.get(precision, precision))
    for tile, (a_turned, b_turned) in every(cuda.TILES, ((False, True), (False, False), (True, False))):
        a, b = operand(rng, 128, 64, a_turned, dtype), operand(rng, 64, 128, b_turned, dtype)
        c = counted(a, b, way=WAYS[precision], tile=tile)
        assert conflicts(c) == 0
        assert c.global_sectors == c.ideal_sectors
        assert c.tensor_flops == (0 if precision == "float32" else 2 * 128 * 128 * 64)
        assert c.global_read == 2 * (128 // tile) * 128 * 64 * dtype.itemsize  # each operand once for each tile across


def test_without_the_swizzle_there_are_conflicts():
    a = np.ones((128, 128), np.float16)
    plain, swizzled = (counted(a, a, way=cuda.STEPS[f"cuda-{s}"], tile=64) for s in ("7-tensor", "8-swizzled"))
    assert plain.shared_requests == swizzled.shared_requests
    assert conflicts(plain) == 2.5 * plain.shared_requests
    assert conflicts(swizzled) == 0


def test_tf32_is_a_choice_with_a_name(tf32):
    rng = np.random.default_rng(6)
    a, b = (sg.tensor(rng.standard_normal((40, 64)).astype(np.float32), device="emu") for _ in range(2))
    exact = a.array.astype(np.float64) @ b.array.T
    rounded = error_of((a @ b.T).array, exact)
    assert 1e-5 < rounded < 2e-3
    sg.set_matmul_precision("float32")
    assert error_of((a @ b.T).array, exact) < 1e-6
    with pytest.raises(ValueError, match="unknown precision 'medium'; known: float32, tf32"):
        sg.set_matmul_precision("medium")
    assert sg.get_matmul_precision() == "float32"


def test_second_derivatives_in_tf32(tf32):
    """Through products of products: against float64 on the CPU."""
    rng = np.random.default_rng(7)
    x, w = rng.standard_normal((9, 20)), rng.standard_normal((6, 20))

    def second(device: str, dtype: Any) -> list[np.ndarray]:
        a, b = (sg.tensor(v.astype(dtype), device=device, requires_grad=True) for v in (x, w))
        y = sg.nn.functional.linear_activation(a, b, activation="silu")
        first = sg.grad((y * y).sum(), (a, b), create_graph=True)
        return [g.array for g in sg.grad(sum((g * g).sum() for g in first), (a, b))]

    for got, truth in zip(second("emu", np.float32), second("cpu", np.float64), strict=True):
        assert 1e-6 < error_of(got, truth) < 5e-3


# --- convolution: the same pipeline, other sources


GEOMETRIES = (  # x, w, stride, padding, dilation, groups
    ((2, 5, 6, 7), (3, 5, 3, 3), (1, 1), (1, 1), (1, 1), 1),  # channels that fill no 16 bytes
    ((1, 32, 9, 8), (40, 16, 2, 3), (2, 3), (1, 2), (2, 1), 2),  # such that do, in groups; phases of several sizes
    ((2, 8, 3, 9), (72, 8, 1, 2), (1, 4), (0, 1), (1, 6), 1),  # stride and dilation with a common divisor
    ((1, 16, 5, 5), (16, 1, 3, 3), (3, 3), (1, 1), (1, 1), 16),  # a channel a group; phases without taps
)


def problem(rng: np.random.Generator, dtype: Any, geometry: Any) -> tuple[list[np.ndarray], dict, dict]:
    """Image, weight, output and both biases; the geometry; the sizes of all three."""
    x, w, stride, padding, dilation, groups = geometry
    size = tuple(
        (m + 2 * p - d * (t - 1) - 1) // s + 1 for m, p, d, t, s in zip(x[2:], padding, dilation, w[2:], stride)
    )
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    shapes = x, w, (x[0], w[0], *size), w[0], x[1]
    return [rng.standard_normal(s).astype(dtype) for s in shapes], how, {"x": x[2:], "w": w[2:], "y": size}


@pytest.mark.parametrize("precision", WAYS)
def test_every_convolution_and_its_adjoints(precision):
    """Under each schedule, with small and with large tiles; the same bits whatever the schedule."""
    dtype = {"tf32": "float32"}.get(precision, precision)
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    names, way = ("conv2d", "conv2d_input", "conv2d_weight"), WAYS[precision]
    ops = {op: kernels.implementations(op, "emu")["reference"].fn for op in names}
    for geometry in GEOMETRIES:
        (x, w, y, b, c), how, sizes = problem(np.random.default_rng(0), dtype, geometry)
        wide = [a.astype(np.float64) for a in (x, w, y, b, c)]
        truths = (
            ops["conv2d"](wide[0], wide[1], wide[3], size=sizes["y"], **how),
            ops["conv2d_input"](wide[2], wide[1], wide[4], size=sizes["x"], **how),
            ops["conv2d_weight"](wide[0], wide[2], size=sizes["w"], **how),
        )
        for tile in cuda.TILES:
            seen = set()
            for schedule in SCHEDULES:
                with emulator(schedule=schedule):
                    got = (
                        convolution.gather(x, w, b, False, size=sizes["y"], way=way, tile=tile, **how),
                        convolution.gather(y, w, c, True, size=sizes["x"], way=way, tile=tile, **how),
                        convolution.weight_gradient(x, y, size=sizes["w"], way=way, tile=tile, splits=3, **how),
                    )
                for g, truth in zip(got, truths, strict=True):
                    assert error_of(g, truth) < ERRORS[precision], (geometry, tile, schedule)
                seen.add(b"".join(g.tobytes() for g in got))
            assert len(seen) == 1


def test_convolution_is_closed_under_differentiation_on_emu():
    """Values, gradients and gradients of gradients of a convolution and of its transpose: those of the CPU."""
    rng = np.random.default_rng(1)
    x, w, b = (rng.standard_normal(shape) for shape in ((2, 6, 7, 8), (4, 3, 3, 2), 4))

    def orders(device: str, dtype: Any) -> list[np.ndarray]:
        inputs = [sg.tensor(v.astype(dtype), device=device, requires_grad=True) for v in (x, w, b)]
        y = sg.conv2d(*inputs, stride=(2, 1), padding=1, dilation=(1, 2), groups=2)
        z = sg.conv_transpose2d(y, inputs[1], stride=2, groups=2)
        first = sg.grad((z * z * z).sum(), inputs, create_graph=True)
        total = (first[0] * first[0]).sum() + (first[1] * first[1]).sum() + (first[2] * first[2]).sum()
        return [t.detach().numpy() for t in (y, z, *first, *sg.grad(total, inputs))]

    for got, truth in zip(orders("emu", np.float32), orders("cpu", np.float64), strict=True):
        assert error_of(got, truth) < 5e-6


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16"])
def test_convolution_has_no_bank_conflicts_and_reads_what_it_needs(precision):
    dtype, way = np.dtype({"tf32": "float32"}.get(precision, precision)), WAYS[precision]
    (x, w, y, *_), how, sizes = problem(np.random.default_rng(2), dtype, ((1, 64, 8, 8), (64, 64, 3, 3), (1, 1),
                                                                         (1, 1), (1, 1), 1))  # fmt: skip
    found: dict[str, list] = {"y": [], "x": [], "w": []}
    with emulator(counters=found["y"]):
        convolution.gather(x, w, None, False, size=sizes["y"], way=way, **how)
    with emulator(counters=found["x"]):
        convolution.gather(y, w, None, True, size=sizes["x"], way=way, **how)
    with emulator(counters=found["w"]):
        convolution.weight_gradient(x, y, size=sizes["w"], way=way, splits=1, **how)
    assert [conflicts(c) for each in found.values() for c in each] == [0] * 4
    inside = 64 * 22 * 22 * dtype.itemsize  # 3 x 8 taps a side, of which two reach over an edge
    assert found["y"][0].global_read == found["x"][0].global_read == inside + w.nbytes
    assert found["w"][0].global_read == inside + 9 * y.nbytes  # y again for each 64 of the 576 columns
    for c in (found["y"][0], found["x"][0], found["w"][0]):
        assert c.global_sectors == c.ideal_sectors
        assert c.tensor_flops == (0 if precision == "float32" else 2 * 64 * 64 * 64 * 9)


def test_phases_of_a_strided_adjoint_multiply_no_zeros():
    """4x4 filters with stride 2: each pixel of x has 4 of the 16 taps."""
    (_, w, y, *_), how, sizes = problem(np.random.default_rng(3), np.float16, ((1, 32, 32, 32), (64, 32, 4, 4), (2, 2),
                                                                             (1, 1), (1, 1), 1))  # fmt: skip
    counters: list = []
    with emulator(counters=counters):
        convolution.gather(y, w, None, True, size=sizes["x"], way=cuda.TENSOR, tile=64, **how)
    pixels, columns, depth = 32 * 32, 64, 4 * 64  # 32 channels in tiles of 64
    assert counters[0].tensor_flops == 2 * pixels * columns * depth


def test_steps_of_convolution_do_what_their_story_says():
    x, w = np.ones((1, 64, 8, 8), np.float32), np.ones((64, 64, 3, 3), np.float32)
    (*_,), how, sizes = problem(np.random.default_rng(0), np.float32, (x.shape, w.shape, (1, 1), (1, 1), (1, 1), 1))
    found = {}
    for name, k in kernels.implementations("conv2d", "emu").items():
        if k.study:
            counters: list = []
            arrays = [a.astype(np.float16 if name > "cuda-5" else np.float32) for a in (x, w)]
            with emulator(counters=counters):
                k.fn(*arrays, None, size=sizes["y"], **how)
            found[name] = counters[0]
    naive, im2col, implicit, panels, tensor, swizzled = (found[name] for name in sorted(found))
    inside = 64 * 22 * 22 * 4
    assert naive.global_read == 64 * (inside + 64 * 9 * 64 * 4)
    assert im2col.global_read == 9 * x.nbytes + w.nbytes  # windows with zeros and all; making them is not counted
    assert implicit.global_read == panels.global_read == inside + w.nbytes
    assert conflicts(panels) > 0
    assert conflicts(tensor) > tensor.shared_requests
    assert conflicts(swizzled) == 0
