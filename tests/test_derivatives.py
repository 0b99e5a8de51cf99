"""Derivatives of every op to second order, of softmax, norms and attention to third; and of every implementation.

The rows of ``scratchgen.testing.catalogue`` and the kernels' own cases, by the same code as ``scratchgen check``; ops
whose gradient is by design not the derivative; and planted mistakes that must be found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import scratchgen as sg
from scratchgen.declare import Primitive
from scratchgen.testing import GradientError, check_grad, check_vjp, directional_derivative
from scratchgen.testing.catalogue import CASES
from scratchgen.testing.implementations import alternatives, check_implementation
from scratchgen.testing.suite import PROFILES, check_row

DIFFERENTIABLE = [name for name, case in CASES.items() if case.order]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_of_every_order_are_what_an_oracle_says(name):
    report = check_row(name, PROFILES["quick"]).demand()
    assert report.worst <= 1e-9


@pytest.mark.parametrize(("op", "impl"), alternatives())
def test_every_implementation_has_the_derivatives_of_its_specification(op, impl):
    check_implementation(op, impl).demand()


# ------------------------------------------------------------- where the gradient is by design not the derivative


def test_the_row_of_the_padding_gets_no_gradient():
    w = sg.tensor(np.ones((3, 2)), requires_grad=True)
    (g,) = sg.grad(sg.nn.functional.embedding(sg.tensor([1, 2, 1]), w, padding_idx=1).sum(), w)
    np.testing.assert_array_equal(g.numpy(), [[0, 0], [0, 0], [1, 1]])


def test_a_hard_draw_has_the_gradient_of_the_soft_one():
    x = sg.tensor(np.random.default_rng(0).standard_normal((4, 3)), requires_grad=True)
    u = sg.tensor(np.random.default_rng(1).standard_normal((4, 3)))
    hard, soft = (sg.gumbel_softmax(x, hard=hard, generator=sg.Generator(5)) for hard in (True, False))
    np.testing.assert_array_equal(np.sort(hard.detach().numpy(), 1), [[0, 0, 1]] * 4)
    np.testing.assert_allclose(sg.grad(hard, x, u)[0].numpy(), sg.grad(soft, x, u)[0].numpy(), rtol=1e-15)


def test_a_variance_below_eps_keeps_its_gradient():
    x, target = sg.tensor([1.0], dtype="float64"), sg.tensor([3.0], dtype="float64")
    var = sg.tensor([0.1], dtype="float64", requires_grad=True)
    (g,) = sg.grad(sg.gaussian_nll_loss(x, target, var, eps=0.5, reduction="sum"), var)
    np.testing.assert_allclose(g.numpy(), 0.5 * (1 / 0.5 - 4 / 0.25), rtol=1e-15)


def test_casts_and_moves_hand_gradients_back_in_the_dtype_they_came_in():
    x = sg.tensor([1.5, -2.0], dtype="float64", requires_grad=True)
    y = x.to("float32")
    g = sg.tensor([3.0, 0.25], dtype="float32", requires_grad=True)
    (dx,) = sg.grad(y * y, x, g, create_graph=True)
    assert (y.dtype, dx.dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(dx.detach().numpy(), [9.0, -1.0])
    dxx, dg = sg.grad(dx.sum(), [x, g])
    np.testing.assert_array_equal(dxx.numpy(), [6.0, 0.5])
    np.testing.assert_array_equal(dg.numpy(), [3.0, -4.0])


# --------------------------------------------------------------------------------------------- the tester, tested


def planted(rule: Callable[..., Any], save: str = "x") -> Primitive:
    """A sine whose derivative is ``rule``; not entered into the table of ops."""
    return Primitive("planted", np.sin, (rule,), save, False, False)


X = np.random.default_rng(0).standard_normal((3, 4))


def test_a_right_op_passes():
    assert check_grad(planted(lambda g, y, x: g * x.cos()), X, order=3) < 1e-9


@pytest.mark.parametrize("factor", [1 + 1e-4, 1 - 1e-5, 2.0, 0.0, -1.0])
def test_a_derivative_wrong_by_a_factor_is_found(factor):
    with pytest.raises(GradientError, match="derivative of order 1"):
        check_grad(planted(lambda g, y, x: g * x.cos() * factor), X)


def test_one_wrong_element_is_found_and_named():
    def rule(g, y, x):
        wrong = np.ones((3, 4))
        wrong[2, 1] += 1e-4
        return g * x.cos() * sg.tensor(wrong)

    with pytest.raises(GradientError, match=r"variable 0 \[3, 4\]: .* at \[2, 1\]"):
        check_grad(planted(rule), X)


def test_a_derivative_without_history_is_found_at_second_order():
    op = planted(lambda g, y, x: g * x.detach().cos())
    assert check_grad(op, X, order=1) < 1e-9
    with pytest.raises(GradientError, match="derivative of order 2"):
        check_grad(op, X, order=2)


def test_a_mean_detached_in_the_variance_is_found_at_second_order():
    """Right at first order, where the mean's part vanishes: how other engines' batch norm goes wrong."""

    def batch_norm(x: sg.Tensor) -> sg.Tensor:
        mean = x.mean(0, True)
        return (x - mean) / (((x - mean.detach()) ** 2).mean(0, True) + 1e-5) ** 0.5

    assert check_grad(batch_norm, X, order=1) < 1e-8
    with pytest.raises(GradientError, match="derivative of order 2"):
        check_grad(batch_norm, X, order=2)


def test_a_gradient_that_is_not_summed_over_broadcast_dims_is_found():
    b = np.ones(4)

    def add(rule: Callable[..., Any]) -> Primitive:
        return Primitive("planted", np.add, (lambda g, y, a, b: g, rule), "", False, False)

    assert check_grad(add(lambda g, y, a, b: g.sum(0)), X, b) < 1e-9
    with pytest.raises(GradientError, match="variable 1"):
        check_grad(add(lambda g, y, a, b: g[0]), X, b)  # the right shape, the wrong numbers
    with pytest.raises(RuntimeError, match=r"planted: its gradient for input 1 has shape \[3, 4\]"):
        check_grad(add(lambda g, y, a, b: g), X, b)


def test_a_missing_input_is_found():
    op = Primitive("planted", np.multiply, (lambda g, y, a, b: g * b, lambda g, y, a, b: None), "a b", False, False)
    with pytest.raises(GradientError, match="variable 1"):
        check_grad(op, X, X + 1)


def test_a_kink_nearby_is_judged_from_further_off():
    report = check_vjp(lambda x: x.abs() * x.abs() ** 0.5, [np.array([1e-9, 0.7])])
    assert report.passed
    assert report.message == "judged beside a kink"


def test_differences_know_their_error():
    found = directional_derivative(lambda t: float(np.exp(np.sin(3 * t))))
    assert abs(found.value - 3) <= max(found.error, 1e-12)
    assert found.error < 1e-9
    steps: list[float] = []
    rough = directional_derivative(lambda t: steps.append(t) or float(np.exp(t)), goal=1e-6)
    assert abs(rough.value - 1) <= 1e-6
    assert len(steps) < 8  # it went no further than asked
