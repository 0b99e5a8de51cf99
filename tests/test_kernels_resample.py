"""Resampling in Numba: any pair of sparse matrices, any layout, sums of any length."""

from __future__ import annotations

import numba
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchgen as sg
import scratchgen.nn.functional as F
from scratchgen.kernels.resample import AxisMap, cpu, reference, windows


@st.composite
def maps(draw):
    """A matrix with some rows empty and some entries twice."""
    inputs, outputs = draw(st.integers(1, 9)), draw(st.integers(1, 12))
    entries = draw(st.lists(st.tuples(st.integers(0, outputs - 1), st.integers(0, inputs - 1)), max_size=30))
    into, index = np.array(entries, np.int64).reshape(-1, 2).T
    uniform = draw(st.booleans())
    weight = np.full(len(into), 0.3) if uniform else np.cos(np.arange(len(into)) + 1.0)
    return AxisMap(inputs, outputs, into, index, weight)


@settings(max_examples=50)
@given(maps(), st.one_of(st.none(), maps()), st.integers(1, 3), st.integers(1, 130), st.integers(0, 2**32 - 1))
def test_agrees_with_the_reference(columns, rows, n, channels, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, channels, rows.inputs if rows else 3, columns.inputs))
    truth = reference.resample2d(x, rows=rows, columns=columns)
    narrow = x.astype(np.float32)
    y = cpu.resample2d(narrow, rows=rows, columns=columns)
    last = narrow.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(y, cpu.resample2d(last, rows=rows, columns=columns))
    scale = reference.resample2d(np.abs(x), rows=_absolute(rows), columns=_absolute(columns)).max(initial=1e-30)
    assert np.abs(y - truth).max(initial=0) <= 1e-6 * scale


def _absolute(m):
    if m is None:
        return None
    into = np.repeat(np.arange(m.outputs), np.diff(m.start))
    weight = np.ones(len(into)) if m.weight is None else m.weight
    return AxisMap(m.inputs, m.outputs, into, m.index, np.abs(weight * m.scale))


def test_large_windows_are_as_accurate_as_small_ones():
    """The mean of 65,536 numbers around 1: one running sum in float32 is off by 1e-5 and more."""
    x = (1 + np.random.default_rng(0).random((1, 16, 256, 256))).astype(np.float32)
    whole = windows(256, np.array([0]), np.array([256]), 1, np.array([1 / 256]))
    y = cpu.resample2d(x, rows=whole, columns=whole)
    truth = x.mean((2, 3), dtype=np.float64)
    assert np.abs(y[..., 0, 0] / truth - 1).max() < 2e-6


def test_same_bits_with_one_thread():
    x = np.random.default_rng(0).standard_normal((3, 20, 12, 12)).astype(np.float32)
    pairs = windows(12, np.arange(0, 12, 2), np.arange(0, 12, 2) + 2, 1, np.full(6, 0.5))
    many = cpu.resample2d(x, rows=pairs, columns=pairs.transpose.transpose)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        np.testing.assert_array_equal(many, cpu.resample2d(x, rows=pairs, columns=pairs))
    finally:
        numba.set_num_threads(threads)


def test_an_infinity_spreads_no_further_than_its_weights():
    x = np.ones((1, 40, 12, 12), np.float32)
    x[0, :, 3, 3] = np.inf
    twice = windows(12, np.arange(24) // 2, np.arange(24) // 2 + 1, 1)
    y = cpu.resample2d(x, rows=twice, columns=twice)
    assert (~np.isfinite(y)).sum() == 40 * 4
    assert not np.isnan(y).any()


def test_all_cases_pass_and_layers_run_it():
    found = list(sg.kernels.compare("resample2d", ["numba"]))
    assert len(found) >= 12
    assert all(c.passed for c in found)
    x = sg.from_numpy(np.random.default_rng(0).standard_normal((2, 32, 12, 12)).astype(np.float32))
    y = F.interpolate(x, scale_factor=2, mode="bilinear")
    with sg.kernels.use(resample2d="reference"):
        other = F.interpolate(x, scale_factor=2, mode="bilinear")
    np.testing.assert_allclose(y.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)
    assert y.array.base is None
