"""Gather and scatter: torch's values, gradients and errors, also where several elements meet in one place."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import assert_like_torch, both, lying

import scratchgen as sg
from scratchgen.testing import check_grad

rng = np.random.default_rng(0)

FEW = rng.integers(0, 3, (2, 3, 4))  # positions along any dim of [3, 4, 5], with repetitions

CASES = {  # of tensors [3, 4, 5] and [2, 3, 4], and integers [2, 3, 4]
    "gather": lambda m, x, s, i: m.gather(x, 1, i),
    "gather first": lambda m, x, s, i: x.gather(0, i[:1]),
    "gather last": lambda m, x, s, i: x.gather(-1, i[:, :, :2]),
    "gather more": lambda m, x, s, i: x.gather(2, m.cat([i, i], 2)),
    "gather none": lambda m, x, s, i: x.gather(2, i[:, :, :0]),
    "take_along_dim": lambda m, x, s, i: m.take_along_dim(x[:2, :3], i - 1, 2),
    "take_along_dim broadcast": lambda m, x, s, i: x.take_along_dim(i[:1, :, :1], -2),
    "take_along_dim broadcast input": lambda m, x, s, i: x[:1, :, :4].take_along_dim(i, 1),
    "take_along_dim flat": lambda m, x, s, i: x.take_along_dim(i * 5),
    "scatter_add": lambda m, x, s, i: m.scatter_add(x, 1, i, s),
    "scatter_add last": lambda m, x, s, i: x.scatter_add(-1, i[:, :2], s[:, :2]),
    "scatter number": lambda m, x, s, i: m.scatter(x, 0, i, 2.5) * s.sum(),
    "scatter sum": lambda m, x, s, i: m.scatter_reduce(x, 1, i, s, "sum"),
    "scatter sum anew": lambda m, x, s, i: x.scatter_reduce(1, i, s, "sum", include_self=False),
    "scatter mean": lambda m, x, s, i: x.scatter_reduce(0, i, s, "mean"),
    "scatter mean anew": lambda m, x, s, i: x.scatter_reduce(2, i, s, reduce="mean", include_self=False),
}


@pytest.mark.parametrize("label", CASES)
def test_gathering_and_scattering_are_torchs_and_right_to_second_order(label):
    function = CASES[label]
    for x, s in zip(lying((3, 4, 5)), lying((2, 3, 4), seed=1)):
        assert_like_torch(*both(function), x, s, FEW)
    check_grad(lambda *xs: function(sg, *xs).sin(), x, s, FEW, order=2)


def test_scattering_to_different_places_is_torchs():
    def scatter(m, x, s, i):
        return m.scatter(x, 2, i, s)

    places = rng.permuted(np.tile(np.arange(4), (2, 3, 1)), axis=-1)[..., :3]
    for x, s in zip(lying((3, 3, 4)), lying((2, 3, 3), seed=1)):
        assert_like_torch(*both(scatter), x, s, places)
    check_grad(lambda *xs: scatter(sg, *xs).sin(), x, s, places, order=2)
    nothing = sg.tensor(x).scatter(2, sg.tensor(places[:0]), sg.tensor(s))
    np.testing.assert_array_equal(nothing.numpy(), x)


@pytest.mark.parametrize(
    "write",
    [
        lambda m, x, i, s: x.scatter_add(1, i, s),
        lambda m, x, i, s: x.scatter_reduce(1, i, s, "mean"),
        lambda m, x, i, s: x.scatter(2, i, s),
    ],
)
def test_what_is_written_may_be_larger_than_the_index(write):
    """Then its first part is written. Torch takes it too, but fails to differentiate by it."""
    x, s, places = rng.standard_normal((3, 4, 5)), rng.standard_normal((3, 3, 4)), np.sort(FEW[:, :2, :1])
    assert_like_torch(*both(lambda m, x, i, s: write(m, x, i, s.detach())), x, places, s)
    check_grad(lambda x, i, s: write(sg, x, i, s).sin(), x, places, s, order=2)


def test_of_several_values_scattered_to_one_place_only_the_one_that_stays_gets_a_gradient():
    src = sg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = sg.zeros(2).scatter(0, sg.tensor([1, 1, 1]), src)
    assert y.tolist() == [0, 3]
    assert sg.grad(y.sum(), src)[0].tolist() == [0, 0, 1]
    check_grad(lambda x, s, i: x.scatter(0, i, s).sin(), np.ones(2), np.arange(3.0), np.array([1, 1, 1]), order=2)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x, i: x.gather(0, i),
        lambda m, x, i: x.scatter_add(0, i, x * 2),
        lambda m, x, i: x.scatter(-1, i, x * x),
        lambda m, x, i: x.scatter_reduce(0, i, x * x, "mean"),
        lambda m, x, i: x.take_along_dim(i),
    ],
)
def test_tensors_without_dimensions(function):
    x, i = np.array(1.5), np.array(0)
    assert_like_torch(*both(function), x, i)
    check_grad(lambda x, i: function(sg, x, i).sin(), x, i, order=2)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_reducing_integers_rounds_down_as_torch_does(reduce):
    x, i = np.array([5, -3, 8]), np.array([0, 0, 1])
    assert_like_torch(*both(lambda m, x, i: x.scatter_reduce(0, i, x, reduce)), x, i)


x, i = sg.zeros(2, 3), sg.tensor([[0, 2]])
MISTAKES = [
    (lambda: x.gather(0, i), IndexError, r"gather: position 2 is out of range for a dimension of length 2"),
    (lambda: x.gather(1, -i), IndexError, r"gather: position -2 is out of range"),
    (lambda: x.gather(0, i[0]), ValueError, r"gather: input of shape \[2, 3\], index of shape \[2\] must have"),
    (lambda: x.gather(1, i.expand(3, 2)), ValueError, r"gather: index of shape \[3, 2\] is longer than the input"),
    (lambda: x.gather(1, x), TypeError, r"gather: positions must be integers, got float32\[2, 3\]"),
    (lambda: x.scatter_add(1, i, x[:, :1]), ValueError, r"scatter_add: index of .* or than src of shape \[2, 1\]"),
    (lambda: x.scatter(1, i, x.double()), TypeError, r"scatter: input is float32, src is float64"),
    (lambda: x.scatter_reduce(1, i, x, "prod"), ValueError, r"scatter_reduce: reduce must be .* got 'prod'"),
    (lambda: x.take_along_dim(i[0], 0), ValueError, r"take_along_dim: .* must have the same number of dimensions"),
    (lambda: x.take_along_dim(i + 1, 1), IndexError, r"take_along_dim: position 3 is out of range"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
