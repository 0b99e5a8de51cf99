"""Interpolation: torch's values and gradients in all modes, sizes and factors; the maps behind it; layouts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_like_torch, torch

import scratchgen as sg
from scratchgen.kernels import compare
from scratchgen.kernels.resample import AxisMap, windows
from scratchgen.ops.resample import area, interpolation, nearest
from scratchgen.testing import check_grad

F = torch.nn.functional
MODES = {
    1: ("nearest", "nearest-exact", "linear", "area"),
    2: ("nearest", "nearest-exact", "bilinear", "bicubic", "area"),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# --- against torch


@st.composite
def interpolations(draw, dims):
    """Shape and arguments; a factor leaves at least one pixel because it is drawn above 1 / length."""
    lengths = draw(st.tuples(*[st.integers(1, 11)] * dims))
    mode = draw(st.sampled_from(MODES[dims]))
    arguments = {"mode": mode}
    if mode in ("linear", "bilinear", "bicubic"):
        arguments["align_corners"] = draw(st.sampled_from([None, False, True]))
    if draw(st.booleans()):
        target = arguments["size"] = draw(st.one_of(st.integers(1, 25), st.tuples(*[st.integers(1, 25)] * dims)))
    else:
        factors = tuple(draw(st.floats(1.001 / n, 4)) for n in lengths)
        factors = arguments["scale_factor"] = draw(st.sampled_from([factors, 1.0, 1.5, 2, 3.0]))
        arguments["recompute_scale_factor"] = draw(st.sampled_from([None, False, True]))
        target = tuple(int(n * f) for n, f in zip(lengths, np.broadcast_to(factors, (dims,))))
        if mode == "bicubic" and target == lengths:
            # torch's gradient is then the identity's, though its values follow the factor: give both the same map.
            arguments["recompute_scale_factor"] = True
    if mode in ("bilinear", "bicubic") and min(lengths[1], np.broadcast_to(target, (dims,))[1]) > 1:
        arguments["antialias"] = draw(st.booleans())  # columns have a test of their own
    return (draw(st.integers(0, 2)), 2, *lengths), arguments


def check(problem):
    shape, arguments = problem
    assert_like_torch(
        lambda x: sg.interpolate(x, **arguments),
        lambda x: F.interpolate(x, **arguments),
        normal(*shape),
        rtol=1e-9,
        atol=1e-11,
    )


@given(interpolations(dims=1))
def test_signals_are_interpolated_as_by_torch(problem):
    shape, arguments = problem
    if not arguments["mode"].startswith("nearest"):
        return check(problem)
    # torch's nearest of signals takes values by one map and gradients by another where a factor keeps the length
    # (or doubles it) without being 1 (or 2). Its nearest of images does not: compare with an image of height 1.
    image = dict(arguments)
    if "size" in image:
        image["size"] = (1, *np.atleast_1d(image["size"]).tolist())
    else:
        image["scale_factor"] = (1.0, *np.atleast_1d(image["scale_factor"]).tolist())
    assert_like_torch(
        lambda x: sg.interpolate(x, **arguments),
        lambda x: F.interpolate(x[:, :, None], **image)[:, :, 0],
        normal(*shape),
    )


@given(interpolations(dims=2))
def test_images_are_interpolated_as_by_torch(problem):
    check(problem)


@pytest.mark.parametrize("mode", MODES[2])
def test_every_pair_of_lengths_is_torchs(mode):
    x = normal(1, 1, 12, 3)
    for inputs in range(1, 13):
        for outputs in (*range(1, 14), 24, 31, 100):
            y = sg.interpolate(sg.tensor(x[:, :, :inputs]), (outputs, 2), mode=mode).numpy()
            t = F.interpolate(torch.from_numpy(x[:, :, :inputs]), (outputs, 2), mode=mode).numpy()
            np.testing.assert_allclose(y, t, rtol=1e-10, atol=1e-12, err_msg=f"{inputs} to {outputs}")


@pytest.mark.parametrize("exact", [False, True])
def test_rounding_of_nearest_is_torchs_for_long_axes(exact):
    mode = "nearest-exact" if exact else "nearest"
    for inputs, outputs in ((7, 1000), (1000, 333), (999, 1000), (640, 517), (49, 4900), (3000, 41)):
        places = torch.arange(inputs, dtype=torch.float64)[None, None]
        theirs = F.interpolate(places, outputs, mode=mode)[0, 0].numpy()
        assert np.array_equal(nearest(inputs, outputs, inputs / outputs, exact).index, theirs)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float16", 2e-3)])
@pytest.mark.parametrize("mode", MODES[2])
def test_lower_precision_is_torchs(mode, dtype, tolerance):
    assert_like_torch(
        lambda x: sg.interpolate(x, (5, 13), mode=mode), lambda x: F.interpolate(x, (5, 13), mode=mode),
        normal(2, 3, 8, 7).astype(dtype), rtol=tolerance, atol=tolerance,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("width", [1, 3])
def test_antialiasing_to_a_column(mode, width):
    """As antialiasing the transposed image to a row; torch's columns (2.13) repeat their first number."""
    x = normal(2, 3, 9, width)
    column = sg.interpolate(sg.tensor(x), (4, 1), mode=mode, antialias=True).numpy()
    row = F.interpolate(torch.from_numpy(x).transpose(2, 3), (1, 4), mode=mode, antialias=True).numpy()
    np.testing.assert_allclose(column, row.swapaxes(2, 3), rtol=1e-10)


