"""Gather and scatter, and order: torch's values, positions, gradients and errors."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import assert_like_torch, lying, torch

import scratchgen as sg
from scratchgen.testing import check_grad

rng = np.random.default_rng(0)
NAN = float("nan")

FEW = rng.integers(0, 3, (2, 3, 4))  # positions along any dim of [3, 4, 5], with repetitions

GATHER = {  # of tensors [3, 4, 5] and [3, 3, 4], and integers [2, 3, 4]
    "gather": lambda m, x, s, i: m.gather(x, 1, i),
    "gather first": lambda m, x, s, i: x.gather(0, i[:1]),
    "gather last": lambda m, x, s, i: x.gather(-1, i[:, :, :2]),
    "gather more": lambda m, x, s, i: x.gather(2, m.cat([i, i], 2)),
    "gather none": lambda m, x, s, i: x.gather(2, i[:, :, :0]),
    "take_along_dim": lambda m, x, s, i: m.take_along_dim(x[:2, :3], i - 1, 2),
    "take_along_dim broadcast": lambda m, x, s, i: x.take_along_dim(i[:1, :, :1], -2),
    "take_along_dim broadcast input": lambda m, x, s, i: x[:1, :, :4].take_along_dim(i, 1),
    "take_along_dim flat": lambda m, x, s, i: x.take_along_dim(i * 5),
    "scatter_add": lambda m, x, s, i: m.scatter_add(x, 1, i, s[:2]),
    "scatter_add last": lambda m, x, s, i: x.scatter_add(-1, i[:, :2], s[:2, :2]),
    "scatter number": lambda m, x, s, i: m.scatter(x, 0, i, 2.5) * s.sum(),
    "scatter sum": lambda m, x, s, i: m.scatter_reduce(x, 1, i, s[:2], "sum"),
    "scatter sum anew": lambda m, x, s, i: x.scatter_reduce(1, i, s[:2], "sum", include_self=False),
    "scatter mean": lambda m, x, s, i: x.scatter_reduce(0, i, s[:2], "mean"),
    "scatter mean anew": lambda m, x, s, i: x.scatter_reduce(2, i, s[:2], reduce="mean", include_self=False),
}


@pytest.mark.parametrize("label", GATHER)
def test_gathering_and_scattering_are_torchs_and_right_to_second_order(label):
    function = GATHER[label]
    for x, s in zip(lying((3, 4, 5)), lying((3, 3, 4), seed=1)):
        assert_like_torch(lambda *xs: function(sg, *xs), lambda *ts: function(torch, *ts), x, s, FEW)
    check_grad(lambda *xs: function(sg, *xs).sin(), x, s, FEW, order=2)


def test_scattering_to_different_places_is_torchs():
    places = rng.permuted(np.tile(np.arange(4), (2, 3, 1)), axis=-1)[..., :3]
    for x, s in zip(lying((3, 3, 4)), lying((2, 3, 3), seed=1)):
        assert_like_torch(lambda x, s, i: sg.scatter(x, 2, i, s), lambda x, s, i: torch.scatter(x, 2, i, s), x, s, places)
    check_grad(lambda x, s, i: x.scatter(2, i, s).sin(), x, s, places, order=2)
    nothing = sg.tensor(x).scatter(2, sg.tensor(places[:0]), sg.tensor(s))
    np.testing.assert_array_equal(nothing.numpy(), x)


def test_what_is_written_may_be_larger_than_the_index():
    """Its first part is written. (Torch takes it too, but fails to differentiate it.)"""
    places = FEW[:, :2]
    for write in (lambda x, i, s: x.scatter_add(1, i, s), lambda x, i, s: x.scatter_reduce(1, i, s, "mean")):
        assert_like_torch(lambda x, i, s: write(x, i, s.detach()), lambda x, i, s: write(x, i, s.detach()),
                          *(rng.standard_normal((3, 4, 5)), places, rng.standard_normal((3, 3, 4))))  # fmt: skip
        check_grad(lambda x, i, s, f=write: f(x, i, s).sin(), np.ones((3, 4, 5)), places, np.ones((3, 3, 4)), order=2)


def test_of_several_values_scattered_to_one_place_only_the_one_that_stays_gets_a_gradient():
    src = sg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = sg.zeros(2).scatter(0, sg.tensor([1, 1, 1]), src)
    assert y.tolist() == [0, 3]
    assert sg.grad(y.sum(), src)[0].tolist() == [0, 0, 1]
    check_grad(lambda x, s, i: x.scatter(0, i, s).sin(), np.ones(2), np.arange(3.0), np.array([1, 1, 1]), order=2)


def test_tensors_without_dimensions():
    x, i = np.array(1.5), np.array(0)
    for function in (
        lambda x, i: x.gather(0, i), lambda x, i: x.scatter_add(0, i, x * 2), lambda x, i: x.scatter(-1, i, x * x),
        lambda x, i: x.scatter_reduce(0, i, x * x, "mean"),
    ):  # fmt: skip
        assert_like_torch(function, function, x, i)
        check_grad(lambda x, i, f=function: f(x, i).sin(), x, i, order=2)
    check_grad(lambda x, i: x.take_along_dim(i, 0).sin(), x, i, order=2)


def test_reducing_integers_rounds_down_as_torch_does():
    for reduce in ("sum", "mean"):
        assert_like_torch(
            lambda x, i, r=reduce: x.scatter_reduce(0, i, x, r), lambda x, i, r=reduce: x.scatter_reduce(0, i, x, r),
            np.array([5, -3, 8]), np.array([0, 0, 1]),
        )  # fmt: skip


x, i = sg.zeros(2, 3), sg.tensor([[0, 2]])
MISTAKES = [
    (lambda: x.gather(0, i), IndexError, r"gather: position 2 is out of range for a dimension of length 2"),
    (lambda: x.gather(1, -i), IndexError, r"gather: position -2 is out of range"),
    (lambda: x.gather(0, i[0]), ValueError, r"gather: input of shape \[2, 3\], index of shape \[2\] must have the same"),
    (lambda: x.gather(1, i.expand(3, 2)), ValueError, r"gather: index of shape \[3, 2\] is longer than the input"),
    (lambda: x.gather(1, x), TypeError, r"gather: positions must be integers, got float32\[2, 3\]"),
    (lambda: x.scatter_add(1, i, x[:, :1]), ValueError, r"scatter_add: index of .* longer .* than src of shape \[2, 1\]"),
    (lambda: x.scatter(1, i, x.double()), TypeError, r"scatter: input is float32, src is float64"),
    (lambda: x.scatter_reduce(1, i, x, "prod"), ValueError, r"scatter_reduce: reduce must be 'sum' or 'mean', got 'prod'"),
    (lambda: x.take_along_dim(i[0], 0), ValueError, r"take_along_dim: .* must have the same number of dimensions"),
    (lambda: x.topk(4), ValueError, r"topk: k is 4, dim 1 of a tensor of shape \[2, 3\] has 3 elements"),
    (lambda: x.kthvalue(0), ValueError, r"kthvalue: k is 0, expected 1 to 3"),
    (lambda: x.sort(2), IndexError, r"sort: dim 2 is out of range for a tensor of shape \[2, 3\]"),
    (lambda: sg.bucketize(x, x), ValueError, r"bucketize: boundaries must be 1-D"),
    (lambda: sg.searchsorted(x, x[0]), ValueError, r"searchsorted: .* differ in their leading dimensions"),
    (lambda: sg.searchsorted(x[0], x, right=True, side="left"), ValueError, r"searchsorted: side must be"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- order


ORDER = {  # results (values, indices)
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


@pytest.mark.parametrize("label", ORDER)
def test_order_is_torchs_and_values_are_right_to_second_order(label):
    function = ORDER[label]
    for x in list(lying((3, 4, 5)))[:-1]:  # without the repeated numbers of the zero-stride layout
        for part in (0, 1):
            assert_like_torch(lambda x: function(sg, x)[part], lambda x: function(torch, x)[part], x)
        named = function(sg, sg.tensor(x))
        assert named.values is named[0]
        assert named.indices is named[1]
    spaced = rng.permutation(60).reshape(3, 4, 5) / 7.0  # far apart, so that small steps change no order
    check_grad(lambda x: function(sg, x).values.sin(), spaced, order=2)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, bool])
def test_equal_elements_keep_their_order_if_asked(dtype):
    x = rng.integers(0, 3, (4, 50)).astype(dtype)
    for dim in (0, 1):
        for descending in (False, True):
            for part in (0, 1):
                assert_like_torch(
                    lambda x: sg.sort(x, dim, descending, stable=True)[part],
                    lambda x: torch.sort(x, dim=dim, descending=descending, stable=True)[part],
                    x,
                )
            assert_like_torch(
                lambda x: sg.argsort(x, dim, descending, stable=True),
                lambda x: torch.argsort(x, dim=dim, descending=descending, stable=True),
                x,
            )
            np.testing.assert_array_equal(
                sg.sort(sg.tensor(x), dim, descending).values.numpy(),
                torch.sort(torch.from_numpy(x), dim=dim, descending=descending).values.numpy(),
            )


def test_nan_is_the_largest():
    x = np.array([1.0, NAN, -2.0, NAN, 3.0])
    for function in (
        lambda x: x.sort(stable=True), lambda x: x.sort(stable=True, descending=True), lambda x: x.topk(3),
        lambda x: x.topk(3, largest=False), lambda x: x.cummax(0), lambda x: x.cummin(0),
    ):  # fmt: skip
        np.testing.assert_array_equal(
            function(sg.tensor(x)).values.numpy(), function(torch.from_numpy(x)).values.numpy()
        )
    x = np.array([1.0, 1.0, 0.0, NAN, 2.0, NAN])  # of equal ones the latest; the latest NaN
    for name in ("cummax", "cummin"):
        assert_like_torch(lambda x: getattr(x, name)(0).indices, lambda x: getattr(x, name)(0).indices, x)


def test_order_of_few_elements():
    for function in (lambda x: x.sort(), lambda x: x.topk(1), lambda x: x.kthvalue(1), lambda x: x.cummax(0)):
        for part in (0, 1):
            assert_like_torch(lambda x: function(x)[part], lambda x: function(x)[part], np.array(3))
        check_grad(lambda x: function(x)[0].sin(), np.array(1.5), order=2)
    for function in (lambda x: x.sort(0), lambda x: x.sort(1), lambda x: x.topk(2, 1), lambda x: x.cummax(0)):
        for ours, theirs in zip(function(sg.zeros(0, 3)), function(torch.zeros(0, 3)), strict=True):
            assert ours.shape == tuple(theirs.shape)


def test_msort_and_unsorted_topk():
    x = rng.standard_normal((5, 3))
    assert_like_torch(sg.msort, torch.msort, x)
    values, indices = sg.tensor(x).topk(2, 0, sorted=False)
    np.testing.assert_array_equal(np.sort(values.numpy(), 0), np.sort(x, 0)[-2:])
    np.testing.assert_array_equal(np.take_along_axis(x, indices.numpy(), 0), values.numpy())


def test_unique_is_torchs():
    x = rng.integers(0, 3, (4, 2))
    for dim in (None, 0, 1):
        ours = sg.unique(sg.tensor(x), return_inverse=True, return_counts=True, dim=dim)
        theirs = torch.unique(torch.from_numpy(x), return_inverse=True, return_counts=True, dim=dim)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    np.testing.assert_array_equal(sg.unique(sg.tensor([NAN, 1.0, NAN])).numpy(), [1, NAN, NAN])
    assert sg.tensor([[3, 1], [1, 2]]).unique().tolist() == [1, 2, 3]


def test_searching_is_torchs():
    edges, values = np.array([1.0, 2.0, 2.0, 5.0]), np.array([[0.5, 2.0], [5.0, 9.0]])
    for right in (False, True):
        assert_like_torch(
            lambda v, e: sg.bucketize(v, e, right=right), lambda v, e: torch.bucketize(v, e, right=right), values, edges
        )
        assert_like_torch(
            lambda v, e: sg.searchsorted(e, v, right=right),
            lambda v, e: torch.searchsorted(e, v, right=right),
            values[0].repeat(2).reshape(2, 1, 2) * np.ones((2, 3, 1)),
            np.sort(rng.uniform(0, 3, (2, 3, 6))),
        )
    assert sg.searchsorted(sg.tensor(edges), 2.0, side="right").item() == 3
