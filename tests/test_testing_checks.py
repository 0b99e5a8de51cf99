"""The checks: right ops pass, and mistakes of every kind are found, small ones too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import scratchgen as sg
import scratchgen.testing as sgt
from scratchgen.declare import Primitive
from scratchgen.nn import functional as F
from scratchgen.testing import Case, GradientError, Inconclusive, Verdict

X = np.random.default_rng(0).standard_normal((3, 4))
DIM1 = Case("rows", (X,), {"dim": 1})


def softmax_with(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A softmax along the last dimension with another derivative."""

    def forward(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    return Primitive("planted", forward, (rule,), "x y", False, False)


def right(g: Any, y: Any, x: Any) -> Any:
    return y * (g - (g * y).sum(-1, True))


# ----------------------------------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("order", [1, 2, 3])
def test_right_ops_pass_to_rounding(order):
    report = sgt.check_vjp(softmax_with(right), [X], order=order)
    assert report.verdict is Verdict.PASS
    assert len(report.parts) == order
    assert report.worst < 1e-13
    assert report.resolution < 1e-12


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-8, 1e-10])
def test_a_small_relative_mistake_in_one_term_is_found(size):
    wrong = softmax_with(lambda g, y, x: y * (g - (g * y).sum(-1, True) * (1 + size)))
    for seed in range(5):
        assert sgt.check_vjp(wrong, [X], seed=seed, raises=False).verdict is Verdict.FAIL
        assert sgt.check_dot(wrong, [X], seed=seed, raises=False).verdict is Verdict.FAIL


def test_differences_in_float64_find_what_a_derivative_may_lack():
    wrong = softmax_with(lambda g, y, x: y * (g - (g * y).sum(-1, True) * (1 + 1e-7)))
    for seed in range(10):
        assert sgt.check_vjp(wrong, [X], method="richardson", seed=seed, raises=False).verdict is Verdict.FAIL
        assert sgt.check_vjp(softmax_with(right), [X], method="richardson", seed=seed).passed


def test_a_term_that_is_zero_to_first_order_only_is_found_at_second():
    wrong = softmax_with(lambda g, y, x: y.detach() * (g - (g * y).sum(-1, True)))
    assert sgt.check_vjp(wrong, [X], order=1).passed
    with pytest.raises(GradientError, match="derivative of order 2"):
        sgt.check_vjp(wrong, [X])


def test_a_recorded_derivative_that_differs_from_the_plain_one_is_found():
    def rule(g, y, x):
        return right(g, y, x) * (1.001 if sg.is_grad_enabled() else 1)

    assert sgt.check_vjp(softmax_with(rule), [X], order=1).passed
    with pytest.raises(GradientError, match="order 1: recorded derivative"):
        sgt.check_vjp(softmax_with(rule), [X])


def test_a_variable_with_a_small_part_is_not_hidden_by_the_others():
    scaled = Primitive("planted", lambda a, b: a + 1e-9 * np.sin(b), (
        lambda g, y, a, b: g, lambda g, y, a, b: g * b.cos() * 1.001e-9,
    ), "b", False, False)  # fmt: skip
    with pytest.raises(GradientError, match="variable 1"):
        sgt.check_vjp(scaled, [X, X + 1], order=1)


def test_nan_in_a_gradient_is_wrong_where_the_derivative_exists():
    with pytest.raises(GradientError, match="nan"):
        sgt.check_vjp(softmax_with(lambda g, y, x: right(g, y, x) * float("nan")), [X])


def test_a_message_says_which_element_is_wrong():
    def rule(g, y, x):
        factor = np.ones((3, 4))
        factor[2, 1] = 1.01
        return right(g, y, x) * sg.as_tensor(factor)

    with pytest.raises(GradientError, match=r"variable 0 \[3, 4\]: .* at \[2, 1\], where the oracle says"):
        sgt.check_vjp(softmax_with(rule), [X], order=1)


