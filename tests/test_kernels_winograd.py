"""Winograd convolution: the matrices are exact, the kernels as accurate as stated, whatever the shape."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

import scratchgen as sg
from scratchgen import kernels
from scratchgen.kernels.conv2d import reference, winograd
from scratchgen.kernels.conv2d.filtering import transforms
from scratchgen.kernels.conv2d.winograd_places import range_of
from scratchgen.kernels.conv2d.winograd_transform import bounded_sandwich, sandwich

MATRICES = (
    ((4.0, 0.0, -5.0, 0.0, 1.0, 0.0), (0.0, 4.0, 4.0, -1.0, -1.0, 0.0), (0.0, 4.0, -4.0, -1.0, 1.0, 0.0)),
    ((1.0, 1.0, 1.0, 1.0, 1.0, 0.0), (0.0, 1.0, -1.0, 2.0, -2.0, 0.0), (0.0, 1.0, 1.0, 4.0, 4.0, 0.0)),
    ((0.25, 0.0), (0.5, -0.5), (0.0, 0.0)),
    ((-1.0, 0.3), (1.0, 0.7)),
)


@pytest.mark.parametrize(("outputs", "taps"), [(2, 3), (4, 3), (3, 4), (3, 2), (4, 2), (2, 5)])
def test_minimal_filtering_is_correlation(outputs, taps):
    at, g, bt, ones = map(np.array, transforms(outputs, taps))
    n = outputs + taps - 1
    assert (at.shape, g.shape, bt.shape) == ((outputs, n), (n, taps), (n, n))
    for i in range(n):  # on every unit vector: on all inputs
        for j in range(taps):
            x, w = np.eye(n)[i], np.eye(taps)[j]
            np.testing.assert_allclose(at @ ((g @ w) * (bt @ x)), np.correlate(x, w, "valid"), atol=1e-13)
    np.testing.assert_allclose(at @ ones, 1, atol=1e-13)


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize(("left", "right"), [*zip(MATRICES, MATRICES[1:] + MATRICES[:1], strict=True)])
def test_a_sandwich_multiplies_from_both_sides(left, right, lanes):
    """Of a part of a block too: beyond the bounds x is taken for 0, and y is not written."""
    transform, from_part, to_part = (
        sandwich(left, right, lanes),
        bounded_sandwich(left, right, lanes, "x"),
        bounded_sandwich(left, right, lanes, "y"),
    )

    @njit
    def run(x, y, part, bounds):
        top, bottom, first, last, count = bounds
        at_x, at_y, x_row, y_row = x.ctypes.data, y.ctypes.data, x.shape[1] * lanes, y.shape[1] * lanes
        if part == 0:
            transform(at_x, x_row, lanes, at_y, y_row, lanes)
        elif part == 1:
            from_part(at_x, x_row, lanes, at_y, y_row, lanes, top, bottom, first, last, count)
        else:
            to_part(at_x, x_row, lanes, at_y, y_row, lanes, top, bottom, first, last, count)

    bounds = (1, 5, -1, 3, lanes - 1)
    x = np.random.default_rng(0).standard_normal((len(left[0]), len(right[0]), lanes)).astype(np.float32)
    inside = np.zeros_like(x)
    inside[1:5, :3, : lanes - 1] = x[1:5, :3, : lanes - 1]
    for part, block in enumerate((x, inside, x)):
        y = np.full((len(left), len(right), lanes), 7, np.float32)
        run(x, y, part, bounds)
        expected = np.einsum("ai,ijc,bj->abc", np.array(left), block.astype(np.float64), np.array(right))
        if part == 2:
            written = np.zeros(y.shape, bool)
            written[1:5, :3, : lanes - 1] = True
            expected = np.where(written, expected, 7)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "taps", "multiplications"),
    [
        ((14, 14), 3, 22 * 22),  # 4 + 4 + 3 + 3 outputs each way, by 6 + 6 + 5 + 5 points
        ((7, 28), 3, 11 * 42),
        ((7, 14), 2, 9 * 18),
        ((64, 63), 3, 96 * 96),  # too many tiles in an image to go by whole images
    ],
)
def test_no_outputs_are_computed_beyond_the_edge_of_small_images(size, taps, multiplications):
    outputs, grid = winograd.tiles_of(32, size, taps)
    points = outputs + taps - 1
    each = grid.down * grid.across
    ranges = [
        range_of.py_func(grid, each, i == points - 1, j == points - 1) for i in range(points) for j in range(points)
    ]
    assert sum(stop - start for start, stop in ranges) == multiplications


@st.composite
def layers(draw):
    """Shapes whose convolution the kernels take: any image, padding and channel count from 8 on.

    Of nine images tiles at the end are short.
    """
    n, c, k = draw(st.sampled_from([1, 2, 3, 9])), draw(st.integers(8, 40)), draw(st.integers(8, 40))
    taps, padding = draw(st.sampled_from([3, 3, 4, 5])), draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    height, width = (draw(st.integers(max(2, taps + 1 - 2 * p), 13)) for p in padding)
    return n, c, k, height, width, taps, padding


@settings(max_examples=30)
@given(layers(), st.integers(0, 2**32 - 1))
def test_all_three_ops_agree_with_the_reference(layer, seed):
    n, c, k, height, width, taps, padding = layer
    rng = np.random.default_rng(seed)
    size = (height + 2 * padding[0] - taps + 1, width + 2 * padding[1] - taps + 1)
    how = {"stride": (1, 1), "padding": padding, "dilation": (1, 1), "groups": 1}
    x, w, y = (rng.standard_normal(s) for s in ((n, c, height, width), (k, c, taps, taps), (n, k, *size)))
    b, a = rng.standard_normal(k), rng.standard_normal(c)
    calls = [
        ("conv2d", (x, w, b), size),
        ("conv2d_input", (y, w, a), (height, width)),
        ("conv2d_weight", (x, y), (taps, taps)),
    ]
    for op, arrays, result in calls:
        truth = getattr(reference, op)(*arrays, size=result, **how)
        narrow = [array.astype(np.float32) for array in arrays]
        for inputs in (narrow, [_channels_last(v) for v in narrow]):
            got = getattr(winograd, op)(*inputs, size=result, **how)
            assert np.abs(got - truth).max() <= 1e-5 * np.abs(truth).max()
    got, sums = winograd.conv2d_weight_bias(*narrow, size=result, **how)
    np.testing.assert_array_equal(got, winograd.conv2d_weight(*narrow, size=result, **how))
    np.testing.assert_allclose(sums, y.sum((0, 2, 3)), atol=1e-6 * np.abs(y).sum((0, 2, 3)).max())


def _channels_last(x):
    return x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2) if x.ndim == 4 else x


def test_the_larger_tile_costs_the_stated_accuracy():
    """Relative error in norm over a deep layer; the direct product has about 3e-7."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 64, 18, 18)), rng.standard_normal((64, 64, 3, 3)) / 24
    how = {"size": (16, 16), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    truth = reference.conv2d(x, w, None, **how)
    y = winograd.conv2d(x.astype(np.float32), w.astype(np.float32), None, **how)
    assert np.linalg.norm(y - truth) / np.linalg.norm(truth) < 1e-6


@pytest.mark.parametrize(("images", "channels", "size"), [(4, 16, 20), (9, 16, 14), (9, 72, 8)])
def test_one_thread_and_two_give_the_same_bits(images, channels, size):
    """Every block of tiles is one thread's own; sums over tiles are one thread's too, or always taken in two halves."""
    before = numba.get_num_threads()
    if before < 2:
        pytest.skip("needs two threads")
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((images, channels, size, size)).astype(np.float32) for _ in range(2))
    w = rng.standard_normal((channels, channels, 3, 3)).astype(np.float32)
    how = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    results = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        try:
            results += [
                winograd.conv2d(x, w, None, size=(size, size), **how),
                winograd.conv2d_input(y, w, None, size=(size, size), **how),
                *winograd.conv2d_weight_bias(x, y, size=(3, 3), **how),
            ]
        finally:
            numba.set_num_threads(before)
    for one, two in zip(results[:4], results[4:], strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("channels", "outs", "size"), [(32, 64, 14), (17, 24, 9), (16, 100, 5)])
