"""Order: torch's values and positions, ties and NaN included; values are differentiable, positions are not."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import assert_like_torch, both, lying, part, torch

import scratchgen as sg
from scratchgen.testing import check_grad

rng = np.random.default_rng(0)
NAN = float("nan")

CASES = {  # results (values, indices)
    "sort": lambda m, x: m.sort(x),
    "sort dim": lambda m, x: x.sort(0),
    "sort descending": lambda m, x: m.sort(x, 1, descending=True),
    "topk": lambda m, x: m.topk(x, 2),
    "topk dim": lambda m, x: x.topk(3, 0),
    "topk smallest": lambda m, x: x.topk(2, 1, largest=False),
    "topk all": lambda m, x: x.topk(4, 1),
    "topk none": lambda m, x: x.topk(0),
    "kthvalue": lambda m, x: m.kthvalue(x, 2),
    "kthvalue keepdim": lambda m, x: x.kthvalue(3, 0, keepdim=True),
    "cummax": lambda m, x: m.cummax(x, 1),
    "cummin": lambda m, x: x.cummin(0),
}


@pytest.mark.parametrize("label", CASES)
def test_order_is_torchs_and_values_are_right_to_second_order(label):
    function = CASES[label]
    for x in list(lying((3, 4, 5)))[:-1]:  # without the repeated numbers of the zero-stride layout
        for i in (0, 1):
            assert_like_torch(*both(part(function, i)), x)
        result = function(sg, sg.tensor(x))
        assert result.values is result[0]
        assert result.indices is result[1]
    spaced = rng.permutation(60).reshape(3, 4, 5) / 7.0  # far apart, so that small steps change no order
    check_grad(lambda x: function(sg, x).values.sin(), spaced, order=2)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, bool])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dim", [0, 1])
def test_equal_elements_keep_their_order_if_asked(dtype, descending, dim):
    x = rng.integers(0, 3, (4, 50)).astype(dtype)
    options = {"dim": dim, "descending": descending}
    assert_like_torch(*both(lambda m, x: m.argsort(x, **options, stable=True)), x)
    expected = torch.sort(torch.from_numpy(x), **options, stable=True)
    stable = sg.sort(sg.tensor(x), **options, stable=True)
    np.testing.assert_array_equal(stable.values.numpy(), expected.values.numpy())
    np.testing.assert_array_equal(stable.indices.numpy(), expected.indices.numpy())
    np.testing.assert_array_equal(sg.sort(sg.tensor(x), **options).values.numpy(), expected.values.numpy())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sort(stable=True),
        lambda x: x.sort(stable=True, descending=True),
        lambda x: x.topk(3),
        lambda x: x.topk(3, largest=False),
        lambda x: x.kthvalue(4),
        lambda x: x.cummax(0),
        lambda x: x.cummin(0),
    ],
)
def test_nan_is_the_largest(function):
    x = np.array([1.0, NAN, -2.0, NAN, 3.0])
    np.testing.assert_array_equal(function(sg.tensor(x)).values.numpy(), function(torch.from_numpy(x)).values.numpy())


@pytest.mark.parametrize("name", ["cummax", "cummin"])
def test_running_extremes_are_found_at_the_latest_place(name):
    for x in (np.array([1.0, 1.0, 0.0, NAN, 2.0, NAN]), rng.integers(0, 4, 40), np.array([True, False, True])):
        assert_like_torch(*both(lambda m, x: getattr(m, name)(x, 0).indices), x)


@pytest.mark.parametrize(
    "function", [lambda x: x.sort(), lambda x: x.topk(1), lambda x: x.kthvalue(1), lambda x: x.cummax(0)]
)
def test_a_tensor_without_dimensions(function):
    for i in (0, 1):
        assert_like_torch(part(function, i), part(function, i), np.array(3))
    check_grad(lambda x: function(x).values.sin(), np.array(1.5), order=2)


@pytest.mark.parametrize(
    "function", [lambda x: x.sort(0), lambda x: x.sort(1), lambda x: x.topk(2, 1), lambda x: x.cummax(0)]
)
def test_a_tensor_without_elements(function):
    for ours, theirs in zip(function(sg.zeros(0, 3)), function(torch.zeros(0, 3)), strict=True):
        assert ours.shape == tuple(theirs.shape)


def test_msort_and_unsorted_topk():
    x = rng.standard_normal((5, 3))
    assert_like_torch(sg.msort, torch.msort, x)
    values, indices = sg.tensor(x).topk(2, 0, sorted=False)
    np.testing.assert_array_equal(np.sort(values.numpy(), 0), np.sort(x, 0)[-2:])
    np.testing.assert_array_equal(np.take_along_axis(x, indices.numpy(), 0), values.numpy())


@pytest.mark.parametrize("dim", [None, 0, 1])
def test_unique_is_torchs(dim):
    x = rng.integers(0, 3, (4, 2))
    options = {"return_inverse": True, "return_counts": True, "dim": dim}
    for ours, theirs in zip(
        sg.unique(sg.tensor(x), **options), torch.unique(torch.from_numpy(x), **options), strict=True
    ):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_unique_alone_and_of_nan():
    np.testing.assert_array_equal(sg.unique(sg.tensor([NAN, 1.0, NAN])).numpy(), [1, NAN, NAN])
    assert sg.tensor([[3, 1], [1, 2]]).unique().tolist() == [1, 2, 3]


@pytest.mark.parametrize("right", [False, True])
def test_searching_is_torchs(right):
    edges, values = np.array([1.0, 2.0, 2.0, 5.0]), np.array([[0.5, 2.0], [5.0, 9.0]])
    assert_like_torch(*both(lambda m, v, e: m.bucketize(v, e, right=right)), values, edges)
    rows, each = np.sort(rng.uniform(0, 3, (2, 3, 6))), rng.uniform(0, 3, (2, 3, 4))
    assert_like_torch(*both(lambda m, v, e: m.searchsorted(e, v, right=right)), each, rows)
    side = "right" if right else "left"
    assert sg.searchsorted(sg.tensor(edges), 2.0, side=side).item() == np.searchsorted(edges, 2.0, side)


x = sg.zeros(2, 3)
MISTAKES = [
    (lambda: x.topk(4), ValueError, r"topk: k is 4, dim 1 of a tensor of shape \[2, 3\] has 3 elements"),
    (lambda: x.kthvalue(0), ValueError, r"kthvalue: k is 0, expected 1 to 3"),
    (lambda: x.sort(2), IndexError, r"sort: dim 2 is out of range for a tensor of shape \[2, 3\]"),
    (lambda: sg.bucketize(x, x), ValueError, r"bucketize: boundaries must be 1-D"),
    (lambda: sg.searchsorted(x, x[0]), ValueError, r"searchsorted: .* differ in their leading dimensions"),
    (lambda: sg.searchsorted(x[0], x, right=True, side="left"), ValueError, r"searchsorted: side must be"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
