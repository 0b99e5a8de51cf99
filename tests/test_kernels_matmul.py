"""The packed product: right for any shape and strides, the same bits however it is dealt out, on every vector width."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

import numba

import scratchgen as sg
import scratchgen.nn.functional as F
from scratchgen import kernels
from scratchgen.kernels.matmul import cpu, gemm
from scratchgen.kernels.numba_config import njit

F4 = np.float32


def drawn(rng, shape, lying):
    """A float32 matrix in one of the layouts that the kernel treats differently."""
    m, n = shape
    if lying == "rows":
        return rng.standard_normal((m, n)).astype(F4)
    if lying == "columns":
        return rng.standard_normal((n, m)).astype(F4).T
    if lying == "gaps":
        return rng.standard_normal((2 * m, 3 * n)).astype(F4)[::-2, ::3]
    if lying == "pages":  # rows 4 KB apart
        return rng.standard_normal((m, 1024)).astype(F4)[:, :n]
    return np.broadcast_to(rng.standard_normal((1, n)).astype(F4), (m, n))


LAYOUTS = st.sampled_from(["rows", "columns", "gaps", "pages", "one row"])


def error(got, truth):
    return np.abs(got - truth).max(initial=0) / max(np.abs(truth).max(initial=0), 1e-30)


@settings(max_examples=80)
@given(st.integers(1, 90), st.integers(1, 150), st.integers(0, 600), LAYOUTS, LAYOUTS, st.integers(0, 2**32 - 1))
def test_any_shape_and_layout(m, n, k, layout_a, layout_b, seed):
    rng = np.random.default_rng(seed)
    a, b = drawn(rng, (m, k), layout_a), drawn(rng, (k, n), layout_b)
    got = cpu.matmul(a, b)
    assert error(got, a.astype(np.float64) @ b) <= 2e-6
    np.testing.assert_array_equal(got, cpu.matmul(np.ascontiguousarray(a), np.ascontiguousarray(b)))


@pytest.mark.parametrize("layout_b", ["rows", "columns", "gaps"])
@pytest.mark.parametrize("layout_a", ["rows", "columns", "pages"])
@pytest.mark.parametrize(("m", "n", "k"), [(250, 70, 1000), (120, 600, 530), (300, 1100, 260), (130, 1300, 600)])
def test_many_blocks_in_every_direction(m, n, k, layout_a, layout_b):
    rng = np.random.default_rng(0)
    a, b = drawn(rng, (m, k), layout_a), drawn(rng, (k, n), layout_b)
    assert error(cpu.matmul(a, b), a.astype(np.float64) @ b) <= 2e-6


@njit
def serial(a, b, c, accumulate):
    gemm.gemm_serial(
        a.ctypes.data, a.strides[0] // 4, a.strides[1] // 4, b.ctypes.data, b.strides[0] // 4, b.strides[1] // 4,
        c.ctypes.data, c.strides[0] // 4, c.shape[0], c.shape[1], a.shape[1], accumulate,
    )  # fmt: skip


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (15, 33, 300), (29, 64, 17), (500, 40, 257), (3, 5, 0)])
def test_gemm_serial_writes_its_part_and_nothing_else(m, n, k, accumulate):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)).astype(F4), rng.standard_normal((k, n)).astype(F4)
    whole = np.full((m + 1, n + 3), 7, F4)
    serial(a, b, whole[:m, :n], accumulate)
    assert error(whole[:m, :n], a.astype(np.float64) @ b + 7 * accumulate) <= 2e-6
    assert (whole[m:] == 7).all()
    assert (whole[:, n:] == 7).all()


@pytest.fixture
def threads():
    """``threads(n)`` sets Numba's number of threads for the test."""
    before = numba.get_num_threads()
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only")
    yield numba.set_num_threads
    numba.set_num_threads(before)