def test_what_cannot_be_told_is_inconclusive():
    with pytest.raises(Inconclusive, match="not finite"):
        sgt.check_vjp(sg.log, [np.array([-1.0])])
    with pytest.raises(Inconclusive, match="different values"):
        sgt.check_vjp(lambda x: F.dropout(x), [X])
    noisy = Primitive("noisy", lambda x: np.round(np.sin(x), 9), (lambda g, y, x: g * x.cos(),), "x", False, False)
    with pytest.raises(Inconclusive, match="does not tell to 1e-10"):
        sgt.check_vjp(noisy, [X], order=1, resolution=1e-10)


def test_no_variables_no_elements_and_constants_pass():
    for f, x in ((sg.exp, np.zeros((0, 3))), (sg.floor, X), (lambda i: i * 2, np.arange(3)), (sg.ones_like, X)):
        assert sgt.check_vjp(f, [x]).passed
        assert sgt.check_dot(f, [x]).passed


def test_a_reference_is_differentiated_in_place_of_the_function():
    opaque = Primitive("opaque", lambda x: np.sin(x.astype(np.float64)), (lambda g, y, x: g * x.cos(),), "x",
                       False, False)  # fmt: skip
    assert sgt.check_vjp(opaque, [X], order=1).resolution > 1e-12
    with_reference = sgt.check_vjp(opaque, [X], order=1, reference=np.sin)
    assert with_reference.oracle == "longdouble" or np.finfo(np.longdouble).eps > 1e-17
    assert with_reference.resolution < 1e-12


def test_the_dot_test_takes_a_forward_derivative_of_ones_own():
    assert sgt.check_dot(sg.sin, [X], jvp=lambda xs, vs: [np.cos(xs[0]) * vs[0]]).resolution < 1e-13
    with pytest.raises(GradientError):
        sgt.check_dot(sg.sin, [X], jvp=lambda xs, vs: [np.cos(xs[0]) * vs[0] * (1 + 1e-9)])
    assert sgt.check_dot(sg.sin, [X], jvp="complex").passed


def test_hessians_are_symmetric_and_right():
    assert sgt.check_hessian(F.softmax, DIM1).resolution < 1e-12
    assert sgt.check_hessian(lambda x, y: (x * y).exp().sum(), [X, X[0]]).passed
    lopsided = Primitive("lopsided", lambda x: x**2, (
        lambda g, y, x: g * (2 * x + (x.flip(0) - x.flip(0).detach()) * sg.as_tensor([1.0, 2.0])),
    ), "x", False, False)  # fmt: skip
    report = sgt.check_hessian(lopsided, [np.array([0.3, 0.7])], raises=False)
    assert [part.verdict for part in report.parts] == ["fail", "fail"]
    assert "v'Hw is" in report.parts[1].message


# ----------------------------------------------------------------------------------------------------------- kinks


def test_at_a_kink_inputs_are_moved_the_gradient_is_a_choice_or_it_is_an_error():
    at_kinks = np.array([0.0, 1.0, -2.0, 0.0])
    assert sgt.check_vjp(sg.relu, [at_kinks]).message == "judged beside a kink"
    assert sgt.check_vjp(sg.relu, [at_kinks], kinks="subgradient").check == "subgradient"
    with pytest.raises(GradientError, match="has a kink"):
        sgt.check_vjp(sg.relu, [at_kinks], kinks="error")
    assert sgt.check_vjp(sg.relu, [at_kinks + 0.5], kinks="error").passed
    with pytest.raises(ValueError, match="unknown kinks='smooth'; expected one of avoid"):
        sgt.check_vjp(sg.relu, [X], kinks="smooth")


@pytest.mark.parametrize("f", [sg.abs, sg.amax, lambda x: F.max_pool1d(x[None], 2), F.hardtanh, lambda x: x.sort()[0]])
def test_ops_choose_a_subgradient_at_ties_and_kinks(f):
    report = sgt.check_vjp(f, [np.array([1.0, 1.0, -1.0, 0.0, 0.0, 1.0])], kinks="subgradient")
    assert report.passed
    assert report.check == "subgradient"