def test_a_residual_is_added_to_the_bit_as_by_two_ops(channels, outs, size):
    rng = np.random.default_rng(3)
    x, w, b = (
        rng.standard_normal(s).astype(np.float32) for s in ((3, channels, size, size), (outs, channels, 3, 3), outs)
    )
    wide = rng.standard_normal((3, size, size, 2 * outs)).astype(np.float32).transpose(0, 3, 1, 2)
    inputs = [sg.from_numpy(a).requires_grad_() for a in (x, w, b, wide[:, :outs])]
    fused = sg.nn.functional.conv2d_residual(*inputs, padding=1)
    plain = sg.nn.functional.conv2d(*inputs[:3], padding=1) + inputs[3]
    np.testing.assert_array_equal(fused.numpy(force=True), plain.numpy(force=True))
    g = sg.from_numpy(rng.standard_normal(fused.shape).astype(np.float32))
    for a, b in zip(sg.grad(fused, inputs, g), sg.grad(plain, inputs, g), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_gradients_of_1x1_filters_have_the_same_bits_on_one_thread_and_two():
    rng = np.random.default_rng(4)
    x, y = (rng.standard_normal((20, 14, 14, c)).astype(np.float32).transpose(0, 3, 1, 2) for c in (33, 80))
    how = {"size": (1, 1), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    chosen = kernels.select("conv2d_weight_bias", "cpu", (x, y), how)
    assert chosen.impl == "pixels"
    threads, results = numba.get_num_threads(), []
    try:
        for count in (1, min(threads, 2)):
            numba.set_num_threads(count)
            results.append([a.tobytes() for a in chosen.fn(x, y, **how)])
    finally:
        numba.set_num_threads(threads)
    assert results[0] == results[1]


@pytest.mark.parametrize(("images", "channels"), [(2, 17), (9, 17), (9, 32)])
def test_what_another_call_left_in_the_workspace_does_no_harm(images, channels):
    """Tiles that reach over an edge, short tiles and lanes without a channel meet memory that may hold anything."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((images, channels, 9, 7)), rng.standard_normal((channels + 2, channels, 3, 3))
    y = rng.standard_normal((images, channels + 2, 9, 7))
    how = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    calls = [("conv2d", (x, w, None), (9, 7)), ("conv2d_weight", (x, y), (3, 3))]
    for op, arrays, size in calls:
        narrow = [a if a is None else a.astype(np.float32) for a in arrays]
        before = getattr(winograd, op)(*narrow, size=size, **how)
        winograd.workspace(1)[:] = np.nan
        np.testing.assert_array_equal(getattr(winograd, op)(*narrow, size=size, **how), before)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_of_the_input_is_kept(scale):
    """The transforms neither overflow nor lose what is small: results scale with the input, to the bit."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((1, 8, 6, 6), (8, 8, 3, 3)))
    how = {"size": (6, 6), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    two = np.float32(2.0 ** round(np.log2(scale)))
    np.testing.assert_array_equal(winograd.conv2d(x * two, w, None, **how), winograd.conv2d(x, w, None, **how) * two)


@pytest.mark.parametrize(
    ("n", "c", "k", "size", "taps"),
    [
        (2, 64, 64, 32, 3),
        (2, 128, 128, 16, 3),
        (2, 256, 256, 8, 3),
        (4, 32, 64, 14, 3),
        (4, 64, 64, 7, 3),
        (4, 32, 64, 14, 5),
    ],
)
def test_error_of_real_layers(n, c, k, size, taps):
    """At most 5e-6 of the largest value, and 2e-6 in norm, for inputs and weights as a network has them."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((n, c, size, size)), rng.standard_normal((k, c, taps, taps)) / taps / np.sqrt(c)
    y = rng.standard_normal((n, k, size, size))
    how = {"stride": (1, 1), "padding": (taps // 2, taps // 2), "dilation": (1, 1), "groups": 1}
    calls = [
        ("conv2d", (x, w, None), (size, size)),
        ("conv2d_input", (y, w, None), (size, size)),
        ("conv2d_weight", (x, y), (taps, taps)),
    ]
    for op, arrays, wanted in calls:
        truth = getattr(reference, op)(*arrays, size=wanted, **how)
        got = getattr(winograd, op)(*[a if a is None else a.astype(np.float32) for a in arrays], size=wanted, **how)
        assert np.abs(got - truth).max() < 5e-6 * np.abs(truth).max()
        assert np.linalg.norm(got - truth) < 2e-6 * np.linalg.norm(truth)


def test_it_is_what_a_3x3_layer_runs_and_can_be_switched_off():
    x = sg.tensor(np.random.default_rng(0).standard_normal((2, 16, 8, 8)).astype(np.float32))
    w = sg.tensor(np.random.default_rng(1).standard_normal((16, 16, 3, 3)).astype(np.float32))
    fast = sg.conv2d(x, w, padding=1)
    with sg.kernels.use(conv2d="reference"):
        direct = sg.conv2d(x, w, padding=1)
    assert np.any(fast.array != direct.array)
    np.testing.assert_allclose(fast.array, direct.array, rtol=1e-4, atol=2e-4)


def test_the_study_version_agrees_on_all_cases_that_it_takes() -> None:
    """Also where it must copy its input, which then has to outlive the call."""
    found = list(kernels.compare("conv2d", ["winograd_f2"]))
    assert len(found) >= 10
    assert [c.case for c in found if not c.passed] == []