@pytest.mark.parametrize(
    ("m", "n", "k"), [(128, 400, 784), (37, 3000, 60), (2000, 33, 40), (500, 40, 1000), (30, 300, 300), (64, 600, 512)]
)
def test_one_thread_and_two_give_the_same_bits(m, n, k, threads):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape).astype(F4) for shape in ((m, k), (n, k), n))
    g = rng.standard_normal((m, n)).astype(F4)
    results = []
    for count in (1, 2, 2):
        threads(count)
        needs = {"needs": (True, True, True)}
        results.append([cpu.linear(x, w, b), *cpu.linear_vjp(g, None, x, w, b, **needs), cpu.matmul(x, w.T)])
    for one, two, again in zip(*results):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(two, again)
    truth = x.astype(np.float64) @ w.T + b
    assert error(results[0][0], truth) <= 2e-6
    assert error(results[0][3], g.sum(0, dtype=np.float64)) <= 2e-6


@pytest.mark.parametrize("batch", [(3,), (5, 7), (4, 16)])
def test_batches_over_threads(batch, threads):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((*batch, 70, 50)).astype(F4), rng.standard_normal((*batch, 50, 90)).astype(F4)
    threads(1)
    alone = cpu.matmul(a, b)
    threads(2)
    np.testing.assert_array_equal(cpu.matmul(a, b), alone)
    assert error(alone, a.astype(np.float64) @ b) <= 2e-6


def test_sums_for_the_bias_are_accurate_over_many_rows():
    g = np.full((1 << 15, 40), 1.1, F4)
    x, w = np.ones((1 << 15, 3), F4), np.ones((40, 3), F4)
    db = cpu.linear_vjp(g, None, x, w, w[:, 0], needs=(False, True, True))[2]
    np.testing.assert_allclose(db, np.float64(F4(1.1)) * (1 << 15), rtol=1e-6)


def test_infinity_and_nan_stay_in_their_row_and_column():
    a, b = np.ones((20, 30), F4), np.ones((30, 50), F4)
    a[3, 4], b[7, 49] = np.inf, np.nan
    c = cpu.matmul(a, b)
    assert np.isinf(c[3, :49]).all()
    assert np.isnan(c[:, 49]).all()
    assert (np.delete(np.delete(c, 3, 0), 49, 1) == 30).all()
    assert np.isnan(cpu.matmul(np.zeros((2, 1), F4), np.array([[np.inf]], F4))).all()


def test_the_packed_kernel_runs_in_single_precision_and_the_reference_in_double():
    x = sg.randn(4, 5)
    for dtype, impl in ((np.float32, "packed"), (np.float64, "reference")):
        array = x.numpy().astype(dtype)
        for op in ("matmul", "linear"):
            assert kernels.select(op, "cpu", (array, array.T), {}).impl == impl
    steps = kernels.implementations("matmul", "cpu")
    assert [name for name, step in steps.items() if step.study] == ["naive", "blocked", "tiled"]


