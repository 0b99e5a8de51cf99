"""Comparisons, where, clamp, minimum and maximum: torch's values, and its gradients at ties and on bounds."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import assert_like_torch, assert_op_like_torch, pairs, torch

import scratchgen as sg
from scratchgen.testing import check_grad

INF, NAN = float("inf"), float("nan")


def tied(shape):
    """Few values, so that many are equal."""
    return np.random.default_rng(0).integers(-1, 2, shape).astype(float)


def other(shape):
    return np.random.default_rng(1).integers(-1, 2, shape).astype(float)


def normal(shape):
    return np.random.default_rng(2).standard_normal(shape)


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor"])
def test_comparisons_and_logic(name):
    for a, b in pairs(tied, other):
        assert_op_like_torch(name, a, b)
        assert_op_like_torch(name, a.astype(bool), b.astype(np.int64))


@pytest.mark.parametrize("name", ["logical_not", "isnan", "isinf", "isfinite"])
def test_kinds_of_numbers(name):
    assert_op_like_torch(name, np.array([NAN, INF, -INF, 0, 2.5]))
    assert_op_like_torch(name, np.array([0, 1, 3]))


def test_comparisons_carry_no_gradient():
    x = sg.ones(3, requires_grad=True)
    assert not (x > 0).requires_grad


@pytest.mark.parametrize("options", [{}, {"equal_nan": True}, {"rtol": 1e-3}, {"atol": 1e-3, "rtol": 0}])
def test_close(options):
    a = np.array([1.0, NAN, INF, 1e-9, 100.0])
    b = np.array([1.00001, NAN, INF, 0.0, 100.01])
    assert_op_like_torch("isclose", a, b, **options)
    for part in (slice(0, 1), slice(1, 2), slice(2, 4), slice(2, 5)):
        ours = sg.allclose(sg.tensor(a[part]), sg.tensor(b[part]), **options)
        assert ours is torch.allclose(torch.from_numpy(a[part]), torch.from_numpy(b[part]), **options)


def test_equal():
    assert sg.equal(sg.tensor([1, 2]), sg.tensor([1, 2]))
    assert not sg.equal(sg.tensor([1, 2]), sg.tensor([1, 3]))
    assert not sg.equal(sg.tensor([1, 1]), sg.tensor([1]))
    assert sg.zeros(0).equal(sg.zeros(0))


# --- where


def test_where_broadcasts_and_chooses_gradients():
    condition = np.array([[True], [False], [True]])
    for a, b in (
        (normal((3, 4)), normal((4,))),
        (normal((4, 3)).T, np.asarray(normal(()))),
        (normal((2, 3, 1)), normal(4)),
    ):
        assert_op_like_torch("where", condition, a, b)
    check_grad(lambda x, y: sg.where(sg.tensor(condition), x * y, y), normal((3, 2)), normal(2), order=2)


@pytest.mark.parametrize("number", [0, 1.5, True])
def test_where_with_numbers(number):
    c, x = np.array([True, False]), normal(2)
    for f in (
        lambda m, p, t: m.where(p, t, number),
        lambda m, p, t: m.where(p, number, t),
        lambda m, p, t: t.where(p, number),
        lambda m, p, t: m.where(p, number, 2.5),
    ):
        assert_like_torch(lambda p, t, f=f: f(sg, p, t), lambda p, t, f=f: f(torch, p, t), c, x)


def test_where_with_arrays_and_alone():
    c, x = np.array([True, False]), normal(2)
    assert sg.where(c, sg.tensor(x), x + 1).tolist() == [x[0], x[1] + 1]
    assert [i.tolist() for i in sg.where(sg.tensor([[0, 1], [1, 1]]) > 0)] == [[0, 1, 1], [1, 0, 1]]


def test_where_keeps_what_is_not_chosen_out_of_the_gradient():
    x = sg.tensor([0.0, 4.0], requires_grad=True)
    y = sg.where(x == 0, 0, 1 / sg.where(x == 0, 1, x))
    assert sg.grad(y.sum(), x)[0].tolist() == [0, -0.0625]


def test_where_wants_a_bool_condition():
    with pytest.raises(TypeError, match="where: the condition must be a bool tensor, got int64; write x != 0"):
        sg.where(sg.tensor([0, 1]), 1.0, 2.0)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - NumPy's words, our note
        sg.where(sg.ones(3).bool(), sg.ones(2), 0)
    assert "in where(bool[3], float32[2], 0)" in caught.value.__notes__[0]


# --- limits


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_ties_share_the_gradient(name):
    for a, b in pairs(tied, other):
        assert_op_like_torch(name, a, b)
    x = np.array([NAN, 1.0, NAN])
    y = np.array([1.0, NAN, NAN])
    assert_op_like_torch(name, x, y)
    assert getattr(sg, name)(sg.tensor([1, 5]), 3).dtype == sg.int64


CLAMPS = [(-0.5, 0.5), (None, 0.5), (-0.5, None), (0, 1), (1.0, -1.0), (-1, None)]


@pytest.mark.parametrize(("low", "high"), CLAMPS)
def test_clamp_by_numbers(low, high):
    for x in (normal((3, 4)), tied((3, 4)).T, np.array([NAN, INF, -INF, 0.0]), np.zeros((0, 2)), np.array(0.3)):
        for name in ("clamp", "clip"):
            assert_op_like_torch(name, x, min=low, max=high)
    assert_op_like_torch("clamp", np.array([-3, 0, 2]), min=low, max=high)
    check_grad(lambda t: t.clamp(low, high), np.array([-2.0, -0.2, 0.3, 3.0]), order=2)


def test_clamp_by_tensors():
    # all orders of x, low and high, ties included
    x, low, high = (m.reshape(-1) for m in np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3))
    assert_like_torch(sg.clamp, torch.clamp, x, low, high)
    assert_like_torch(lambda t, b: sg.clamp(t, min=b), lambda t, b: torch.clamp(t, min=b), x, low)
    assert_like_torch(lambda t, b: sg.clamp(t, max=b), lambda t, b: torch.clamp(t, max=b), x, high)
    assert_like_torch(sg.clamp, torch.clamp, normal((3, 4)), normal((4,)) - 1, normal((3, 1)) + 1)
    check_grad(sg.clamp, np.array([-2.0, 0.2, 3.0]), np.array([-1.0, -0.5, 0.0]), np.array([1.0, 0.7, 1.5]), order=2)


def test_clamp_to_one_side():
    x = normal((3, 4))
    assert_like_torch(lambda t: t.clamp_min(0), lambda t: t.clamp_min(0), x)
    assert_like_torch(lambda t: t.clamp_max(0.5), lambda t: t.clamp_max(0.5), x)
    with pytest.raises(ValueError, match="clamp: at least one of min and max must be given"):
        sg.ones(2).clamp()


def test_nan_to_num():
    x = np.array([NAN, INF, -INF, 2.0])
    for options in ({}, {"nan": 3.0}, {"posinf": 1.0, "neginf": -1.0}):
        for dtype in (np.float32, np.float64):
            assert_op_like_torch("nan_to_num", x.astype(dtype), **options)
