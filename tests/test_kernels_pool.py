"""Max pooling in Numba: the reference's values, indices and conventions, on images large enough to take it."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchgen as sg
import scratchgen.nn.functional as F
from scratchgen.kernels.pool2d import cpu, reference
from scratchgen.kernels.resample import windows


@st.composite
def pools(draw):
    """Images with ties, NaN and infinities, and windows of which some overlap and some are dilated."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(3, 12), st.integers(3, 12)))
    maps = []
    for length in shape[2:]:
        kernel, step, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
        first = np.arange(0, max(length - dilation * (kernel - 1), 1), step)
        maps.append(windows(length, first, np.minimum(first + dilation * (kernel - 1) + 1, length), dilation))
    return shape, maps


@settings(max_examples=40)
@given(pools(), st.integers(0, 2**32 - 1))
def test_values_and_indices_are_the_references(problem, seed):
    shape, (rows, columns) = problem
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, shape).astype(np.float32)
    x[rng.random(shape) < 0.1] = np.nan
    x[rng.random(shape) < 0.1] = -np.inf
    y, index = cpu.max_pool2d(x, rows=rows, columns=columns)
    truth, truth_index = reference.max_pool2d(x, rows=rows, columns=columns)
    np.testing.assert_array_equal(y, truth)
    np.testing.assert_array_equal(index, truth_index)
    g = rng.integers(-9, 9, y.shape).astype(np.float32)  # sums of these are exact
    np.testing.assert_array_equal(
        cpu.pool_scatter(g, index, size=shape[2:]), reference.pool_scatter(g, index, size=shape[2:])
    )
    np.testing.assert_array_equal(cpu.pool_gather(x, index), truth)


def test_results_do_not_depend_on_threads_or_layout():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 70, 13, 13)).astype(np.float32)
    first = np.arange(0, 11, 2)
    over = windows(13, first, first + 3, 1)
    y, index = cpu.max_pool2d(x, rows=over, columns=over)
    back = cpu.pool_scatter(y, index, size=(13, 13))
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        last = x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
        again, _ = cpu.max_pool2d(last, rows=over, columns=over)
        np.testing.assert_array_equal(y, again)
        np.testing.assert_array_equal(back, cpu.pool_scatter(y, index, size=(13, 13)))
    finally:
        numba.set_num_threads(threads)


@pytest.mark.parametrize("op", ["max_pool2d", "pool_gather", "pool_scatter"])
def test_all_cases_pass_and_are_large_enough(op):
    found = list(sg.kernels.compare(op, ["numba"]))
    assert len(found) >= 5
    assert all(c.passed for c in found)


def test_layers_run_it():
    x = sg.from_numpy(np.random.default_rng(0).standard_normal((4, 32, 16, 16)).astype(np.float32)).requires_grad_(True)
    y = F.max_pool2d(x, 2)
    (g,) = sg.grad(y.sum(), x)
    with sg.kernels.use(max_pool2d="reference", pool_scatter="reference"):
        other = F.max_pool2d(x, 2)
        (h,) = sg.grad(other.sum(), x)
    np.testing.assert_array_equal(y.array, other.array)
    np.testing.assert_array_equal(g.array, h.array)
    assert y.array.base is None
    assert y.array.transpose(0, 2, 3, 1).flags.c_contiguous
