"""Softmax and its relatives: torch's values and gradients, third order, extremes, Gumbel-softmax as a distribution."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from oracle import assert_like_torch, layouts, torch

import scratchgen as sg
from scratchgen import kernels
from scratchgen.declare import OPS
from scratchgen.testing import check_grad

F = torch.nn.functional
INF, NAN = float("inf"), float("nan")

ALONG = {  # ours, torch's
    "softmax": (sg.softmax, torch.softmax),
    "log_softmax": (sg.log_softmax, torch.log_softmax),
    "softmin": (sg.softmin, F.softmin),
    "logsumexp": (sg.logsumexp, torch.logsumexp),
}


def draw(shape):
    return 3 * np.random.default_rng(6).standard_normal(shape)


@pytest.mark.parametrize("name", ALONG)
def test_values_and_gradients_are_torchs(name):
    ours, theirs = ALONG[name]
    for x in layouts(draw):
        if x.ndim == 0 and name == "logsumexp":
            continue  # its turn comes below
        for dim in range(-x.ndim, x.ndim) if x.ndim else (0, -1):
            assert_like_torch(lambda t, d=dim: ours(t, d), lambda t, d=dim: theirs(t, d), x)


@pytest.mark.parametrize("name", ALONG)
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_float32_large_enough_for_the_compiled_kernels(name, dim):
    ours, theirs = ALONG[name]
    x = draw((4, 20, 30, 16)).astype(np.float32).transpose(0, 3, 1, 2)
    assert_like_torch(lambda t: ours(t, dim), lambda t: theirs(t, dim), x, rtol=1e-5, atol=1e-6)


def test_logsumexp_over_several_dims():
    for x in (draw((2, 3, 4)), draw((2, 3, 4)).transpose(2, 0, 1), draw((0, 3, 2)), np.asarray(draw(()))):
        for dims, keepdim in itertools.product([(0,), (0, -1), tuple(range(x.ndim))], [False, True]):
            if x.ndim == 0 and dims != ():
                dims = (0,)
            assert_like_torch(
                lambda t, d=dims, k=keepdim: sg.logsumexp(t, d, k),
                lambda t, d=dims, k=keepdim: torch.logsumexp(t, d, k),
                x,
            )


@pytest.mark.parametrize("name", ALONG)
def test_third_order(name):
    for dim in (0, 1, -1):
        check_grad(lambda t, d=dim: ALONG[name][0](t, d), draw((3, 2, 4)) / 3, order=3, seed=1)


def test_logsumexp_of_all_elements_to_third_order():
    check_grad(lambda t: sg.logsumexp(t, None), draw((3, 4)) / 3, order=3, seed=1)


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_the_composite_is_what_the_kernels_compute(op):
    x = sg.tensor(draw((5, 7)))
    for dim in (0, 1):
        composite = OPS[op].composite(x, dim=dim)
        np.testing.assert_allclose(OPS[op](x, dim=dim).numpy(), composite.numpy(), rtol=1e-12, atol=1e-15)


EXTREMES = np.array(
    [[1e4, -1e4, 0.0], [1e30, 1e30, -1e30], [-INF, 0.0, 1.0], [-INF, -INF, 2.0], [-1e4, -1e4, -1e4], [88.0, 89.0, 90.0]]
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 1000])  # the second is for the compiled kernels
def test_extremes_neither_overflow_nor_warn(dtype, rows):
    x = np.tile(EXTREMES, (rows, 1)).astype(dtype)
    for name in ("softmax", "log_softmax", "logsumexp"):
        ours, theirs = ALONG[name]
        assert_like_torch(lambda t, f=ours: f(t, 1), lambda t, f=theirs: f(t, 1), x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 1000])
def test_without_any_finite_logit_there_is_no_softmax(rows):
    x = np.full((rows, 3), -INF, np.float32)
    assert np.isnan(sg.softmax(sg.tensor(x), 1).numpy()).all()
    assert np.isnan(sg.log_softmax(sg.tensor(x), 1).numpy()).all()
    assert (sg.logsumexp(sg.tensor(x), 1).numpy() == -INF).all()
    t = sg.tensor(x, requires_grad=True)
    (dx,) = sg.grad(sg.logsumexp(t, 1).sum(), t)
    assert (dx.numpy() == 0).all()


@pytest.mark.parametrize("rows", [1, 1000])
def test_nan_stays_in_its_row(rows):
    x = np.zeros((2 * rows, 4), np.float32)
    x[::2, 1] = NAN
    for f in (sg.softmax, sg.log_softmax):
        bad = np.isnan(f(sg.tensor(x), 1).numpy())
        assert bad[::2].all()
        assert not bad[1::2].any()


def test_probabilities_sum_to_1_and_do_not_depend_on_the_shift():
    x = draw((50, 400)).astype(np.float32)
    y = sg.softmax(sg.tensor(x), 1).numpy()
    np.testing.assert_allclose(y.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(sg.softmax(sg.tensor(x + 64), 1).numpy(), y, rtol=2e-5)
    np.testing.assert_allclose(np.log(y), sg.log_softmax(sg.tensor(x), 1).numpy(), rtol=1e-4, atol=1e-5)


def test_dtypes():
    x = sg.tensor([[1, 2, 3]])
    assert sg.softmax(x, 1).dtype == sg.float32
    assert sg.softmax(x, 1, dtype=sg.float64).dtype == sg.float64
    half = sg.tensor(np.full((1, 70_000), 1.0, np.float16))
    np.testing.assert_allclose(sg.softmax(half, 1).numpy().astype(np.float64), 1 / 70_000, rtol=0.01)


def test_methods():
    x = sg.tensor(draw((2, 3)))
    np.testing.assert_array_equal(x.softmax(1).numpy(), sg.softmax(x, 1).numpy())
    np.testing.assert_array_equal(x.log_softmax(-1).numpy(), sg.log_softmax(x, -1).numpy())
    np.testing.assert_array_equal(x.logsumexp(0).numpy(), sg.logsumexp(x, 0).numpy())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("op", ["softmax", "softmax_vjp", "log_softmax", "log_softmax_vjp"])
def test_kernels_agree_with_their_reference(op, dtype):
    done = list(kernels.compare(op, dtype=dtype))
    assert [c for c in done if not c.passed] == []
    assert {c.impl for c in done} >= ({"numba"} if dtype == "float32" else {"reference"})


def test_gumbel_softmax_draws_the_categorical_distribution():
    """The largest entry of a relaxed draw is a draw from softmax(logits), at any temperature."""
    logits = np.array([1.0, 0.0, -1.0, 2.0], np.float32)
    n = 20_000
    for tau in (0.3, 2.0):
        y = sg.gumbel_softmax(sg.tensor(np.tile(logits, (n, 1))), tau, generator=sg.Generator(3)).numpy()
        np.testing.assert_allclose(y.sum(1), 1, rtol=1e-5)
        p = np.exp(logits) / np.exp(logits).sum()
        freq = np.bincount(y.argmax(1), minlength=4) / n
        assert np.all(np.abs(freq - p) < 4 * np.sqrt(p * (1 - p) / n))


def test_gumbel_softmax_hard_has_the_gradient_of_the_soft_draw():
    x = draw((5, 3))
    for dim in (0, 1):
        soft_in, hard_in = (sg.tensor(x, requires_grad=True) for _ in range(2))
        soft = sg.gumbel_softmax(soft_in, 0.7, dim=dim, generator=sg.Generator(1))
        hard = sg.gumbel_softmax(hard_in, 0.7, True, dim, generator=sg.Generator(1))
        expected = np.eye(x.shape[dim])[soft.detach().numpy().argmax(dim)]
        np.testing.assert_allclose(hard.detach().numpy(), expected if dim == 1 else expected.T, atol=1e-15)
        g = sg.tensor(draw((5, 3)))
        np.testing.assert_allclose(sg.grad(hard, hard_in, g)[0].numpy(), sg.grad(soft, soft_in, g)[0].numpy())


def test_gumbel_softmax_derivatives():
    check_grad(lambda t: sg.gumbel_softmax(t, 0.8, generator=sg.Generator(2)), draw((3, 4)) / 3, order=2, seed=1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: sg.softmax(x, 2), IndexError, r"softmax: dim 2 is out of range for a tensor of shape \[2, 3\]"),
        (lambda x: sg.log_softmax(x, -3), IndexError, r"log_softmax: dim -3 is out of range .* expected -2 to 1"),
        (lambda x: sg.logsumexp(x, (0, 0)), ValueError, "logsumexp: .* twice"),
        (
            lambda x: sg.gumbel_softmax(x, 0.0),
            ValueError,
            "gumbel_softmax: the temperature tau must be positive, got 0.0",
        ),
    ],
)
def test_wrong_arguments_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call(sg.zeros(2, 3))
