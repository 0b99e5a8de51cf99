"""``sg.checkpoint``: the same values and derivatives of any order, with random ops and parameters inside."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

import scratchgen as sg
from scratchgen.testing import check_grad


def leaf(*shape: int, seed: int = 0) -> sg.Tensor:
    return sg.tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def test_parameters_read_by_the_function_get_their_gradients():
    x, w = leaf(3), leaf(3, seed=1)
    h = w * 2.0  # not a leaf, made outside

    def f(a):
        return a * w * h

    plain = sg.grad(f(x).sum(), [x, w], retain_graph=True)
    again = sg.grad(sg.checkpoint(f, x).sum(), [x, w], retain_graph=True)
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_array_equal(a.array, b.array)
    sg.checkpoint(f, x).sum().backward()
    np.testing.assert_array_equal(w.grad.array, plain[1].array)


def test_derivatives_to_third_order_also_by_closed_over_tensors():
    def f(x, w):
        return sg.checkpoint(lambda a: a * a * w / (1.0 + w * w), x)

    r = np.random.default_rng(0)
    check_grad(f, r.standard_normal(4), r.standard_normal(4), order=3)


def test_the_same_random_numbers_are_drawn_again():
    generator = sg.Generator(3)
    x = leaf(1000)

    def noisy(a):
        mask = sg.as_tensor(generator.uniform((1000,), np.float64) > 0.5)
        return a * mask * 2.0

    y = sg.checkpoint(noisy, x)
    after = generator.counter
    (dx,) = sg.grad(y.sum(), x)
    np.testing.assert_array_equal(dx.array * x.array, y.array)
    assert generator.counter == after
    assert 400 < np.count_nonzero(y.array) < 600


def test_several_outputs_and_inputs_that_depend_on_each_other():
    def f(x):
        h = x * x
        a, b = sg.checkpoint(lambda u, v: (u * v, u + v), x, h)
        return a * b

    check_grad(f, np.array([0.5, 1.5, -2.0]), order=3)


def test_intermediates_are_not_kept():
    x = leaf(100, 100)
    arrays = []

    def f(a):
        h = a * 2.0
        arrays.append(weakref.ref(h.array))
        return h * h

    y = sg.checkpoint(f, x)
    assert arrays[0]() is None
    y.sum().backward()
    np.testing.assert_allclose(x.grad.array, 8 * x.array)


def test_a_function_that_changes_its_mind_raises():
    shapes = iter([(3,), (1,)])
    x = leaf(3)
    y = sg.checkpoint(lambda a: a.sum_to_size(next(shapes)), x)
    with pytest.raises(RuntimeError, match="recomputed output has shape"):
        y.sum().backward()


def test_without_recording_it_just_calls():
    with sg.no_grad():
        assert not sg.checkpoint(lambda a: a * 2.0, leaf(2)).requires_grad
