"""Convolutions: torch's values and gradients, exact adjoints, every order of derivative, layouts and memory."""

from __future__ import annotations

import tracemalloc
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_like_torch, torch

import scratchgen as sg
from scratchgen.kernels import compare, use
from scratchgen.kernels.conv2d import reference
from scratchgen.ops.conv import _conv2d, _conv2d_input, _conv2d_weight
from scratchgen.testing import check_grad

F = torch.nn.functional
KERNELS = ("conv2d", "conv2d_input", "conv2d_weight")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# --- against torch, over all valid arguments: lengths are solved for, so that no draw is rejected


class Problem(NamedTuple):
    x: tuple[int, ...]
    w: tuple[int, ...]
    bias: int | None
    arguments: dict


def per_dim(values, dims):
    """One value for all dimensions or one for each."""
    return st.one_of(values, st.tuples(*[values] * dims))


def each(value, dims):
    return value if isinstance(value, tuple) else (value,) * dims


@st.composite
def problems(draw, dims, transposed=False):
    small = st.integers(1, 3)
    groups, c, k = draw(small), draw(small), draw(small)
    taps = draw(st.tuples(*[st.integers(1, 4)] * dims))
    stride, dilation = draw(per_dim(small, dims)), draw(per_dim(small, dims))
    padding = draw(per_dim(st.integers(0, 3), dims))
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    reach = [d * (t - 1) + 1 for d, t in zip(each(dilation, dims), taps)]
    if transposed:
        steps = each(stride, dims)
        arguments["output_padding"] = tuple(
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(steps, each(dilation, dims))
        )
        # (length - 1) stride + reach + output_padding > 2 padding
        smallest = [
            1 + max(0, -((r + e - 2 * p - 1) // s))
            for r, e, p, s in zip(reach, arguments["output_padding"], each(padding, dims), steps)
        ]
    else:
        if draw(st.booleans()):
            arguments["padding"] = draw(st.sampled_from(["same", "valid"]))
            if arguments["padding"] == "same":
                arguments["stride"] = 1
                padding = tuple((r - 1) // 2 for r in reach)
            else:
                padding = 0
        smallest = [max(1, r - 2 * p) for r, p in zip(reach, each(padding, dims))]
    lengths = [n + draw(st.integers(0, 4)) for n in smallest]
    batch = draw(st.sampled_from([(2,), (2,), (1,), (0,), ()]))
    weight = (c * groups, k) if transposed else (k * groups, c)
    bias = k * groups if draw(st.booleans()) else None
    return Problem((*batch, c * groups, *lengths), (*weight, *taps), bias, arguments)


def check_against_torch(ours, theirs, problem):
    arrays = [normal(*problem.x), normal(*problem.w, seed=1)]
    if problem.bias:
        arrays.append(normal(problem.bias, seed=2))
    if len(problem.x) == 4:
        arrays[0] = arrays[0].transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    assert_like_torch(
        lambda *inputs: ours(*inputs, **problem.arguments),
        lambda *inputs: theirs(*inputs, **problem.arguments),
        *arrays,
        rtol=1e-11,
        atol=1e-12,
    )


@given(problems(dims=1))
@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")  # torch's, of uneven kernels
def test_conv1d_is_torchs(problem):
    check_against_torch(sg.conv1d, F.conv1d, problem)


@given(problems(dims=2))
@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
def test_conv2d_is_torchs(problem):
    check_against_torch(sg.conv2d, F.conv2d, problem)


@given(problems(dims=1, transposed=True))
def test_conv_transpose1d_is_torchs(problem):
    check_against_torch(sg.conv_transpose1d, F.conv_transpose1d, problem)


@given(problems(dims=2, transposed=True))
def test_conv_transpose2d_is_torchs(problem):
    check_against_torch(sg.conv_transpose2d, F.conv_transpose2d, problem)


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-5), ("float16", 2e-3)])
def test_lower_precision_is_torchs(dtype, rtol):
    x, w, b = (a.astype(dtype) for a in (normal(4, 8, 9, 9), normal(6, 8, 3, 3), normal(6)))
    assert_like_torch(
        lambda *a: sg.conv2d(*a, stride=2, padding=1), lambda *a: F.conv2d(*a, stride=2, padding=1), x, w, b,
        rtol=rtol, atol=10 * rtol,
    )  # fmt: skip