def test_bytes_can_be_repeated():
    x = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4)
    assert_like_torch(lambda x: sg.interpolate(x, scale_factor=2), lambda x: F.interpolate(x, scale_factor=2), x)


@pytest.mark.filterwarnings("ignore:.*upsample.* is deprecated:UserWarning")
def test_upsampling_helpers_are_torchs():
    x = normal(2, 3, 4, 5)
    for ours, theirs in (
        (sg.upsample, F.upsample),
        (sg.upsample_nearest, F.upsample_nearest),
        (sg.upsample_bilinear, F.upsample_bilinear),
    ):
        assert_like_torch(lambda x, f=ours: f(x, (9, 7)), lambda x, f=theirs: f(x, (9, 7)), x)
        assert_like_torch(lambda x, f=ours: f(x, scale_factor=3), lambda x, f=theirs: f(x, scale_factor=3), x)
    assert_like_torch(lambda x: sg.upsample(x, 8, mode="bicubic"), lambda x: F.upsample(x, 8, mode="bicubic"), x)


# --- what interpolation means


@pytest.mark.parametrize("mode", MODES[2])
def test_a_constant_stays_constant(mode):
    y = sg.interpolate(sg.full((1, 1, 5, 7), 3.0, dtype="float64"), (8, 3), mode=mode)
    np.testing.assert_allclose(y.numpy(), 3, rtol=1e-14)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_ramp_stays_a_ramp_away_from_the_edges(mode):
    ramp = sg.tensor(np.arange(16.0).reshape(1, 1, 16, 1))
    y = sg.interpolate(ramp, (48, 1), mode=mode).numpy()[0, 0, :, 0]
    inner = slice(9, -9)
    exact = ((np.arange(48) + 0.5) / 3 - 0.5)[inner]
    # Cubic convolution with a = -3/4 does not reproduce ramps: it is off by up to 0.0463 of a pixel's step here.
    np.testing.assert_allclose(y[inner], exact, atol=1e-12 if mode == "bilinear" else 0.047)


def test_aligned_corners_stay():
    x = normal(1, 1, 5, 6)
    y = sg.interpolate(sg.tensor(x), (9, 11), mode="bicubic", align_corners=True).numpy()
    np.testing.assert_allclose(y[..., ::8, ::10], x[..., ::4, ::5], rtol=1e-12)
    np.testing.assert_allclose(y[..., ::2, ::2], x, rtol=1e-12)


