"""Derivatives of every op to second order, of softmax, norms and attention to third.

The catalogue of ops against extrapolated differences; gates that fail when an op, an input or an option of a
public function is missing from it; every kernel against its reference; and planted mistakes that must be found.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import kernels
from scratchgen.declare import OPS, Primitive
from scratchgen.kernels.compare import _cases as declared
from scratchgen.testing import GradientError, check_grad, check_vjp, directional_derivative
from scratchgen.testing.catalogue import CASES, WITHOUT_DERIVATIVE, Library, two_orders

SG = Library(sg)
DIFFERENTIABLE = {name: c for name, c in CASES.items() if c.order}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_of_every_order_are_what_differences_say(name):
    case = CASES[name]
    assert check_grad(partial(case.function, SG), *case.arrays(), order=case.order) <= 1e-6


# ----------------------------------------------------------------------------------------------------------- gates


class Coverage(sg.Observer):
    """Which inputs of which ops were given as floating tensors, and which of those were differentiated."""

    def __init__(self) -> None:
        self.given: set[tuple[str, int]] = set()
        self.first: set[tuple[str, int]] = set()
        self.second: set[tuple[str, int]] = set()  # under recording, so that the gradient is differentiated in turn

    def on_forward(self, op: Any, inputs: tuple, output: Any, node: Any) -> None:
        for i, x in enumerate(inputs):
            if isinstance(x, sg.Tensor) and x.dtype.kind == "f" and x.array.size:
                self.given.add((op.name, i))

    def on_backward(self, node: Any, grads: Any) -> None:
        found = self.second if sg.is_grad_enabled() else self.first
        found.update((node.op.name, i) for i, g in enumerate(grads) if g is not None and g.array.size)


# Its rounding would drown the differences; test_casts_and_moves_... has exact numbers.
BY_EXACT_NUMBERS = {"cast"}
CONSTANTS = {
    ("cross_entropy", 2): "class weights are constants of the kernels; variable ones take the composite",
    ("binary_cross_entropy_with_logits", 2): "likewise",
    ("binary_cross_entropy_with_logits", 3): "likewise",
}


def test_every_op_is_differentiated_twice_in_each_of_its_inputs():
    with Coverage() as coverage:
        for case in DIFFERENTIABLE.values():
            two_orders(partial(case.function, SG), case.arrays())
    ops = {
        name
        for name, op in OPS.items()
        if not name.startswith("test_") and name not in BY_EXACT_NUMBERS and getattr(op, "vjps", True) is not None
    }
    for found, order in ((coverage.first, "first"), (coverage.second, "second")):
        missing = ops - {name for name, _ in found}
        assert not missing, f"no case of the catalogue differentiates these ops to {order} order: {sorted(missing)}"
    inputs = {(name, i) for name, i in coverage.given if name in ops} - set(CONSTANTS)
    missing_inputs = inputs - coverage.second
    assert not missing_inputs, f"no case differentiates these inputs twice: {sorted(missing_inputs)}"


NOT_MATHEMATICS = {"generator", "dtype", "device", "requires_grad", "stable", "sorted", "return_indices"}


class Recorder:
    """A module that notes which of its functions are called with which options away from their defaults."""

    def __init__(self, module: Any, used: dict[str, set[str]]) -> None:
        self._module, self._used = module, used

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        if inspect.ismodule(value):
            return Recorder(value, self._used)
        if not inspect.isfunction(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            used = self._used[value.__name__]
            bound = inspect.signature(value).bind(*args, **kwargs)
            for key, given in bound.arguments.items():
                default = inspect.signature(value).parameters[key].default
                if default is inspect.Parameter.empty or given is not default:
                    used.add(key)
            return value(*args, **kwargs)

        return call


def test_every_option_of_every_public_function_is_in_the_table():
    used: dict[str, set[str]] = defaultdict(set)
    library = Library(Recorder(sg, used))
    for case in CASES.values():
        case.function(library, *[sg.tensor(a) for a in case.arrays()])
    missing = []
    for namespace in (sg.ops, sg.linalg):
        for public in namespace.__all__:
            function = getattr(namespace, public)
            if public in WITHOUT_DERIVATIVE or not inspect.isfunction(function):
                continue
            optional = {
                p.name
                for p in inspect.signature(function).parameters.values()
                if p.default is not p.empty and p.name not in NOT_MATHEMATICS
            }
            if function.__name__ not in used:
                missing.append(public)
            missing += [f"{public}({option}=)" for option in sorted(optional - used[function.__name__])]
    assert not missing, f"the catalogue has no case for {', '.join(missing)}"


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


# --------------------------------------------------------------------------------------------------------- kernels

ALTERNATIVES = [
    (op, impl)
    for op in kernels.ops()
    if op in OPS
    for impl in kernels.implementations(op, "cpu")
    if impl != "reference"
]
# Largest errors, relative to the largest number of the same derivative, of those that rounding the inputs to the dtype
# brings with it: two orders of derivative lose some digits that a value keeps.
TOLERANCE = {"float32": (1e-5, 1e-4), "float64": (1e-13, 1e-11)}


def kernel_cases(op: str) -> Iterator[kernels.Case]:
    """The inputs declared beside an op's kernels, which have the sizes and layouts that these want."""
    rng = np.random.default_rng(3)
    if op in kernels.comparable():
        yield from declared[op](rng)
    else:
        assert op == "scatter_add"
        yield kernels.Case("rows", (rng.standard_normal((40, 3)), rng.integers(7, size=40)), {"rows": 8})


def cast(case: kernels.Case, dtype: str) -> list[np.ndarray | None]:
    return [a.astype(dtype) if a is not None and a.dtype.kind == "f" else a for a in case.arrays]


@pytest.mark.parametrize(("op", "impl"), ALTERNATIVES)
def test_every_kernel_has_the_derivatives_of_its_reference(op, impl):
    kernel = kernels.implementations(op, "cpu")[impl]
    family = [name for name in (op, op + "_vjp") if kernels.has(name) and impl in kernels.implementations(name, "cpu")]
    compared = 0
    for case in kernel_cases(op):
        for dtype, (value, derivative) in TOLERANCE.items():
            arrays = cast(case, dtype)
            if not kernel.accepts(np.dtype(dtype)) or (kernel.when and not kernel.when(*arrays, **case.attrs)):
                continue
            if not all(np.isfinite(a).all() for a in arrays if a is not None):
                continue  # -inf and NaN are for the tests of values: they have no differences to speak of
            function = partial(OPS[op], **case.attrs)
            with kernels.use(**dict.fromkeys(family, "reference")):
                truth = two_orders(function, cast(case, "float64"))
            with kernels.use(**dict.fromkeys(family, impl)):
                found = two_orders(function, arrays)
            assert len(found) == len(truth)
            for i, (a, b) in enumerate(zip(found, truth, strict=True)):
                assert a.dtype == dtype
                assert a.shape == b.shape
                allowed = (value if i == 0 else derivative) * np.abs(b).max(initial=1e-30)
                error = np.abs(a - b).max(initial=0)
                assert error <= allowed, f"{op}/{impl}, {case.name}, {dtype}, number {i} of value and derivatives"
            compared += 1
    assert compared, f"no case of {op} is one that {impl} takes"


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