def test_half_precision_is_added_up_in_single():
    ones = sg.ones((1, 4096, 1, 1), dtype="float16")
    assert sg.conv2d(ones, ones).item() == 4096  # float16 itself stops counting at 2048


def test_integers_are_exact():
    rng = np.random.default_rng(0)
    x, w = rng.integers(-9, 10, (2, 3, 6, 5)), rng.integers(-9, 10, (4, 3, 3, 2))
    y = sg.conv2d(sg.tensor(x), sg.tensor(w), padding=(1, 2), dilation=(1, 2))
    assert y.dtype == np.int64
    assert np.array_equal(
        y.numpy(), F.conv2d(torch.from_numpy(x), torch.from_numpy(w), None, 1, (1, 2), (1, 2)).numpy()
    )


# --- the three ops are each other's adjoints, to the last bit: integers in float64 are exact


@st.composite
def geometries(draw):
    """Shapes of x, w and y and a geometry with ``size`` given outright: edges uneven, rows unread, padding too wide."""
    small = st.integers(1, 3)
    pair = st.tuples(small, small)
    groups, c, k, n = draw(small), draw(small), draw(small), draw(small)
    taps, image, out = draw(pair), draw(st.tuples(*[st.integers(1, 7)] * 2)), draw(st.tuples(*[st.integers(1, 5)] * 2))
    how = {
        "stride": draw(pair),
        "padding": draw(st.tuples(*[st.integers(0, 5)] * 2)),
        "dilation": draw(pair),
        "groups": groups,
    }
    return (n, c * groups, *image), (k * groups, c, *taps), (n, k * groups, *out), how


@given(geometries(), st.integers(0, 2**32 - 1), st.sampled_from([None, "reference"]))
def test_adjoints_are_exact(geometry, seed, impl):
    *shapes, how = geometry
    rng = np.random.default_rng(seed)
    x, w, g = (rng.integers(-8, 9, shape).astype(np.float64) for shape in shapes)
    tx, tw, tg = map(sg.tensor, (x, w, g))
    with use(**dict.fromkeys(KERNELS, impl) if impl else {}):
        y = _conv2d(tx, tw, None, size=g.shape[2:], **how).numpy()
        x_from = _conv2d_input(tg, tw, None, size=x.shape[2:], **how).numpy()
        w_from = _conv2d_weight(tx, tg, size=w.shape[2:], **how).numpy()
    assert np.vdot(y, g) == np.vdot(x, x_from) == np.vdot(w, w_from)