def test_a_gradient_outside_of_the_interval_at_a_kink_is_found():
    wrong = Primitive("relu", lambda x: np.maximum(x, 0), (lambda g, y, x: g * ((x >= 0) * 2 - (x > 0)),), "x",
                      False, False)  # fmt: skip
    assert sgt.check_vjp(wrong, [X]).passed
    with pytest.raises(GradientError, match="in which nearby slopes are"):
        sgt.check_vjp(wrong, [np.array([0.0, 1.0])], kinks="subgradient")


def test_a_mistake_beside_a_kink_is_not_excused_by_it():
    wrong = Primitive("relu", lambda x: np.maximum(x, 0), (lambda g, y, x: g * (x > 0) * 1.01,), "x", False, False)
    with pytest.raises(GradientError, match="derivative of order 1"):
        sgt.check_vjp(wrong, [np.array([0.0, 1.0, 2.0])])


# ----------------------------------------------------------------------------------------------------- comparisons


def test_values_against_a_reference():
    def reference(x, dim):
        return np.exp(x) / np.exp(x).sum(dim, keepdims=True)

    assert sgt.check_reference(sg.softmax, DIM1, reference).resolution < 1e-12
    assert sgt.check_reference(sg.softmax, DIM1, reference, dtype="float32").resolution < 1e-4
    with pytest.raises(GradientError, match=r"value 0 is .* at \(\d, \d\), expected"):
        sgt.check_reference(sg.softmax, DIM1, lambda x, dim: reference(x, dim) * (1 + 1e-11))
    with pytest.raises(GradientError, match=r"shapes are \[\(3, 4\)\], expected \[\(4, 3\)\]"):
        sgt.check_reference(sg.softmax, DIM1, lambda x, dim: reference(x, dim).T)
    assert sgt.check_reference(sg.linalg.inv, [np.eye(2)], np.linalg.inv).passed  # in float64, for want of long doubles


def test_values_and_derivatives_against_torch():
    torch = pytest.importorskip("torch")
    assert sgt.check_torch(sg.softmax, DIM1, "softmax", order=2).resolution < 1e-11
    assert sgt.check_torch(F.gelu, [X], torch.nn.functional.gelu).passed
    with pytest.raises(GradientError, match="gradient 1 is"):
        sgt.check_torch(softmax_with(lambda g, y, x: right(g, y, x) * 1.000001), [X], lambda x: torch.softmax(x, -1))
    assert sgt.check_torch(sg.floor, [X], "floor", order=2).passed
    assert sgt.check_torch(sg.floor_divide, [X, X + 9.1], "floor_divide").passed  # torch has no derivative of it
    with pytest.raises(GradientError):
        sgt.check_torch(lambda a, b: sg.floor_divide(a, b) + 1e-3, [X, X + 9.1], "floor_divide")


def test_backends_in_units_in_the_last_place_and_exactly():
    x, w = (np.random.default_rng(0).standard_normal(shape) for shape in ((1, 8, 9, 9), (8, 8, 3, 3)))
    case = Case("3x3", (x, w), {"padding": 1})
    ways = sgt.backends("conv2d")
    assert ways[0].name == "reference"
    report = sgt.check_backends(sg.conv2d, case, ways)
    assert len(report.parts) >= 4
    exact = sgt.check_backends(sg.conv2d, case, ways, mode="exact")
    assert exact.resolution == exact.worst == 0
    assert "backend winograd" not in {part.check for part in exact.parts}  # it declares that it rounds
    with pytest.raises(ValueError, match="unknown mode='bits'"):
        sgt.check_backends(sg.conv2d, case, ways, mode="bits")
    with pytest.raises(KeyError, match="no kernel named 'conv9d'"):
        sgt.backends("conv9d")


def test_a_backend_with_a_mistake_is_named():
    from scratchgen.kernels import registry

    def almost(x: np.ndarray, *, dim: int) -> np.ndarray:
        return registry.implementations("softmax")["reference"].fn(x, dim=dim) * np.float32(1 + 1e-5)

    registry.kernel("softmax", impl="almost", device="cpu", dtypes="f4", study=True)(almost)
    try:
        report = sgt.check_backends(sg.softmax, DIM1, sgt.backends("softmax"), raises=False)
        assert report.verdict is Verdict.FAIL
        assert "almost" in report.check
    finally:
        del registry._table["softmax"]["almost"]
        registry._candidates.clear()