@pytest.mark.parametrize("op", ["matmul", "linear", "linear_vjp", "linear_activation", "linear_activation_vjp"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_implementation_is_the_reference(op, dtype):
    rows = list(kernels.compare(op, dtype=dtype))
    assert rows
    bad = [(row.impl, row.case, row.error) for row in rows if not row.passed]
    assert not bad
    if dtype == "float32":
        assert max(row.error for row in rows if row.impl == "packed" or op.endswith("_vjp")) <= 2e-6


# --- linear_activation


@pytest.mark.parametrize("activation", ["none", "relu", "silu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("size", [(3, 7, 5), (80, 90, 70)])
def test_the_fused_layer_has_the_derivatives_of_its_parts(activation, size):
    m, n, k = size
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) / 2 for s in ((m, k), (n, k), (n,), (m, n))]
    truth, got = [], []
    for dtype, fused, results in ((np.float64, False, truth), (np.float32, True, got)):
        x, w, b, r = (sg.tensor(a.astype(dtype), requires_grad=True) for a in arrays)
        if fused:
            y = F.linear_activation(x, w, b, r, activation=activation)
        else:
            z = F.linear(x, w, b)
            f = {"none": lambda t: t, "gelu_tanh": lambda t: F.gelu(t, approximate="tanh")}.get(activation)
            y = (f or getattr(F, activation))(z) + r
        first = sg.grad((y * y).sum(), (x, w, b, r), create_graph=True)
        second = sg.grad(sum((t * t).sum() for t in first), (x, w, b, r))
        results += [y, *first, *second]
        plain = sg.grad((F.linear_activation(x, w, b, r, activation=activation) ** 2).sum(), (x, w, b, r))
        results += plain  # this way through the gradient kernel
    for one, two in zip(got, truth, strict=True):
        assert error(one.numpy(force=True), two.numpy(force=True)) <= 2e-5


def test_the_fused_layer_finishes_every_group_of_rows():
    rng = np.random.default_rng(0)
    x, w, b, r = (rng.standard_normal(shape).astype(F4) for shape in ((300, 1100), (700, 1100), 700, (300, 700)))
    y, z = cpu.linear_activation(x, w, b, r, activation="relu")
    truth = x.astype(np.float64) @ w.T + b
    assert error(z, truth) <= 2e-6
    assert error(y, np.maximum(truth, 0) + r) <= 2e-6


def test_the_fused_layer_says_what_does_not_fit():
    x, w, b = sg.randn(3, 4), sg.randn(5, 4), sg.randn(5)
    with pytest.raises(ValueError, match="unknown activation 'tanh'; known: none, relu, silu, gelu, gelu_tanh"):
        F.linear_activation(x, w, b, activation="tanh")
    with pytest.raises(ValueError, match=r"residual of shape \[5\], expected \[3, 5\]"):
        F.linear_activation(x, w, b, b)
    with pytest.raises(ValueError, match=r"input of shape \[3, 4\] does not fit weight of shape \[5, 3\]"):
        F.linear_activation(x, w[:, :3], b)
    with pytest.raises(TypeError, match="float32, float64, float32 differ in dtype"):
        F.linear_activation(x, w.double(), b)


# --- other machines, other settings

OTHER_WIDTH = """
import numpy as np
from scratchgen.kernels import simd
simd.machine_width = lambda: simd.WIDTHS["{width}"]
from numba import njit
from scratchgen.kernels.matmul import gemm, tile
assert tile.LANES == simd.WIDTHS["{width}"].lanes and tile.FREE_MASKS == (tile.LANES == 16)

@njit
def run(a, b, c):
    gemm.gemm_serial(a.ctypes.data, a.strides[0] // 4, a.strides[1] // 4, b.ctypes.data, b.strides[0] // 4,
                     b.strides[1] // 4, c.ctypes.data, c.strides[0] // 4, c.shape[0], c.shape[1], a.shape[1], False)

rng = np.random.default_rng(0)
for m, n, k in ((1, 1, 1), (13, 37, 41), (100, 40, 300), (33, 64, 16)):
    for flip in (False, True):
        a = rng.standard_normal((k, m) if flip else (m, k)).astype(np.float32)
        b = rng.standard_normal((n, k) if flip else (k, n)).astype(np.float32)
        a, b = (a.T, b.T) if flip else (a, b)
        whole = np.full((m + 1, n + 5), 7, np.float32)
        run(a[:, :], b[:, :], whole[:m, :n])
        truth = a.astype(np.float64) @ b
        assert np.abs(whole[:m, :n] - truth).max() <= 2e-6 * np.abs(truth).max()
        assert (whole[m:] == 7).all() and (whole[:, n:] == 7).all()
print("right")
"""


def python(code, **env):
    """Run ``code`` in a new process."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env={**os.environ, **env}, capture_output=True, text=True
    )


@pytest.mark.parametrize("width", ["avx2", "neon"])
def test_narrower_vectors(width, tmp_path):
    done = python(OTHER_WIDTH.format(width=width), NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout == "right\n", done.stderr


COUNT = "import scratchgen.kernels.numba_config, numba; print(numba.get_num_threads(), numba.config.NUMBA_NUM_THREADS)"


@pytest.mark.parametrize("count", [1, 3])
def test_the_number_of_threads_is_what_the_environment_says(count):
    assert python(COUNT, SCRATCHGEN_NUM_THREADS=str(count)).stdout == f"{count} {count}\n"


@pytest.mark.parametrize("count", ["0", "two", "-1", ""])
def test_an_impossible_number_of_threads_is_an_error(count):
    done = python(COUNT, SCRATCHGEN_NUM_THREADS=count)
    assert f"ValueError: SCRATCHGEN_NUM_THREADS must be a whole number from 1 on, got {count!r}" in done.stderr