@given(geometries(), st.integers(0, 2**32 - 1))
def test_values_are_the_definition(geometry, seed):
    """The sum that the reference's docstring gives, written as loops."""
    x_shape, w_shape, y_shape, how = geometry
    rng = np.random.default_rng(seed)
    x, w, b = (rng.integers(-8, 9, shape).astype(np.float64) for shape in (x_shape, w_shape, y_shape[1:2]))
    y = np.zeros(y_shape) + b[:, None, None]
    per_group = w_shape[0] // how["groups"]
    for k, c, r, s in np.ndindex(w_shape):
        for p, q in np.ndindex(*y_shape[2:]):
            h = p * how["stride"][0] - how["padding"][0] + r * how["dilation"][0]
            v = q * how["stride"][1] - how["padding"][1] + s * how["dilation"][1]
            if 0 <= h < x_shape[2] and 0 <= v < x_shape[3]:
                y[:, k, p, q] += w[k, c, r, s] * x[:, k // per_group * w_shape[1] + c, h, v]
    assert np.array_equal(reference.conv2d(x, w, b, size=y_shape[2:], **how), y)


# --- derivatives of higher order

CASES = {
    "plain": ((2, 3, 5, 4), (2, 3, 3, 2), {}),
    "strided": ((1, 2, 7, 6), (3, 2, 3, 3), {"stride": 2, "padding": 1}),
    "dilated, grouped": ((1, 4, 6, 7), (4, 2, 2, 2), {"dilation": (1, 3), "padding": (0, 2), "groups": 2}),
    "depthwise": ((2, 3, 5, 5), (3, 1, 3, 3), {"groups": 3, "padding": 1, "stride": (1, 2)}),
    "many channels out": ((1, 1, 5, 5), (5, 1, 3, 3), {"padding": 1}),
    "same": ((1, 2, 4, 5), (2, 2, 2, 4), {"padding": "same"}),
}


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(name):
    x, w, arguments = CASES[name]
    check_grad(lambda x, w, b: sg.conv2d(x, w, b, **arguments), normal(*x), normal(*w, seed=1), normal(w[0], seed=2))


@pytest.mark.parametrize("name", [n for n in CASES if n != "same"])
def test_second_derivatives_transposed(name):
    _, w, arguments = CASES[name]
    x, b = normal(2, w[0], 3, 4), normal(w[1] * arguments.get("groups", 1), seed=2)
    check_grad(lambda x, w, b: sg.conv_transpose2d(x, w, b, **arguments), x, normal(*w, seed=1), b)


def test_second_derivatives_of_signals():
    x, w = normal(2, 4, 9), normal(4, 2, 3, seed=1)
    check_grad(lambda x, w: sg.conv1d(x, w, stride=2, padding=2, groups=2), x, w)
    check_grad(lambda x, w: sg.conv_transpose1d(x[0], w, stride=3, output_padding=2, dilation=2, groups=2), x, w)


def test_third_derivatives_through_a_nonlinearity():
    w, v = normal(2, 1, 2, 2, seed=1), normal(1, 2, 2, 2, seed=2)
    check_grad(lambda x, w, v: sg.conv2d(sg.conv2d(x, w).tanh(), v), normal(1, 1, 4, 4), w, v, order=3)


# --- layouts


def strided_alike(x):
    """``x`` in many memory layouts: the same numbers at other strides."""
    yield np.ascontiguousarray(x)
    yield x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    yield x.transpose(3, 1, 0, 2).copy().transpose(2, 1, 3, 0)
    yield np.repeat(np.repeat(x, 2, axis=3), 3, axis=1)[:, ::3, :, ::2]
    yield x[..., ::-1, ::-1].copy()[..., ::-1, ::-1]
    wider = np.full((*x.shape[:3], x.shape[3] + 5), np.nan)
    wider[..., 2:-3] = x
    yield wider[..., 2:-3]


@pytest.mark.parametrize(
    ("w", "how"),
    [
        ((6, 4, 3, 3), {"padding": 1}),
        ((6, 4, 1, 1), {}),
        ((6, 4, 1, 1), {"stride": 2}),
        ((6, 2, 3, 2), {"stride": (2, 1), "groups": 2}),
        ((4, 1, 3, 3), {"groups": 4, "padding": 1}),
        ((48, 4, 3, 3), {}),
    ],
)
def test_numbers_do_not_depend_on_strides(w, how):
    x, weight = normal(2, 4, 9, 8), normal(*w, seed=1)
    size = sg.conv2d(sg.tensor(x), sg.tensor(weight), **how).shape
    g = normal(*size, seed=2)
    results = []
    for a, b, c in zip(strided_alike(x), strided_alike(weight), strided_alike(g)):
        xs = [sg.as_tensor(a).requires_grad_(), sg.as_tensor(b).requires_grad_()]
        y = sg.conv2d(*xs, **how)
        back = sg.conv_transpose2d(sg.as_tensor(c), xs[1], **how)
        results.append([t.detach().numpy() for t in (y, back, *sg.grad(y, xs, sg.as_tensor(c)))])
    for other in results[1:]:
        for first, same in zip(results[0], other):
            assert np.array_equal(first, same)


def test_zero_strides_are_read_like_copies():
    x, w, g = np.broadcast_to(normal(1, 1, 6, 1), (2, 3, 6, 6)), normal(4, 3, 3, 3), np.broadcast_to(0.5, (2, 4, 4, 4))
    y = sg.conv2d(sg.as_tensor(x), sg.as_tensor(w))
    assert np.array_equal(y.numpy(), sg.conv2d(sg.tensor(x.copy()), sg.tensor(w)).numpy())
    wanted = reference.conv2d_input(
        g.copy(), w, None, size=(6, 6), stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1
    )
    leaf = sg.as_tensor(x).requires_grad_()
    (dx,) = sg.grad(sg.conv2d(leaf, sg.tensor(w)), leaf, sg.as_tensor(g))
    assert np.array_equal(dx.numpy(), wanted)


def is_channels_last(a):
    return a.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_results_are_channels_last_and_weight_gradients_contiguous(groups, stride):
    x = sg.tensor(normal(2, 4, 6, 6), requires_grad=True)
    w = sg.tensor(normal(4, 4 // groups, 3, 3), requires_grad=True)
    y = sg.conv2d(x, w, sg.ones(4, dtype="float64"), stride=stride, padding=1, groups=groups)
    dx, dw = sg.grad(y, (x, w), sg.ones_like(y))
    assert is_channels_last(y.array)
    assert is_channels_last(dx.array)
    assert dw.array.flags.c_contiguous


def test_a_1x1_kernel_reads_the_image_in_place():
    image = normal(3, 8, 7, 16).transpose(0, 3, 1, 2)
    windows = reference.window_view(image, (1, 1), (8, 7), (1, 1), (0, 0), (1, 1), 1)
    for _, columns in reference.column_blocks(windows):
        assert np.shares_memory(columns, image)


# --- memory and choice of kernel


def test_the_matrix_of_windows_stays_small():
    x = normal(32, 16, 64, 64).astype(np.float32)
    w = normal(16, 16, 5, 5).astype(np.float32)
    how = {"stride": (1, 1), "padding": (2, 2), "dilation": (1, 1), "groups": 1}
    whole = x.nbytes * 25  # 200 MB if it were made at once
    for kernel, arrays, size in (
        (reference.conv2d, (x, w, None), (64, 64)),
        (reference.conv2d_input, (x, w, None), (64, 64)),
        (reference.add_windows, (x, w), (64, 64)),
        (reference.conv2d_weight, (x, x), (5, 5)),
    ):
        tracemalloc.start()
        if kernel is reference.add_windows:
            kernel(*arrays, size, *how.values())
        else:
            kernel(*arrays, size=size, **how)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * x.nbytes + 2 * reference.BLOCK_BYTES < whole / 4, kernel.__name__


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("op", KERNELS)
def test_kernels_agree_with_the_reference_in_float64(op, dtype):
    done = list(compare(op, ["reference", "depthwise"], dtype=dtype))
    assert {c.impl for c in done} == {"reference", "depthwise"}
    assert [c for c in done if not c.passed] == []


def test_filters_of_single_channels_have_a_kernel_of_their_own():
    x, w, y = normal(1, 4, 5, 5), normal(4, 1, 3, 3), normal(1, 4, 3, 3)
    select = sg.kernels.select
    assert select("conv2d", "cpu", (x, w, None), {"groups": 4}).impl == "depthwise"
    assert select("conv2d_weight", "cpu", (x, y), {"groups": 4}).impl == "depthwise"
    assert select("conv2d", "cpu", (x, normal(8, 1, 3, 3), None), {"groups": 4}).impl == "reference"
    assert select("conv2d_weight", "cpu", (x, normal(1, 8, 3, 3)), {"groups": 4}).impl == "reference"


# --- wrong arguments


def zeros(*shape, dtype="float32"):
    return sg.zeros(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: sg.conv2d(zeros(2, 3, 8, 8), zeros(4, 2, 3, 3)),
            ValueError,
            r"\[2, 3, 8, 8\] has 3 .*\[4, 2, 3, 3\].*takes 2",
        ),
        (lambda: sg.conv2d(zeros(2, 4, 8, 8), zeros(4, 4, 3, 3), groups=2), ValueError, "groups=2 takes 8"),
        (lambda: sg.conv2d(zeros(2, 4, 8, 8), zeros(3, 2, 3, 3), groups=2), ValueError, "groups=2 do not divide the 3"),
        (lambda: sg.conv2d(zeros(2, 4, 8, 8), zeros(3, 2, 3, 3), groups=0), ValueError, "groups=0"),
        (
            lambda: sg.conv2d(zeros(1, 1, 4, 3), zeros(1, 1, 3, 3), dilation=2),
            ValueError,
            r"conv2d: a kernel of \[3, 3\] with dilation \[2, 2\] reaches over \[5, 5\].*\[4, 3\].*padding=0",
        ),
        (lambda: sg.conv1d(zeros(1, 0), zeros(1, 1, 1)), ValueError, "conv1d: a kernel"),
        (
            lambda: sg.conv2d(zeros(8, 8), zeros(1, 1, 3, 3)),
            ValueError,
            r"conv2d: input must have shape \(N, C, H, W\) or \(C, H, W\), got \[8, 8\]",
        ),
        (
            lambda: sg.conv1d(zeros(1, 1, 8), zeros(1, 1, 3, 3)),
            ValueError,
            r"conv1d: weight must have shape \(K, C/groups, S\), got",
        ),
        (lambda: sg.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 0, 3)), ValueError, "weight must have shape"),
        (
            lambda: sg.conv2d(zeros(1, 1, 8, 8), zeros(5, 1, 3, 3), zeros(4)),
            ValueError,
            r"bias must have shape \[5\].*got \[4\]",
        ),
        (lambda: sg.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3, dtype="float64")), TypeError, "float32, float64"),
        (lambda: sg.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), zeros(1, dtype="float16")), TypeError, "and float16"),
        (
            lambda: sg.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), stride=0),
            ValueError,
            "stride must be an integer of at least 1 or 2 of them, got 0",
        ),
        (lambda: sg.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), stride=(1, 2, 3)), ValueError, r"stride.*\(1, 2, 3\)"),
        (lambda: sg.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), padding=-1), ValueError, "padding must be"),
        (lambda: sg.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), padding=0.5), ValueError, "padding must be"),
        (
            lambda: sg.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), padding="full"),
            ValueError,
            "'valid' or 'same', got 'full'",
        ),
        (
            lambda: sg.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), stride=2, padding="same"),
            ValueError,
            "needs stride 1",
        ),
        (
            lambda: sg.conv2d_residual(zeros(1, 1, 8, 8), zeros(2, 1, 3, 3), None, zeros(1, 2, 8, 8)),
            ValueError,
            r"conv2d_residual: residual of float32\[1, 2, 8, 8\], expected float32\[1, 2, 6, 6\]",
        ),
        (
            lambda: sg.conv_transpose2d(zeros(1, 2, 4, 4), zeros(3, 2, 3, 3)),
            ValueError,
            r"has 2 channels, weight .* takes 3",
        ),
        (
            lambda: sg.conv_transpose2d(zeros(1, 2, 4, 4), zeros(2, 2, 3, 3), stride=2, output_padding=2),
            ValueError,
            r"output_padding \[2, 2\] must be smaller than stride \[2, 2\] or dilation \[1, 1\]",
        ),
        (
            lambda: sg.conv_transpose1d(zeros(1, 2, 4), zeros(2, 2, 3), padding=4),
            ValueError,
            r"would make an output of size \[-2\]",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
