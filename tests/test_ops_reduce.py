"""Reductions, running sums and products: torch's values, gradients at ties and zeros, and accurate sums."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from oracle import assert_like_torch, assert_op_like_torch, layouts, torch

import scratchgen as sg
from scratchgen.kernels.sums import accurate_sum
from scratchgen.testing import check_grad

INF, NAN = float("inf"), float("nan")


def draw(shape):
    return np.random.default_rng(3).uniform(0.3, 2, shape)


def distinct(shape):
    """No ties, and gaps wide enough for differences."""
    count = int(np.prod(shape))
    return np.random.default_rng(4).permutation(count).reshape(shape) / 4.0


def dims(ndim):
    """None, every single dim from both ends, every pair."""
    yield None
    yield from range(-ndim, ndim)
    yield from itertools.combinations(range(ndim), 2)


SMOOTH = {  # name: the op and its options
    "sum": ("sum", {}),
    "mean": ("mean", {}),
    "nansum": ("nansum", {}),
    "var": ("var", {}),
    "var of a population": ("var", {"correction": 0}),
    "std": ("std", {}),
    "norm 1": ("norm", {"p": 1}),
    "norm 2": ("norm", {"p": 2}),
    "norm 3": ("norm", {"p": 3}),
    "norm 0.7": ("norm", {"p": 0.7}),
}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.filterwarnings("ignore:.*degrees of freedom:UserWarning")  # torch's; ours is silent
def test_smooth_reductions_are_torchs(name):
    op, options = SMOOTH[name]
    for x in layouts(draw):
        for dim in dims(x.ndim):
            for keepdim in (False, True):
                assert_op_like_torch(op, x, dim=dim, keepdim=keepdim, **options)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dim", [None, 1, (0, 2)])
def test_smooth_reductions_to_second_order(name, dim):
    op, options = SMOOTH[name]
    check_grad(lambda t: getattr(sg, op)(t, dim=dim, **options), draw((2, 3, 2)), order=2)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_precision_is_kept_and_used(name, dtype):
    op, options = SMOOTH[name]
    x = sg.tensor(draw((4, 5)).astype(dtype), requires_grad=True)
    y = getattr(x, op)(dim=1, **options)
    (dx,) = sg.grad(y.sum(), x)
    assert y.dtype == dx.dtype == dtype
    expected = getattr(x.double(), op)(dim=1, **options)
    np.testing.assert_allclose(y.numpy(force=True), expected.numpy(force=True), rtol={"float16": 2e-3}.get(dtype, 2e-6))


def test_sums_of_integers_and_bools_are_int64():
    for x in (np.array([200, 100], np.uint8), np.array([1, -5], np.int32), np.array([True, True])):
        for name in ("sum", "prod"):
            assert_op_like_torch(name, x)
        for name in ("cumsum", "cumprod"):
            assert_op_like_torch(name, x, dim=0)


def test_the_dtype_argument_casts_before_adding():
    x = sg.tensor([60000.0, 60000.0], dtype="float16")
    assert x.sum(dtype="float32").item() == 120000.0
    assert sg.tensor([1, 2]).mean(dtype="float32").item() == 1.5
    with pytest.raises(TypeError, match=r"mean: expected a floating-point tensor, got int64; write x.float\(\).mean"):
        sg.tensor([1, 2]).mean()


def test_unbiased_is_correction():
    x = sg.tensor(draw((3, 4)))
    assert x.var(False).equal(x.var(correction=0))
    assert x.std(1, False).equal(x.std(1, correction=0))
    assert x.var(1, unbiased=True, keepdim=True).equal(x.var(1, keepdim=True))
    with pytest.raises(TypeError, match="unbiased or correction, not both"):
        x.var(1, True, correction=1)


def test_variance_of_a_single_element_or_none_is_nan_without_a_warning():
    assert np.isnan(sg.ones(1).var().item())
    assert np.isnan(sg.zeros(0).mean().item())
    x = sg.ones(2, 1, requires_grad=True)
    assert np.isnan(sg.grad(x.var(1).sum(), x)[0].numpy()).all()


def test_variance_with_a_large_mean():
    x = (1e4 + draw((50,))).astype(np.float32)
    np.testing.assert_allclose(sg.tensor(x).var().item(), x.astype(np.float64).var(ddof=1), rtol=1e-5)


def test_the_gradient_of_std_at_zero_is_zero():
    assert_op_like_torch("std", np.array([[2.0, 2.0], [1.0, 2.0]]), dim=1)
    x = sg.full((3,), 2.0, requires_grad=True)
    (dx,) = sg.grad(x.std(), x, create_graph=True)
    assert dx.tolist() == [0, 0, 0]
    assert sg.grad(dx.sum(), x)[0].isfinite().all()


def test_var_mean():
    x = draw((3, 4))
    for ours, theirs in zip(sg.var_mean(sg.tensor(x), 1), torch.var_mean(torch.from_numpy(x), 1), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-14)


# --- which dimensions


def test_an_empty_list_means_all_dims():
    assert_op_like_torch("sum", draw((2, 3)), dim=())
    assert_op_like_torch("amax", draw((2, 3)), dim=())


@pytest.mark.parametrize("name", ["sum", "mean", "var", "amax", "any", "norm", "cumsum", "prod", "max", "argmin"])
def test_wrong_dims_name_op_and_shape(name):
    with pytest.raises(IndexError, match=rf"{name}: dim 2 is out of range for a tensor of shape \[2, 3\]"):
        getattr(sg.ones(2, 3), name)(dim=2)


def test_a_dim_named_twice_raises():
    with pytest.raises(ValueError, match=r"sum: dims \[0, -2\] name a dimension"):
        sg.ones(2, 3).sum((0, -2))


# --- extremes


def tied(shape):
    return np.random.default_rng(0).integers(0, 3, shape).astype(float)


@pytest.mark.parametrize("name", ["amax", "amin"])
def test_ties_share_the_gradient(name):
    for x in (*layouts(draw), *layouts(tied)):
        for dim in dims(x.ndim) if x.size else ():
            assert_op_like_torch(name, x, dim=() if dim is None else dim)
    check_grad(lambda t: getattr(t, name)(1, True), distinct((2, 3, 2)), order=2)


@pytest.mark.parametrize("name", ["max", "min"])
def test_along_a_dim_the_gradient_goes_to_the_index(name):
    for x in layouts(distinct):
        for dim in range(-x.ndim, x.ndim) if x.size else ():
            for part, keepdim in itertools.product(("values", "indices"), (False, True)):
                assert_op_like_torch(name, x, part=part, dim=dim, keepdim=keepdim)
        if x.size:
            assert_op_like_torch(name, x)
    check_grad(lambda t: getattr(t, name)(1), distinct((2, 3, 2)), order=2)
    x = sg.tensor([[2.0, 3.0, 3.0, 1.0, 1.0]], requires_grad=True)
    extremes = getattr(x, name)(1)
    assert extremes.indices.tolist() == [1 if name == "max" else 3]
    (dx,) = sg.grad(extremes.values.sum(), x)
    assert dx.tolist() == [[0, 1, 0, 0, 0] if name == "max" else [0, 0, 0, 1, 0]]


def test_max_of_all_and_of_two_tensors():
    x = sg.tensor([1.0, 3.0, 3.0], requires_grad=True)
    assert sg.grad(x.max(), x)[0].tolist() == [0, 0.5, 0.5]
    assert sg.max(x, sg.tensor([2.0, 2.0, 5.0])).tolist() == [2, 3, 5]
    assert sg.min(x, sg.tensor([2.0, 2.0, 5.0])).tolist() == [1, 2, 3]
    assert [t.item() for t in sg.aminmax(x)] == [1, 3]
    assert sg.tensor([1.0, NAN, 2.0]).max().isnan()


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions_of_extremes(name):
    for x in layouts(distinct):
        for dim in (None, *range(-x.ndim, x.ndim)) if x.size else ():
            assert_op_like_torch(name, x, dim=dim, keepdim=dim is not None)
            assert_op_like_torch(name, x, dim=dim)
    assert sg.tensor([1.0, NAN, 2.0]).argmax().item() == 1


@pytest.mark.parametrize("name", ["amax", "amin", "max", "min", "argmax", "argmin"])
def test_the_extreme_of_nothing_raises(name):
    with pytest.raises(IndexError, match=rf"{name}: no elements over all dims of a tensor of shape \[0, 3\]"):
        getattr(sg.zeros(0, 3), name)()
    with pytest.raises(IndexError, match=rf"{name}: no elements over dim 0 of a tensor of shape \[0, 3\]"):
        getattr(sg.zeros(0, 3), name)(0)
    assert getattr(sg, name)(sg.zeros(3, 0), 0) is not None


# --- logic


@pytest.mark.parametrize("name", ["any", "all", "count_nonzero"])
def test_any_all_and_count(name):
    for x in layouts(lambda shape: np.random.default_rng(0).integers(0, 2, shape)):
        for dim, dtype in itertools.product(dims(x.ndim), (np.bool_, np.int64, np.float32)):
            assert_op_like_torch(name, x.astype(dtype), dim=dim)


def test_truth_of_nan_and_kept_dims():
    assert sg.tensor([NAN]).any()
    assert sg.ones(2, 3).any(1, keepdim=True).shape == (2, 1)


# --- norms


@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 3, 4, INF, -INF, -2])
@pytest.mark.parametrize("dim", [None, 1, (0, 1)])
def test_norms_of_every_order(p, dim):
    x = np.random.default_rng(0).uniform(0.3, 1, (3, 4)) * np.array([1, -1, 1, -1])
    ours = lambda t: sg.vector_norm(t, p, dim)  # noqa: E731
    assert_like_torch(ours, lambda t: torch.linalg.vector_norm(t, p, dim), x)
    if p:
        check_grad(ours, x, order=2)


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3, 4, INF])
def test_norms_at_zero_have_the_subgradient_zero(p):
    zero_row_and_zero_entry = np.array([[0.0, 0.0, 0.0], [0.0, 2.0, -1.0]])
    assert_op_like_torch("norm", zero_row_and_zero_entry, p=p, dim=1)
    x = sg.zeros(3, requires_grad=True)
    (dx,) = sg.grad(x.norm(p), x, create_graph=True)
    assert dx.tolist() == [0, 0, 0]
    if dx.requires_grad:
        assert sg.grad(dx.sum(), x)[0].isfinite().all()


def test_float16_overflows_only_where_the_result_does():
    x = sg.full((100_000,), 300.0, dtype="float16")
    assert x[:4].norm().item() == 600.0
    assert x.mean().item() == 300.0
    assert x[::2].std().item() == 0.0
    assert (x[:2] * sg.tensor([1.0, 0.0], dtype="float16")).std().item() == 212.125  # 300 / sqrt(2)
    assert x.sum().item() == INF


def test_norm_refuses_matrix_norms():
    with pytest.raises(ValueError, match="norm: p must be a number or 'fro', got 'nuc'"):
        sg.ones(2, 2).norm("nuc")


# --- running sums and products


def with_zeros(shape):
    return np.random.default_rng(0).integers(-1, 3, shape).astype(float)


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_running_sums_and_products(name):
    for x in (*layouts(draw), *layouts(with_zeros)):
        for dim in range(-x.ndim, x.ndim) if x.ndim else (0, -1):
            assert_op_like_torch(name, x, dim=dim)
    check_grad(lambda t: getattr(t, name)(1), draw((2, 5, 2)), order=2)


def test_products_and_their_gradients():
    for x in (*layouts(draw), *layouts(with_zeros)):
        assert_op_like_torch("prod", x)
        for dim in range(-x.ndim, x.ndim) if x.ndim else (0, -1):
            for keepdim in (False, True):
                assert_op_like_torch("prod", x, dim=dim, keepdim=keepdim)
    assert sg.ones(2, 3).prod(keepdim=True).shape == (1, 1)


@pytest.mark.parametrize("zeros", [(), (1,), (1, 3), (0, 1, 2)])
def test_products_with_zeros_have_every_derivative(zeros):
    x = np.array([0.7, -1.3, 0.4, 1.9, 1.1])
    x[list(zeros)] = 0
    check_grad(lambda t: t.prod(), x, order=3)
    check_grad(lambda t: t.cumprod(0), x, order=3)


def test_running_sums_of_float32_are_added_in_float64():
    x = np.full(200_000, 0.1, np.float32)
    np.testing.assert_allclose(sg.tensor(x).cumsum(0)[-1].item(), x.astype(float).sum(), rtol=1e-7)


# --- accuracy


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((200_000, 2), 0), ((100_003,), 0), ((40, 50, 60, 3), (0, 1, 2)), ((3, 70_000), 1), ((50_000, 4, 2), (0, 2))],
)
def test_long_float32_sums_are_accurate(shape, axes):
    x = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    for a in (x, np.asfortranarray(x), x[::-1]):
        for keepdims in (False, True):
            got = accurate_sum(a, axes if isinstance(axes, tuple) else (axes,), keepdims)
            expected = a.astype(np.float64).sum(axis=axes, keepdims=keepdims)
            assert got.dtype == np.float32
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_sums_do_not_stand_still():
    n = 2**24 + 2**10  # added one by one, float32 ones stop at 2^24
    assert accurate_sum(np.broadcast_to(np.ones(2, np.float32), (n, 2)), (0,)).tolist() == [n, n]


def test_sums_that_undo_broadcasting_are_accurate():
    bias = sg.zeros(4, requires_grad=True)
    (g,) = sg.grad((sg.ones(100_000, 4) + bias).sum(0), bias, sg.full((4,), 0.1))
    np.testing.assert_allclose(g.numpy(), np.float64(np.float32(0.1)) * 1e5, rtol=1e-6)