def test_every_op_by_its_reference_and_as_usual():
    reference, usual = sgt.backends()
    assert [repr(b) for b in (reference, usual)] == ["<backend reference>", "<backend cpu>"]
    with reference.use():
        assert sgt.check_all(sg.softmax, DIM1).passed


# ------------------------------------------------------------------------------------------------------- behaviour


def test_what_is_not_the_same_every_time_is_found():
    assert sgt.check_nondeterminism(sg.softmax, DIM1).passed
    with pytest.raises(GradientError, match="two calls"):
        sgt.check_nondeterminism(lambda x: F.dropout(x), [X])


def test_inputs_are_left_alone_and_layout_is_read_right():
    assert sgt.check_unchanged(sg.softmax, Case("reversed", (X[::-1].T,), {"dim": 1})).passed

    def writes(x: np.ndarray) -> np.ndarray:
        x += 1
        return x.copy()

    with pytest.raises(GradientError, match="an input is changed"):
        sgt.check_unchanged(Primitive("writes", writes, (lambda g, y, x: g,), "", False, False), [X])

    def misreads(x: np.ndarray) -> np.ndarray:
        return x.ravel(order="K").reshape(x.shape) * 2

    op = Primitive("misreads", misreads, (lambda g, y, x: g * 2,), "", False, False)
    assert sgt.check_unchanged(op, [X]).passed
    with pytest.raises(GradientError, match="inputs and layout: value 0 is"):
        sgt.check_unchanged(op, [X.T])


def test_a_derivative_that_misreads_a_layout_is_not_taken_for_noise():
    def rule(g, y, x):
        return g * sg.as_tensor(np.cos(x.detach().numpy()).ravel(order="K").reshape(x.shape))

    op = Primitive("misreads", np.sin, (rule,), "x", False, False)
    assert sgt.check_vjp(op, [X], order=1).passed
    for x in (X.T, X[::2].T):
        assert sgt.check_vjp(op, [x], order=1, raises=False).verdict is Verdict.FAIL


def test_errors_must_be_clear():
    wrong = [Case("a dim too far", (X,), {"dim": 2}), Case("no dim", (X,))]
    assert sgt.check_errors(sg.softmax, wrong).passed
    with pytest.raises(GradientError, match="softmax 0 is accepted"):
        sgt.check_errors(lambda x: sg.softmax(x, 1), [[X]], name="softmax")
    with pytest.raises(GradientError, match="it raises ZeroDivisionError"):
        sgt.check_errors(lambda x: 1 // 0, [[X]])
    with pytest.raises(GradientError, match="the message does not help"):
        sgt.check_errors(sg.softmax, wrong, mentions="axis")


# ------------------------------------------------------------------------------------------------------ torch's own


def test_torch_can_judge_our_ops():
    torch = pytest.importorskip("torch")
    check = torch.autograd.gradcheck
    x = torch.from_numpy(X.copy()).requires_grad_()
    ours = sgt.as_torch_function(lambda x: sg.softmax(x, 1))
    np.testing.assert_allclose(ours(x).detach(), torch.softmax(x, 1).detach(), rtol=1e-14)
    assert check(ours, x)
    assert torch.autograd.gradgradcheck(ours, x)
    wrong = sgt.as_torch_function(softmax_with(lambda g, y, x: right(g, y, x) * 1.1))
    assert not check(wrong, x, raise_exception=False)
    w, i = torch.rand(4, 2, dtype=torch.float64, requires_grad=True), torch.tensor([1, 1, 3])
    assert check(sgt.as_torch_function(F.embedding), (i, w))
    several = sgt.as_torch_function(lambda x, y: (x * y, x.sum()))
    assert check(several, (x, x.detach().clone().requires_grad_()))
