"""Dropout: probabilities, expectation, generators, the ends 0 and 1, recomputation, double backward."""

from __future__ import annotations

import numpy as np
import pytest

import scratchgen as sg
from scratchgen.testing import check_grad

ELEMENTWISE = [sg.dropout, sg.alpha_dropout]
FEATURES = [(sg.dropout1d, (40, 50, 7)), (sg.dropout2d, (40, 50, 3, 4)), (sg.dropout3d, (40, 50, 2, 3, 2))]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropped_with_probability_p_and_the_rest_scaled(p):
    n = 100_000
    y = sg.dropout(sg.full((n,), 2.0), p, generator=sg.Generator(1)).numpy()
    kept = y != 0
    np.testing.assert_allclose(y[kept], 2 / (1 - p), rtol=1e-6)
    assert abs(kept.mean() - (1 - p)) < 4 * np.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize(("f", "shape"), FEATURES)
@pytest.mark.parametrize("batched", [False, True])
def test_features_drop_whole_channels(f, shape, batched):
    shape = shape if batched else (2000, *shape[2:])
    y = f(sg.ones(shape), 0.25, generator=sg.Generator(2)).numpy()
    channels = y.reshape(-1, int(np.prod(shape[2 if batched else 1 :])))
    assert (channels == channels[:, :1]).all()
    kept = channels[:, 0] != 0
    np.testing.assert_allclose(channels[kept], 1 / 0.75, rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 4 * np.sqrt(0.25 * 0.75 / kept.size)


@pytest.mark.parametrize("p", [0.1, 0.4])
def test_alpha_dropout_keeps_mean_and_variance_of_a_standard_normal(p):
    n = 400_000
    y = sg.alpha_dropout(sg.randn(n, generator=sg.Generator(3)), p, True, generator=sg.Generator(4)).numpy()
    y = y.astype(np.float64)
    assert abs(y.mean()) < 4 / np.sqrt(n)
    assert abs(y.var() - 1) < 4 * np.sqrt(((y - y.mean()) ** 4).mean() / n)
    counts = np.unique_counts(y).counts
    assert abs(counts.max() / n - p) < 4 * np.sqrt(p * (1 - p) / n)  # the dropped ones all have one value


@pytest.mark.parametrize("f", [sg.dropout, sg.dropout1d, sg.dropout2d, sg.dropout3d, sg.alpha_dropout])
def test_the_ends_and_evaluation(f):
    x = sg.randn(3, 4, 5, 2, 2)[:, :, :, 0] if f is sg.dropout2d else sg.randn(3, 4, 5, 2, 2)
    x = x[:, :, 0, 0] if f is sg.dropout1d else x
    np.testing.assert_array_equal(f(x, 0.0, True).numpy(), x.numpy())
    np.testing.assert_array_equal(f(x, 0.7, False).numpy(), x.numpy())
    assert (f(x, 1.0, True).numpy() == 0).all()


def test_dtype_and_gradient():
    for dtype in (np.float16, np.float32, np.float64):
        x = sg.tensor(np.ones((50, 3), dtype), requires_grad=True)
        y = sg.dropout(x, 0.5, generator=sg.Generator(5))
        (dx,) = sg.grad(y.sum(), x)
        assert y.dtype == dx.dtype == dtype
        np.testing.assert_array_equal(dx.numpy(), y.numpy(force=True))  # linear with input 1


@pytest.mark.parametrize("f", ELEMENTWISE)
def test_explicit_generators_repeat_and_the_default_one_moves_on(f):
    x = sg.ones(1000)
    first, second = (f(x, 0.5, True, generator=sg.Generator(6)).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, f(x, 0.5, True, generator=sg.Generator(7)).numpy())
    assert not np.array_equal(f(x, 0.5, True).numpy(), f(x, 0.5, True).numpy())
    sg.manual_seed(3)
    third = f(x, 0.5, True).numpy()
    sg.manual_seed(3)
    np.testing.assert_array_equal(third, f(x, 0.5, True).numpy())


@pytest.mark.parametrize("generator", [None, sg.Generator(8)])
def test_under_checkpoint_the_same_mask_is_drawn_again(generator):
    """The gradient of a linear function of x is that function: any other mask in the backward pass would show."""
    x = sg.randn(500, requires_grad=True)
    y = sg.checkpoint(lambda x: sg.dropout(x, 0.5, generator=generator), x)
    (dx,) = sg.grad(y.sum(), x)
    np.testing.assert_array_equal((dx * x).numpy(force=True), y.numpy(force=True))
    after = sg.dropout(sg.ones(500), 0.5, generator=generator).numpy()
    assert not np.array_equal(after != 0, y.numpy(force=True) != 0)  # the stream went on, not back


def test_double_backward_under_checkpoint():
    """d/dx of (x m)^3 twice, with one mask m throughout: 6 x m^3."""
    x = sg.randn(500, dtype=np.float64, requires_grad=True)
    y = sg.checkpoint(lambda x: sg.dropout(x, 0.5) ** 3, x)
    (dx,) = sg.grad(y.sum(), x, create_graph=True)
    (ddx,) = sg.grad(dx.sum(), x)
    m = (y.numpy(force=True) != 0) * 2.0
    np.testing.assert_allclose(dx.numpy(force=True), 3 * x.numpy(force=True) ** 2 * m**3, rtol=1e-12)
    np.testing.assert_allclose(ddx.numpy(), 6 * x.numpy(force=True) * m**3, rtol=1e-12)


def test_derivatives():
    x = np.random.default_rng(0).standard_normal((3, 4))
    for f in ELEMENTWISE:
        check_grad(lambda x, f=f: f(x, 0.4, True, generator=sg.Generator(9)) ** 2, x, order=2, seed=1)


@pytest.mark.parametrize("f", [sg.dropout, sg.dropout2d, sg.alpha_dropout])
@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_p_must_be_a_probability(f, p):
    with pytest.raises(ValueError, match=f"{f.__name__}: p must be a probability, from 0 to 1, got {p}"):
        f(sg.zeros(2, 3, 4, 4), p)


def test_features_need_their_dimensions():
    with pytest.raises(ValueError, match=r"dropout2d: expected an input .* 2 further dimensions, got shape \[3, 4\]"):
        sg.dropout2d(sg.zeros(3, 4))
