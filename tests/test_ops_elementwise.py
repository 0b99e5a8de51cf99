"""Elementwise ops: torch's values and first gradients in every layout, and right derivatives to second order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from oracle import assert_like_torch, assert_op_like_torch, layouts, pairs, torch

import scratchgen as sg
from scratchgen.testing import check_grad

rng = np.random.default_rng(0)
INF, NAN = float("inf"), float("nan")


def between(low: float, high: float) -> Callable[..., np.ndarray]:
    return lambda shape: np.random.default_rng(1).uniform(low, high, shape)


def away_from_integers(shape: Any) -> np.ndarray:
    r = np.random.default_rng(2)
    return r.integers(-3, 4, shape) + r.uniform(0.2, 0.4, shape)


UNARY = {  # name: where it is smooth
    "abs": between(0.3, 2), "acos": between(-0.8, 0.8), "acosh": between(1.3, 3), "asin": between(-0.8, 0.8),
    "asinh": between(-2, 2), "atan": between(-2, 2), "atanh": between(-0.8, 0.8), "ceil": away_from_integers,
    "cos": between(-4, 4), "cosh": between(-2, 2), "digamma": between(0.8, 4), "erf": between(-2, 2),
    "erfc": between(-2, 2), "erfinv": between(-0.8, 0.8), "exp": between(-2, 2), "exp2": between(-2, 2),
    "expm1": between(-2, 2), "floor": away_from_integers, "frac": away_from_integers, "lgamma": between(0.8, 4),
    "log": between(0.3, 4), "log10": between(0.3, 4), "log1p": between(-0.7, 4), "log2": between(0.3, 4),
    "logit": between(0.2, 0.8), "neg": between(-2, 2), "reciprocal": between(0.5, 3), "round": away_from_integers,
    "rsqrt": between(0.5, 3), "sigmoid": between(-4, 4), "sign": between(0.3, 2), "sin": between(-4, 4),
    "sinh": between(-2, 2), "sqrt": between(0.3, 3), "square": between(-2, 2), "tan": between(-1, 1),
    "tanh": between(-2, 2), "trunc": away_from_integers,
}  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_argument_are_torchs(name):
    rtol = 1e-8 if name == "digamma" else 1e-10  # torch's trigamma, the gradient of digamma, has no more digits
    for x in layouts(UNARY[name]):
        assert_op_like_torch(name, x, rtol=rtol)
        assert_like_torch(getattr(sg.Tensor, name), getattr(torch, name), x.astype(np.float32), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_argument_to_second_order(name):
    check_grad(getattr(sg, name), UNARY[name]((2, 3)), order=2)


BINARY: dict[str, tuple[Any, Any, Any, Any]] = {  # name: ours, torch's, domains of the two
    "add": (sg.add, torch.add, between(-2, 2), between(-2, 2)),
    "add alpha": (lambda a, b: sg.add(a, b, alpha=3), lambda a, b: torch.add(a, b, alpha=3), *[between(-2, 2)] * 2),
    "sub": (sg.sub, torch.sub, between(-2, 2), between(-2, 2)),
    "sub alpha": (lambda a, b: a.sub(b, alpha=0.5), lambda a, b: a.sub(b, alpha=0.5), *[between(-2, 2)] * 2),
    "mul": (sg.mul, torch.mul, between(-2, 2), between(-2, 2)),
    "div": (sg.div, torch.div, between(-2, 2), between(0.5, 2)),
    "pow": (sg.pow, torch.pow, between(0.5, 2), between(-2, 3)),
    "atan2": (sg.atan2, torch.atan2, between(0.3, 2), between(-2, 2)),
    "logaddexp": (sg.logaddexp, torch.logaddexp, between(-3, 3), between(-3, 3)),
    "maximum": (sg.maximum, torch.maximum, between(-2, -0.1), away_from_integers),
    "minimum": (sg.minimum, torch.minimum, between(-2, -0.1), away_from_integers),
    "fmod": (sg.fmod, torch.fmod, between(-8.4, -8.1), between(2.9, 3.1)),
    "remainder": (sg.remainder, torch.remainder, between(-8.4, -8.1), between(2.9, 3.1)),
    "div floor": (*[lambda a, b, m=m: m.div(a, b, rounding_mode="floor") for m in (sg, torch)],
                  between(-8.4, -8.1), between(2.9, 3.1)),
    "div trunc": (*[lambda a, b, m=m: m.div(a, b, rounding_mode="trunc") for m in (sg, torch)],
                  between(-8.4, -8.1), between(2.9, 3.1)),
}  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_arguments_are_torchs(name):
    ours, theirs, low, high = BINARY[name]
    for a, b in pairs(low, high):
        assert_like_torch(ours, theirs, a, b)
        assert_like_torch(ours, theirs, a.astype(np.float32), b.astype(np.float32), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_arguments_to_second_order(name):
    ours, _, low, high = BINARY[name]
    check_grad(ours, low((2, 1, 3)), high((2, 1)), order=2)


# --- operators


OPERATORS = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "//": lambda a, b: a // b, "%": lambda a, b: a % b, "**": lambda a, b: a**b,
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip


@pytest.mark.parametrize("symbol", OPERATORS)
def test_operators_take_numbers_on_both_sides(symbol):
    f = OPERATORS[symbol]
    x = np.array([[0.5, 2.0], [2.5, 3.0]])
    for number in (2.7, 2, 3.2):
        from_right, from_left = lambda t, n=number: f(t, n), lambda t, n=number: f(n, t)
        assert_like_torch(from_right, from_right, x, gradients=symbol != "//")
        assert_like_torch(from_left, from_left, x, gradients=symbol not in ("//", "%"))
    if symbol not in "<= >= == !=":
        check_grad(lambda t: f(2.7, t), x)


@pytest.mark.parametrize("symbol", OPERATORS)
def test_operators_take_numpy_arrays_and_scalars_on_both_sides(symbol):
    f = OPERATORS[symbol]
    x, other = np.array([0.5, 2.0, 2.5]), np.array([2.0, 2.0, 1.5])
    for given in (other, np.float64(2.0), np.array(2.0)):
        for got, expected in ((f(sg.tensor(x), given), f(x, given)), (f(given, sg.tensor(x)), f(given, x))):
            assert type(got) is sg.Tensor
            np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-15)


def test_bitwise_operators():
    a, b = np.array([True, True, False]), np.array([True, False, False])
    i, j = np.array([12, 10, 7]), np.array([10, 3, -1])
    for x, y in ((a, b), (i, j)):
        for f in (lambda p, q: p & q, lambda p, q: p | q, lambda p, q: p ^ q, lambda p, q: ~p):
            np.testing.assert_array_equal(f(sg.tensor(x), sg.tensor(y)).numpy(), f(x, y))
    assert (sg.tensor(i) & 6).tolist() == (6 & sg.tensor(i)).tolist() == [4, 2, 6]
    with pytest.raises(TypeError, match="bitwise_and") as caught:
        sg.ones(2) & sg.ones(2)
    assert "in bitwise_and(float32[2], float32[2])" in caught.value.__notes__[0]


def test_equality_with_what_is_not_a_number_is_false():
    x = sg.ones(2)
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711
    assert (x == "weights") is False
    with pytest.raises(TypeError):
        x < "weights"  # noqa: B015


def test_an_operand_that_is_no_number_raises():
    with pytest.raises(TypeError, match="cannot make a tensor of str"):
        sg.ones(2) + "a"
    with pytest.raises(TypeError, match="exp: expected at least one Tensor, got list"):
        sg.exp([1.0])
    with pytest.raises(TypeError, match="expected a Tensor, got int and float"):
        sg.add(1, 2.0)


# --- powers


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, 0.5, -0.5, -1, -2, 1.7, -3.2])
def test_powers_by_a_number(exponent):
    x = np.array([[0.4, 1.0], [1.7, 3.0]])
    assert_like_torch(lambda t: t**exponent, lambda t: t**exponent, x)
    assert_like_torch(lambda t: exponent**t, lambda t: exponent**t, x)
    assert_like_torch(lambda t: t**exponent, lambda t: t**exponent, x.astype(np.float32), rtol=1e-5)
    check_grad(lambda t: t**exponent, x, order=3)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, 5, 2.0, -1, -2])
def test_integer_powers_of_negative_bases(exponent):
    x = np.array([-2.0, -0.5, 1.5])
    assert_like_torch(lambda t: t**exponent, lambda t: t**exponent, x)
    assert_like_torch(sg.pow, torch.pow, x, np.full(3, float(exponent))[:, None])
    check_grad(lambda t: t**exponent, x, order=3)
    check_grad(lambda t: t ** sg.tensor(np.full(3, float(exponent))), x, order=3)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 0.5, 1.5, -1])
def test_powers_of_zero_as_torchs(exponent):
    x, e = np.zeros(2), np.full(2, float(exponent))
    assert_like_torch(lambda t: t**exponent, lambda t: t**exponent, x)
    assert_like_torch(sg.pow, torch.pow, x, e)
    assert_like_torch(lambda t: 0**t, lambda t: 0**t, e)


def test_every_derivative_of_a_cube_at_zero():
    for cube in (lambda x: x**3, lambda x: x ** sg.tensor(3.0, dtype="float64"), lambda x: x.square() * x):
        y = x = sg.tensor(0.0, dtype="float64", requires_grad=True)
        y = cube(x)
        for expected in (0.0, 0.0, 6.0, 0.0):
            (y,) = sg.grad(y, x, create_graph=True)
            assert y.item() == expected


def test_mixed_derivative_at_exponent_zero():
    # d/db d/da a^b = a^(b-1) (1 + b log a), which is 1 / a at b = 0
    a = sg.tensor([0.5, 2.0], dtype="float64", requires_grad=True)
    b = sg.zeros(2, dtype="float64", requires_grad=True)
    (da,) = sg.grad((a**b).sum(), a, create_graph=True)
    (db,) = sg.grad(da.sum(), b)
    np.testing.assert_allclose(db.numpy(), [2.0, 0.5], rtol=1e-15)


def test_integer_powers_of_integers():
    x = sg.tensor([2, -3])
    assert (x**3).tolist() == [8, -27]
    assert (2 ** sg.tensor([3, 0])).tolist() == [8, 1]
    assert (x**0.5).dtype == sg.float32
    with pytest.raises(ValueError, match="negative integer powers"):
        x**-1


# --- divisions


def test_whole_divisions_of_integers_are_exact_and_of_their_dtype():
    a = np.array([7, -7, 7, -7, 2**53 + 1, -(2**53) - 1])
    b = np.array([2, 2, -2, -2, 1, 1])
    for ours, theirs in (
        (sg.floor_divide, torch.floor_divide),
        (sg.remainder, torch.remainder),
        (sg.fmod, torch.fmod),
        (lambda x, y: sg.div(x, y, rounding_mode="trunc"), lambda x, y: torch.div(x, y, rounding_mode="trunc")),
        (lambda x, y: sg.div(x, y, rounding_mode="floor"), lambda x, y: torch.div(x, y, rounding_mode="floor")),
    ):
        assert_like_torch(ours, theirs, a, b)
        assert_like_torch(lambda x, f=ours: f(x, 2), lambda x, f=theirs: f(x, 2), a)
        with pytest.raises(ZeroDivisionError, match="integer division by zero"):
            ours(sg.tensor([1, 2]), sg.tensor([1, 0]))


def test_rounding_modes_are_checked():
    with pytest.raises(ValueError, match="'trunc' or 'floor', got 'up'"):
        sg.div(sg.ones(2), 2, rounding_mode="up")


SPECIAL = np.array([INF, -INF, 0.0, -0.0, 1.0, -1.0, 0.5, 88.0, -104.0, 1e30, -1e30, 1e-40, NAN])
# Not here: torch's trigamma and lgamma are off at the poles, and it makes derivatives of logit outside [0, 1] NaN.
FAITHFUL = sorted(set(UNARY) - {"digamma", "lgamma", "logit"})


@pytest.mark.parametrize("name", FAITHFUL)
def test_special_values_are_torchs_and_silent(name):
    # torch's derivative of |NaN| is 0, and so is its sign; here both are NaN
    x = SPECIAL[:-1] if name in ("abs", "sign") else SPECIAL
    assert_op_like_torch(name, x)
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    assert_op_like_torch(name, x, rtol=2e-6)


def test_division_and_powers_of_special_values_are_silent():
    a, b = (m.reshape(-1) for m in np.meshgrid(SPECIAL, SPECIAL))
    for ours, theirs in (
        (sg.div, torch.div),
        (sg.atan2, torch.atan2),
        (sg.maximum, torch.maximum),
        (sg.pow, torch.pow),
    ):
        got = ours(sg.tensor(a), sg.tensor(b)).numpy()
        np.testing.assert_allclose(got, theirs(torch.from_numpy(a), torch.from_numpy(b)).numpy(), rtol=1e-12)


def test_sigmoid_keeps_its_precision_in_the_tail():
    x = np.array([-800.0, -87.0, -50.0, 0.0, 50.0, 800.0], np.float32)
    y = sg.sigmoid(sg.tensor(x)).numpy()
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-x.astype(np.float64).clip(-700))), rtol=1e-6, atol=1e-45)
    assert sg.sigmoid(sg.tensor([-INF, INF])).tolist() == [0.0, 1.0]
    assert sg.sigmoid(sg.tensor(NAN)).isnan()


def test_logit_at_its_ends_and_clamped():
    assert_like_torch(sg.logit, torch.logit, np.array([0.0, 0.5, 1.0]))
    assert_like_torch(lambda t: sg.logit(t, 0.1), lambda t: torch.logit(t, 0.1), np.array([0.0, 0.05, 0.5, 1.0]))


def test_logaddexp_of_infinities():
    x = sg.tensor([-INF, -INF, 0.0, INF], requires_grad=True)
    y = sg.tensor([-INF, 0.0, -INF, INF], requires_grad=True)
    z = sg.logaddexp(x, y)
    assert z.tolist() == [-INF, 0.0, 0.0, INF]
    dx, dy = sg.grad(z, [x, y], sg.ones(4))
    assert dx.tolist() == [0.5, 0.0, 1.0, 0.5]
    assert dy.tolist() == [0.5, 1.0, 0.0, 0.5]


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_polygamma(n):
    mpmath = pytest.importorskip("mpmath")
    x = np.array([0.8, 1.0, 2.5, 4.0, 30.0])
    expected = [float(mpmath.psi(n, v)) for v in x]
    np.testing.assert_allclose(sg.polygamma(n, sg.tensor(x)).numpy(), expected, rtol=1e-12)
    check_grad(lambda t: t.polygamma(n), x, order=2)
    with pytest.raises(ValueError, match="order must not be negative, got -1"):
        sg.polygamma(-1, sg.ones(1))


def test_rounding_to_decimals():
    x = np.array([0.125, 2.5, 3.5, -0.5, 1234.567])
    for decimals in (0, 2, -2):
        assert_like_torch(lambda t, d=decimals: t.round(decimals=d), lambda t, d=decimals: t.round(decimals=d), x)


@pytest.mark.parametrize("name", ["abs", "sign", "floor", "ceil", "round", "trunc", "neg", "square"])
def test_integers_stay_integers(name):
    for dtype in (np.int32, np.int64):
        assert_op_like_torch(name, np.array([-2, 0, 3], dtype))


def test_transcendental_functions_of_integers_and_bools_are_float32():
    for x in (np.array([1, 2]), np.array([True, False]), np.array([3], np.uint8)):
        for name in ("exp", "sqrt", "sigmoid", "erf", "tanh", "log1p"):
            assert_op_like_torch(name, x, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_precision_is_kept(dtype):
    for name, domain in UNARY.items():
        x = sg.tensor(domain((3,)).astype(dtype), requires_grad=True)
        y = getattr(sg, name)(x)
        (dx,) = sg.grad(y.sum(), x)
        assert y.dtype == dx.dtype == dtype, name


# --- combinations


def test_lerp():
    a, b, w = (np.random.default_rng(i).standard_normal((2, 3)) for i in range(3))
    for weight in (0.0, 0.3, 0.5, 0.9, 1.0):
        assert_like_torch(lambda x, y, k=weight: sg.lerp(x, y, k), lambda x, y, k=weight: torch.lerp(x, y, k), a, b)
    assert_like_torch(sg.lerp, torch.lerp, a, b, w)
    check_grad(sg.lerp, a, b[0], w[:, :1], order=2)
    x, y = sg.tensor([0.1, 0.7]), sg.tensor([0.3, -0.2])
    assert sg.lerp(x, y, 1.0).tolist() == y.tolist()


def test_addcmul_and_addcdiv():
    a, b, c = (np.random.default_rng(i).uniform(0.5, 2, (2, 3)) for i in range(3))
    for name in ("addcmul", "addcdiv"):
        ours, theirs = getattr(sg, name), getattr(torch, name)
        assert_like_torch(lambda *t, f=ours: f(*t, value=0.3), lambda *t, f=theirs: f(*t, value=0.3), a, b, c[:, :1])
        check_grad(lambda *t, f=ours: f(*t, value=-2), a, b, c, order=2)


# --- casts and copies


def test_casts_are_differentiable_and_clone_keeps_strides():
    x = sg.tensor([1.0, 2.0], requires_grad=True)
    y = x.double() * 2
    assert y.dtype == sg.float64
    (dx,) = sg.grad(y.sum(), x)
    assert dx.dtype == sg.float32
    assert dx.tolist() == [2.0, 2.0]
    names = {
        "half": "float16",
        "float": "float32",
        "double": "float64",
        "int": "int32",
        "long": "int64",
        "bool": "bool",
    }
    for name, dtype in names.items():
        assert getattr(x, name)().dtype == dtype
    assert x.to(sg.zeros(1, dtype="float16")).dtype == sg.float16
    assert x.type_as(sg.tensor([1])).dtype == sg.int64
    image = sg.as_tensor(np.zeros((2, 5, 4, 3)).transpose(0, 3, 1, 2))
    assert image.clone().array.strides == image.array.strides
    assert image.clone().array is not image.array