# --- the maps


def dense(m):
    """The matrix of a map, from its compressed rows."""
    matrix = np.zeros((m.outputs, m.inputs))
    for o in range(m.outputs):
        for e in range(m.start[o], m.start[o + 1]):
            matrix[o, m.index[e]] += m.scale * (1 if m.weight is None else m.weight[e])
    return matrix


@st.composite
def maps(draw):
    inputs, outputs, count = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(0, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = rng.integers(-3, 4, count) if draw(st.booleans()) else np.full(count, 2)
    return AxisMap(inputs, outputs, rng.integers(outputs, size=count), rng.integers(inputs, size=count), weight)


@given(maps(), maps())
def test_a_map_is_its_matrix_and_so_are_its_transposes(rows, columns):
    x = np.random.default_rng(0).integers(-9, 10, (2, 3, rows.inputs, columns.inputs)).astype(np.float64)
    apply = sg.kernels.implementations("resample2d")["reference"].fn
    y = apply(x, rows=rows, columns=columns)
    assert np.array_equal(y, dense(rows) @ x @ dense(columns).T)
    assert np.array_equal(dense(rows.transpose), dense(rows).T)
    assert np.array_equal(dense(rows.transpose.transpose), dense(rows))
    g = np.random.default_rng(1).integers(-9, 10, y.shape).astype(np.float64)
    assert np.vdot(y, g) == np.vdot(x, apply(g, rows=rows.transpose, columns=columns.transpose))


@given(maps())
def test_jagged_diagonals_hold_every_entry_once(m):
    matrix = np.zeros((m.outputs, m.inputs))
    for into, index, weight in m.diagonals:
        rows, columns = np.arange(m.outputs)[into], np.arange(m.inputs)[index]
        assert len(set(rows)) == len(rows) == len(columns)
        matrix[rows, columns] += m.scale * (1 if weight is None else weight)
    assert np.array_equal(matrix, dense(m))


def test_means_are_rows_of_equal_weights():
    m = area(6, 4)
    expected = np.array([[1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]]) / 2
    assert np.array_equal(dense(m), expected)
    assert m.scale == 0.5
    assert m.weight is None


def test_regular_windows_are_read_in_place():
    halves = windows(8, np.arange(0, 8, 2), np.arange(0, 8, 2) + 2, 1)
    assert [index for _, index, _ in halves.diagonals] == [slice(0, 7, 2), slice(1, 8, 2)]


def test_maps_are_made_once():
    assert interpolation("linear", 8, 16, 0.5, False) is interpolation("linear", 8, 16, 0.5, False)
    assert area(8, 3).transpose is area(8, 3).transpose


def test_infinities_stay_where_they_are():
    x = np.zeros((1, 1, 6, 6))
    x[0, 0, 2, 3] = np.inf
    assert_like_torch(lambda x: sg.interpolate(x, 12), lambda x: F.interpolate(x, 12), x)
    assert_like_torch(lambda x: sg.avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), x)


# --- derivatives, layouts, kernels


@pytest.mark.parametrize("mode", [*MODES[2], "antialiased"])
@pytest.mark.parametrize("size", [(3, 4), (9, 5)])
def test_second_derivatives(mode, size):
    how = {"mode": "bicubic", "antialias": True} if mode == "antialiased" else {"mode": mode}
    check_grad(lambda x: sg.interpolate(x, size, **how) ** 2, normal(1, 2, 5, 6))


@pytest.mark.parametrize("mode", MODES[1])
def test_second_derivatives_of_signals(mode):
    check_grad(lambda x: sg.interpolate(x, scale_factor=1.7, mode=mode) ** 2, normal(2, 2, 5))


