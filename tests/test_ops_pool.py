"""Pooling: torch's values, indices and gradients, ties and NaN, every order of derivative."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_like_torch, torch

import scratchgen as sg
from scratchgen.kernels import compare
from scratchgen.ops.pool import _pool_gather, _pool_scatter
from scratchgen.testing import check_grad

F = torch.nn.functional


def distinct(*shape, seed=0):
    """No ties, and gaps wide enough for differences."""
    return np.random.default_rng(seed).permutation(int(np.prod(shape))).reshape(shape) / 4.0


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def each(value, dims):
    return value if isinstance(value, tuple) else (value,) * dims


@st.composite
def poolings(draw, dilated):
    """Dimensions, shape, arguments: lengths are solved for, so that some window fits and none is all padding."""
    dims = draw(st.sampled_from([1, 2]))

    def per_dim(least, most):
        number = st.integers(least, most)
        return draw(st.one_of(number, st.tuples(*[number] * dims)))

    kernel = per_dim(1, 4)
    arguments = {"kernel_size": kernel, "ceil_mode": draw(st.booleans())}
    if draw(st.booleans()):
        arguments["stride"] = per_dim(1, 4)
    arguments["padding"] = tuple(draw(st.integers(0, k // 2)) for k in each(kernel, dims))
    if dilated:
        arguments["dilation"] = per_dim(1, 3)
    dilation, padding = each(arguments.get("dilation", 1), dims), arguments["padding"]
    lengths = []
    for k, d, p in zip(each(kernel, dims), dilation, padding):
        fitting = d * (k - 1) + 1 - 2 * p
        holding = d if p else 1  # a window that starts in the padding has an element within the first d
        lengths.append(max(fitting, holding, 1) + draw(st.integers(0, 5)))
    batch = draw(st.sampled_from([(2,), (2,), (1,), (0,), ()]))
    return dims, (*batch, 3, *lengths), arguments


def channels_last(x):
    return x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2) if x.ndim == 4 else x


@given(poolings(dilated=True))
def test_max_pooling_is_torchs(problem):
    dims, shape, arguments = problem
    ours, theirs = (sg.max_pool1d, F.max_pool1d) if dims == 1 else (sg.max_pool2d, F.max_pool2d)
    x = channels_last(np.random.default_rng(0).integers(-4, 5, shape).astype(np.float64))  # with ties
    assert_like_torch(lambda x: ours(x, **arguments), lambda x: theirs(x, **arguments), x)
    assert_like_torch(
        lambda x: ours(x, **arguments, return_indices=True)[1],
        lambda x: theirs(x, **arguments, return_indices=True)[1],
        x,
    )


@given(poolings(dilated=False), st.booleans(), st.sampled_from([None, 1, 3, -2]))
def test_average_pooling_is_torchs(problem, count_include_pad, divisor):
    dims, shape, arguments = problem
    ours, theirs = (sg.avg_pool1d, F.avg_pool1d) if dims == 1 else (sg.avg_pool2d, F.avg_pool2d)
    arguments["count_include_pad"] = count_include_pad
    if dims == 2:
        arguments["divisor_override"] = divisor
    x = channels_last(normal(*shape))
    assert_like_torch(lambda x: ours(x, **arguments), lambda x: theirs(x, **arguments), x)


sizes = st.integers(1, 9)


@given(sizes, sizes, sizes, st.none() | sizes)
def test_adaptive_pooling_is_torchs(height, width, rows, columns):
    x, target = normal(2, 3, height, width), (rows, columns)
    assert_like_torch(lambda x: sg.adaptive_avg_pool2d(x, target), lambda x: F.adaptive_avg_pool2d(x, target), x)
    assert_like_torch(lambda x: sg.adaptive_max_pool2d(x, target), lambda x: F.adaptive_max_pool2d(x, target), x)
    assert_like_torch(lambda x: sg.adaptive_avg_pool1d(x, rows), lambda x: F.adaptive_avg_pool1d(x, rows), x[0])
    assert_like_torch(lambda x: sg.adaptive_max_pool1d(x, rows), lambda x: F.adaptive_max_pool1d(x, rows), x[0, 0])
    assert_like_torch(
        lambda x: sg.adaptive_max_pool2d(x, target, return_indices=True)[1],
        lambda x: F.adaptive_max_pool2d(x, target, return_indices=True)[1],
        x,
    )


def test_adaptive_pooling_to_nothing_is_torchs():
    x = sg.tensor(normal(2, 3, 4, 4), requires_grad=True)
    y = sg.adaptive_avg_pool2d(x, (0, None))
    assert y.shape == F.adaptive_avg_pool2d(torch.zeros(2, 3, 4, 4), (0, None)).shape
    y.sum().backward()
    assert not x.grad.numpy().any()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8"])
def test_maxima_keep_their_dtype(dtype):
    x = np.random.default_rng(0).integers(0, 200, (2, 3, 6, 6)).astype(dtype)
    rtol = 1e-3 if dtype == "float16" else 1e-6  # of gradients that add up
    assert_like_torch(lambda x: sg.max_pool2d(x, 3, 2, 1), lambda x: F.max_pool2d(x, 3, 2, 1), x, rtol=rtol)


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-6), ("float16", 1e-3)])
def test_means_in_lower_precision_are_torchs(dtype, rtol):
    x = normal(2, 3, 9, 9).astype(dtype)
    assert_like_torch(lambda x: sg.avg_pool2d(x, 3), lambda x: F.avg_pool2d(x, 3), x, rtol=rtol, atol=rtol)
    assert_like_torch(
        lambda x: sg.adaptive_avg_pool2d(x, 1), lambda x: F.adaptive_avg_pool2d(x, 1), x, rtol=rtol, atol=rtol
    )


# --- which element is the largest


@pytest.mark.parametrize("seed", range(5))
def test_nan_and_infinities_are_treated_as_by_torch(seed):
    x = np.random.default_rng(seed).choice(
        [np.nan, -np.inf, np.inf, 0.0, 1.0], (2, 2, 9, 9), p=[0.2, 0.5, 0.1, 0.1, 0.1]
    )
    for arguments in ((2,), (3, 2, 1), (3, 1, 1, 2)):
        for part in (0, 1):
            assert_like_torch(
                lambda x, a=arguments, p=part: sg.max_pool2d(x, *a, return_indices=True)[p],
                lambda x, a=arguments, p=part: F.max_pool2d(x, *a, return_indices=True)[p],
                x,
            )


def test_of_equal_values_the_first_gets_the_gradient():
    x = sg.zeros((1, 1, 2, 4), requires_grad=True)
    sg.max_pool2d(x, 2).sum().backward()
    assert x.grad.tolist() == [[[[1, 0, 1, 0], [0, 0, 0, 0]]]]


def test_padding_is_never_the_largest():
    x = sg.full((1, 1, 3, 3), -5.0)
    assert sg.max_pool2d(x, 3, 1, 1).tolist() == x.tolist()


def test_recording_changes_no_value():
    x = normal(2, 3, 7, 7)
    recorded = sg.max_pool2d(sg.tensor(x, requires_grad=True), 3, 2)
    assert np.array_equal(recorded.detach().numpy(), sg.max_pool2d(sg.tensor(x), 3, 2).numpy())
    with sg.no_grad():
        assert not sg.max_pool2d(sg.tensor(x, requires_grad=True), 3, 2).requires_grad


# --- derivatives


def test_gather_and_scatter_are_adjoint_exactly():
    rng = np.random.default_rng(0)
    x, y = rng.integers(-8, 9, (2, 3, 5, 4)).astype(np.float64), rng.integers(-8, 9, (2, 3, 6, 2)).astype(np.float64)
    index = sg.tensor(rng.integers(0, 20, y.shape))
    gathered = _pool_gather(sg.tensor(x), index).numpy()
    assert np.array_equal(
        gathered, np.take_along_axis(x.reshape(2, 3, 20), index.numpy().reshape(2, 3, 12), 2).reshape(y.shape)
    )
    assert np.vdot(gathered, y) == np.vdot(x, _pool_scatter(sg.tensor(y), index, size=(5, 4)).numpy())


@pytest.mark.parametrize(
    ("pool", "shape"),
    [
        (lambda x: sg.max_pool1d(x, 3, 2, 1), (2, 2, 9)),
        (lambda x: sg.max_pool2d(x, 2), (2, 2, 4, 6)),
        (lambda x: sg.max_pool2d(x, 3, 2, 1, ceil_mode=True), (2, 6, 7)),
        (lambda x: sg.max_pool2d(x, (2, 3), 1, dilation=2), (1, 2, 5, 6)),
        (lambda x: sg.adaptive_max_pool2d(x, (3, 2)), (1, 2, 5, 5)),
        (lambda x: sg.adaptive_max_pool1d(x, 4), (2, 7)),
        (lambda x: sg.avg_pool1d(x, 3, 2, 1), (2, 2, 9)),
        (lambda x: sg.avg_pool2d(x, 2), (2, 2, 4, 6)),
        (lambda x: sg.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False), (2, 6, 7)),
        (lambda x: sg.avg_pool2d(x, 3, divisor_override=4), (1, 1, 5, 5)),
        (lambda x: sg.adaptive_avg_pool2d(x, (3, None)), (1, 2, 5, 4)),
        (lambda x: sg.adaptive_avg_pool1d(x, 4), (2, 7)),
    ],
)
def test_second_derivatives(pool, shape):
    check_grad(lambda x: pool(x) * pool(x), distinct(*shape))


# --- layouts and kernels


@pytest.mark.parametrize("pool", [lambda x: sg.max_pool2d(x, 3, 2, 1), lambda x: sg.avg_pool2d(x, 3, 2, 1)])
def test_numbers_do_not_depend_on_strides(pool):
    x = normal(2, 5, 8, 9)
    wanted = pool(sg.tensor(x)).numpy()
    g = normal(*wanted.shape, seed=1)
    gradients = []
    for other in (
        x,
        channels_last(x),
        x.transpose(3, 1, 0, 2).copy().transpose(2, 1, 3, 0),
        x[..., ::-1, ::-1].copy()[..., ::-1, ::-1],
        np.repeat(x, 2, axis=3)[..., ::2],
    ):
        leaf = sg.as_tensor(other).requires_grad_()
        y = pool(leaf)
        assert np.array_equal(y.detach().numpy(), wanted)
        assert y.array.transpose(0, 2, 3, 1).flags.c_contiguous
        gradients.append(sg.grad(y, leaf, sg.tensor(g))[0])
        assert gradients[-1].array.transpose(0, 2, 3, 1).flags.c_contiguous
    assert all(np.array_equal(gradients[0].numpy(), other.numpy()) for other in gradients)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("op", ["max_pool2d", "pool_gather", "pool_scatter"])
def test_kernels_agree_with_the_reference_in_float64(op, dtype):
    assert [c for c in compare(op, dtype=dtype) if not c.passed] == []


# --- wrong arguments


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: sg.max_pool2d(sg.zeros((4, 4)), 2),
            ValueError,
            r"max_pool2d: input must have shape \(N, C, H, W\) or \(C, H, W\), got \[4, 4\]",
        ),
        (
            lambda: sg.max_pool1d(sg.zeros((1, 1, 4, 4)), 2),
            ValueError,
            r"max_pool1d: input must have shape \(N, C, L\)",
        ),
        (
            lambda: sg.max_pool2d(sg.zeros((1, 4, 4)), 5),
            ValueError,
            r"a window of \[5, 5\].*does not fit into input of shape \[1, 4, 4\]",
        ),
        (lambda: sg.max_pool2d(sg.zeros((1, 4, 4)), 3, dilation=2), ValueError, r"dilation \[2, 2\] does not fit"),
        (
            lambda: sg.max_pool2d(sg.zeros((1, 4, 4)), 2, padding=2),
            ValueError,
            r"padding \[2, 2\] must be at most half of kernel_size \[2, 2\]",
        ),
        (
            lambda: sg.max_pool2d(sg.zeros((1, 2, 2)), 2, padding=1, dilation=3),
            ValueError,
            "falls outside an input of length 2 altogether",
        ),
        (lambda: sg.max_pool2d(sg.zeros((1, 4, 4)), 0), ValueError, "kernel_size must be an integer of at least 1"),
        (
            lambda: sg.max_pool2d(sg.zeros((1, 4, 4)), 2, (1, 2, 3)),
            ValueError,
            r"stride must be .* or 2 of them, got \(1, 2, 3\)",
        ),
        (
            lambda: sg.avg_pool2d(sg.zeros((1, 4, 4)), 2, padding=-1),
            ValueError,
            "padding must be an integer of at least 0",
        ),
        (
            lambda: sg.avg_pool2d(sg.zeros((1, 4, 4)), 2, divisor_override=0),
            ValueError,
            "divisor_override must not be 0",
        ),
        (lambda: sg.avg_pool2d(sg.zeros((1, 4, 4), dtype="int64"), 2), TypeError, "floating-point input, got int64"),
        (
            lambda: sg.adaptive_avg_pool2d(sg.zeros((1, 4, 0)), 2),
            ValueError,
            r"nothing to pool in an input of shape \[1, 4, 0\]",
        ),
        (
            lambda: sg.adaptive_avg_pool2d(sg.zeros((1, 4, 4)), (2, 2, 2)),
            ValueError,
            r"output_size must be .*\(2, 2, 2\)",
        ),
        (
            lambda: sg.adaptive_max_pool1d(sg.zeros((1, 4)), -1),
            ValueError,
            "output_size must be an integer of at least 0",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
