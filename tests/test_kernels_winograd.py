"""Winograd convolution: the matrices are exact, the kernels as accurate as stated, whatever the shape."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchgen as sg
from scratchgen.kernels.conv2d import reference, winograd
from scratchgen.kernels.conv2d.filtering import transforms


@pytest.mark.parametrize(("outputs", "taps"), [(2, 3), (4, 3), (6, 3), (3, 2), (4, 2), (2, 5)])
def test_minimal_filtering_is_correlation(outputs, taps):
    at, g, bt = map(np.array, transforms(outputs, taps))
    n = outputs + taps - 1
    assert (at.shape, g.shape, bt.shape) == ((outputs, n), (n, taps), (n, n))
    for i in range(n):  # on every unit vector: on all inputs
        for j in range(taps):
            x, w = np.eye(n)[i], np.eye(taps)[j]
            np.testing.assert_allclose(at @ ((g @ w) * (bt @ x)), np.correlate(x, w, "valid"), atol=1e-13)


@st.composite
def layers(draw):
    """Shapes whose convolution the kernels take: any image, padding and channel count from 8 on."""
    n, c, k = draw(st.integers(1, 3)), draw(st.integers(8, 40)), draw(st.integers(8, 40))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    height, width = (draw(st.integers(max(2, 4 - 2 * p), 13)) for p in padding)
    return n, c, k, height, width, padding


@settings(max_examples=30)
@given(layers(), st.integers(0, 2**32 - 1))
def test_all_three_ops_agree_with_the_reference(layer, seed):
    n, c, k, height, width, padding = layer
    rng = np.random.default_rng(seed)
    size = (height + 2 * padding[0] - 2, width + 2 * padding[1] - 2)
    how = {"stride": (1, 1), "padding": padding, "dilation": (1, 1), "groups": 1}
    x, w, y = (rng.standard_normal(s) for s in ((n, c, height, width), (k, c, 3, 3), (n, k, *size)))
    b, a = rng.standard_normal(k), rng.standard_normal(c)
    calls = [
        ("conv2d", (x, w, b), size),
        ("conv2d_input", (y, w, a), (height, width)),
        ("conv2d_weight", (x, y), (3, 3)),
    ]
    for op, arrays, result in calls:
        truth = getattr(reference, op)(*arrays, size=result, **how)
        narrow = [array.astype(np.float32) for array in arrays]
        for inputs in (narrow, [_channels_last(v) for v in narrow]):
            got = getattr(winograd, op)(*inputs, size=result, **how)
            assert np.abs(got - truth).max() <= 2e-5 * np.abs(truth).max()


def _channels_last(x):
    return x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2) if x.ndim == 4 else x


def test_the_larger_tile_costs_the_stated_accuracy():
    """Relative error in norm over a deep layer; the direct product has about 3e-7."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 64, 18, 18)), rng.standard_normal((64, 64, 3, 3)) / 24
    how = {"size": (16, 16), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    truth = reference.conv2d(x, w, None, **how)
    y = winograd.conv2d(x.astype(np.float32), w.astype(np.float32), None, **how)
    assert np.linalg.norm(y - truth) / np.linalg.norm(truth) < 3e-6


def test_output_does_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 16, 20, 20)).astype(np.float32)
    w = rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
    how = {"size": (20, 20), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    many = winograd.conv2d(x, w, None, **how)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        one = winograd.conv2d(x, w, None, **how)
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(one, many)


def test_it_is_what_a_3x3_layer_runs_and_can_be_switched_off():
    x = sg.tensor(np.random.default_rng(0).standard_normal((2, 16, 8, 8)).astype(np.float32))
    w = sg.tensor(np.random.default_rng(1).standard_normal((16, 16, 3, 3)).astype(np.float32))
    fast = sg.conv2d(x, w, padding=1)
    with sg.kernels.use(conv2d="reference"):
        direct = sg.conv2d(x, w, padding=1)
    assert np.any(fast.array != direct.array)
    np.testing.assert_allclose(fast.array, direct.array, rtol=1e-4, atol=2e-4)