@pytest.mark.parametrize("mode", MODES[2])
@pytest.mark.parametrize("size", [(3, 4), (9, 17), (12, 4), (3, 16)])
def test_numbers_do_not_depend_on_strides(mode, size):
    x, g = normal(2, 3, 6, 8), normal(2, 3, *size, seed=1)
    results = []
    for a in (
        x,
        x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
        x.transpose(3, 1, 0, 2).copy().transpose(2, 1, 3, 0),
        x[..., ::-1, ::-1].copy()[..., ::-1, ::-1],
        np.repeat(x, 2, axis=1)[:, ::2],
    ):
        leaf = sg.as_tensor(a).requires_grad_()
        y = sg.interpolate(leaf, size, mode=mode)
        (dx,) = sg.grad(y, leaf, sg.tensor(g))
        assert y.array.transpose(0, 2, 3, 1).flags.c_contiguous
        assert dx.array.transpose(0, 2, 3, 1).flags.c_contiguous
        results.append((y.detach().numpy(), dx.numpy()))
    for y, dx in results[1:]:
        assert np.array_equal(y, results[0][0])
        assert np.array_equal(dx, results[0][1])


def test_the_result_does_not_share_memory_with_the_input():
    x = sg.tensor(normal(1, 2, 4, 4).transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2))
    for y in (sg.interpolate(x, 4), sg.interpolate(x, 4, mode="area"), sg.avg_pool2d(x, 1), sg.max_pool2d(x, 1)):
        assert np.array_equal(y.numpy(), x.numpy())
        assert not np.shares_memory(y.numpy(), x.numpy())


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_kernels_agree_with_the_reference_in_float64(dtype):
    assert [c for c in compare("resample2d", dtype=dtype) if not c.passed] == []


# --- wrong arguments


def image():
    return sg.zeros((1, 1, 8, 8))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sg.interpolate(image()), ValueError, "either size or scale_factor"),
        (lambda: sg.interpolate(image(), 4, 2.0), ValueError, "either size or scale_factor"),
        (
            lambda: sg.interpolate(image(), (4, 4, 4)),
            ValueError,
            r"size must be an integer of at least 1 or 2 of them, got \(4, 4, 4\)",
        ),
        (lambda: sg.interpolate(image(), 0), ValueError, "size must be"),
        (
            lambda: sg.interpolate(image(), scale_factor=0.1),
            ValueError,
            r"leave at least one pixel, got 0.1 for an input of shape \[1, 1, 8, 8\]",
        ),
        (
            lambda: sg.interpolate(image(), scale_factor=(2.0,)),
            ValueError,
            "scale_factor must be a number or 2 of them",
        ),
        (lambda: sg.interpolate(image(), 4, mode="lanczos"), ValueError, "mode must be one of nearest, .*'lanczos'"),
        (
            lambda: sg.interpolate(image(), 4, mode="linear"),
            ValueError,
            r"mode 'linear' needs 3 dimensions, input has shape \[1, 1, 8, 8\]",
        ),
        (
            lambda: sg.interpolate(sg.zeros((1, 1, 8)), 4, mode="bicubic"),
            ValueError,
            "mode 'bicubic' needs 4 dimensions",
        ),
        (lambda: sg.interpolate(sg.zeros((8, 8)), 4), ValueError, r"\(N, C, L\) or \(N, C, H, W\), got \[8, 8\]"),
        (lambda: sg.interpolate(sg.zeros((1, 1, 0, 8)), 4), ValueError, "nothing to interpolate"),
        (
            lambda: sg.interpolate(image(), 4, align_corners=True),
            ValueError,
            "align_corners has no meaning with mode 'nearest'",
        ),
        (
            lambda: sg.interpolate(image(), 4, recompute_scale_factor=True),
            ValueError,
            "recompute_scale_factor has no meaning with size",
        ),
        (
            lambda: sg.interpolate(image(), 4, mode="area", antialias=True),
            ValueError,
            "antialias is for the modes bilinear and bicubic",
        ),
        (
            lambda: sg.interpolate(sg.zeros((1, 1, 8, 8), dtype="int64"), 4, mode="bilinear"),
            TypeError,
            "floating-point input, got int64",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
