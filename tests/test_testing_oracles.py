"""The oracles: as accurate as they say they are, and silent where they cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scratchgen as sg
from scratchgen.testing import Estimate, directional_derivative, numeric_vjp
from scratchgen.testing.differences import jump
from scratchgen.testing.oracles import METHODS, Oracle, orthonormal, split
from scratchgen.testing.subject import Subject, relaid

X = np.random.default_rng(0).standard_normal((3, 4))
U = np.random.default_rng(1).standard_normal((3, 4))
SMOOTH = {  # functions of arrays and of Tensors with their derivatives
    "exp": (lambda m, x: m.exp(x), lambda x: np.exp(x)),
    "tanh": (lambda m, x: m.tanh(x), lambda x: 1 - np.tanh(x) ** 2),
    "cube": (lambda m, x: x * x * x, lambda x: 3 * x * x),
    "quotient": (lambda m, x: x / (x * x + 1), lambda x: (1 - x * x) / (x * x + 1) ** 2),
    "steep": (lambda m, x: m.exp(m.sin(5 * x)), lambda x: 5 * np.cos(5 * x) * np.exp(np.sin(5 * x))),
}
ACCURATE = {"longdouble": 1e-13, "complex": 1e-13, "richardson": 1e-8}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SMOOTH)
def test_the_bar_holds_the_error_and_is_small(name, method):
    f, slope = SMOOTH[name]
    if method == "longdouble" and np.finfo(np.longdouble).eps > 1e-17:
        pytest.skip("no long doubles here")
    found = numeric_vjp(lambda x: f(sg, x), [X], U, method=method)
    truth = slope(X.astype(np.longdouble)) * U
    error = float(np.max(np.abs(found.value[0] - truth)))
    size = float(np.max(np.abs(truth)))
    assert error <= 3 * found.error + 4e-16 * size  # the elements are rounded to float64
    assert 3 * found.error <= ACCURATE[method] * size


@given(st.floats(-3, 3), st.floats(0.1, 8), st.floats(-3, 3))
def test_richardson_in_float64_is_never_further_off_than_it_says(shift, frequency, phase):
    f = lambda t: np.exp(np.sin(frequency * t + phase)) + shift  # noqa: E731
    truth = frequency * np.cos(phase) * np.exp(np.sin(phase))
    found = directional_derivative(f, noise=2.0**-52 * abs(f(0.0)))
    assert abs(found.value - truth) <= 3 * found.error
    assert found.error < 1e-7 * frequency


def test_differences_go_no_further_than_asked():
    steps: list[float] = []
    rough = directional_derivative(lambda t: steps.append(t) or float(np.exp(t)), goal=1e-6)
    assert abs(rough.value - 1) <= 1e-6
    assert len(steps) < 8


def test_noise_is_part_of_the_bar():
    rng = np.random.default_rng(0)
    noisy = directional_derivative(lambda t: np.exp(t) + 1e-6 * rng.uniform(-1, 1), noise=1e-6)
    assert abs(noisy.value - 1) <= 3 * noisy.error
    assert noisy.error > 1e-5


def test_a_step_out_of_the_domain_is_made_smaller():
    found = numeric_vjp(lambda x: x.log(), [np.array([1e-3])], method="richardson")
    assert found.value[0][0] == pytest.approx(1000, rel=1e-6)
    assert abs(found.value[0][0] - 1000) <= 3 * found.error


def test_jumps():
    assert jump(lambda t: abs(t) + np.sin(t)).value == pytest.approx(2, abs=1e-9)
    smooth = jump(lambda t: np.exp(3 * t))
    assert abs(smooth.value) <= 3 * smooth.error < 1e-6
    assert isinstance(smooth, Estimate)


def test_a_function_that_is_not_analytic_does_not_deceive_the_complex_step():
    """x * |x| has no derivative in complex numbers: NumPy's abs makes it real, and the real part lies."""
    reference = lambda x: x * np.sqrt(x.real**2 + x.imag**2)  # noqa: E731
    found = numeric_vjp(lambda x: x * x.abs(), [X], U, method="complex", reference=reference)
    np.testing.assert_allclose(found.value[0], 2 * np.abs(X) * U, rtol=0, atol=max(3 * found.error, 1e-15))
    assert found.error > 1e-14  # plain differences were asked instead


def test_the_best_oracle_that_works_is_taken():
    def methods(f, x=X):
        subject = Subject(f, [x])
        return Oracle(subject, [[np.ones(y.shape) for y in subject.outputs()]]).methods

    long = ["longdouble"] if np.finfo(np.longdouble).eps < 1e-17 else []
    assert methods(sg.exp) == [*long, "complex", "richardson"]
    assert methods(sg.abs) == [*long, "richardson"]
    assert methods(sg.erf) == ["complex", "richardson"]
    assert methods(sg.linalg.inv, np.eye(3) + 0.1) == ["richardson"]
    with pytest.raises(TypeError, match="does not take the numbers of the complex oracle"):
        numeric_vjp(sg.abs, [X], U, method="complex")
    with pytest.raises(ValueError, match="unknown method 'exact'; expected one of longdouble, complex"):
        numeric_vjp(sg.abs, [X], U, method="exact")


def test_an_oracle_with_other_values_than_the_function_is_not_believed():
    subject = Subject(sg.exp, [X], reference=lambda x: np.exp(x) if x.dtype == np.float64 else np.exp(x) * 1.001)
    assert Oracle(subject, [[U]]).methods == ["richardson"]


def test_several_inputs_and_outputs():
    def f(x, i, y):
        return x[i] * y, (x * y.sum()).exp(), i  # the last has no derivative

    y = np.array(0.5)
    u = [np.array([1.0, 2.0]), np.array([0.5, -1.0, 3.0])]
    x = np.array([0.1, 0.2, 0.3])
    found = numeric_vjp(f, [x, np.array([2, 2]), y], u)
    tail = u[1] * np.exp(x * 0.5)
    np.testing.assert_allclose(found.value[0], np.array([0, 0, 3]) * 0.5 + tail * 0.5, rtol=1e-12)
    np.testing.assert_allclose(found.value[1], 0.3 * 3 + (tail * x).sum(), rtol=1e-12)


def test_projections_are_orthonormal_and_complete():
    rng = np.random.default_rng(0)
    vectors = orthonormal(9, [(2, 2), (), (0, 3), (1,)], rng)
    flat = np.array([np.concatenate([a.ravel() for a in v]) for v in vectors])
    np.testing.assert_allclose(flat @ flat.T, np.eye(6), atol=1e-14)
    assert [a.shape for a in vectors[0]] == [(2, 2), (), (0, 3), (1,)]
    assert orthonormal(3, [(0,)], rng) == []
    assert [a.tolist() for a in split(np.arange(3.0), [(2,), ()])] == [[0, 1], 2]


@pytest.mark.parametrize("index", [np.s_[:], np.s_[::-1, ::2], np.s_[1:, None, ::-2]])
def test_a_cast_keeps_the_kind_of_layout(index):
    x = np.arange(20, dtype=np.float32).reshape(4, 5).T[index]
    wide = relaid(x, np.float64)
    np.testing.assert_array_equal(wide, x)
    assert wide.strides == tuple(2 * s for s in x.strides)
    repeated = relaid(np.broadcast_to(np.float32([1, 2]), (3, 2)), np.longdouble)
    assert repeated.strides[0] == 0
    assert repeated[2].tolist() == [1, 2]
