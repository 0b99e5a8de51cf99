"""Matrix products: torch's values and gradients for all of NumPy's broadcasting, in every layout and at every order."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import assert_like_torch, both, lying, torch

import scratchgen as sg
from scratchgen import kernels
from scratchgen.declare import OPS
from scratchgen.testing import check_grad

F = torch.nn.functional
rng = np.random.default_rng(0)

SHAPES = [
    ((3, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((3, 4), (4,)), ((2, 3, 4), (4,)), ((4,), (2, 4, 5)),
    ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 3, 4), (2, 4, 5)), ((6, 1, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (1, 3, 4, 2)), ((1, 3, 4), (2, 4, 5)), ((1, 4), (4, 1)), ((2, 3, 1), (1, 2)), ((3, 0), (0, 2)),
    ((0, 3), (3, 2)), ((2, 0, 3), (3, 2)), ((3, 2), (2, 2, 0)), ((0,), (0,)), ((2, 3, 0), (0, 4)), ((0, 2, 3), (3, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_matmul_is_torchs_and_right_to_second_order(a, b):
    for x in lying(a):
        for y in lying(b, seed=1):
            assert_like_torch(sg.matmul, torch.matmul, x, y)
    assert_like_torch(sg.matmul, torch.matmul, x.astype(np.float32), y.astype(np.float32), rtol=1e-5, atol=1e-6)
    check_grad(lambda x, y: sg.matmul(x, y).sin(), x, y, order=2)


def test_matmul_at_third_order():
    check_grad(lambda x, y: (x @ y).sin() @ y.mT, rng.standard_normal((2, 3, 4)), rng.standard_normal((4, 2)), order=3)


def test_operators_and_integers():
    a, b = rng.integers(-3, 4, (2, 3)), rng.integers(-3, 4, (3, 2))
    assert_like_torch(lambda a, b: a @ b, lambda a, b: a @ b, a, b)
    x = sg.tensor(a.astype(np.float64))
    np.testing.assert_array_equal((x @ b.astype(np.float64)).numpy(), a @ b)
    np.testing.assert_array_equal((b.astype(np.float64) @ x).numpy(), b @ a)


def test_half_precision_is_multiplied_in_single():
    a, b = rng.standard_normal((30, 40)).astype(np.float16), rng.standard_normal((40, 20)).astype(np.float16)
    product = sg.tensor(a) @ sg.tensor(b)
    assert product.dtype == sg.float16
    np.testing.assert_array_equal(product.numpy(), (a.astype(np.float32) @ b.astype(np.float32)).astype(np.float16))


def test_one_product_serves_a_whole_batch(monkeypatch):
    """The weight's gradient and the product itself do not go through the batch one by one."""
    seen = []
    matmul = np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b: seen.append((a.shape, b.shape)) or matmul(a, b))
    x, w = sg.ones(5, 6, 3).double().requires_grad_(), sg.ones(3, 2).double().requires_grad_()
    (x @ w).sum().backward()
    assert seen == [((30, 3), (3, 2)), ((30, 2), (2, 3)), ((3, 30), (30, 2))]
    seen.clear()
    (sg.ones(4, 6).double().requires_grad_() @ x).sum().backward()
    assert seen == [((4, 6), (5, 6, 3)), ((4, 15), (15, 6)), ((6, 4), (5, 4, 3))]


def test_awkward_strides_reach_blas_in_order(monkeypatch):
    seen = []
    matmul = np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b: seen.extend((a.strides, b.strides)) or matmul(a, b))
    whole, product = np.ones((6, 8)), kernels.implementations("matmul")["reference"].fn
    product(whole, whole.T)
    assert seen == [(64, 8), (8, 64)]  # BLAS takes both as they are
    for awkward in (whole[::-1, ::-1], whole[:, ::-1], np.broadcast_to(1.0, (6, 8)), np.ones((6, 16))[:, ::2]):
        seen.clear()
        product(awkward, whole.T)
        assert seen == [(64, 8), (8, 64)]


# --- linear


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 3), (0,), (2, 0)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear_is_torchs_and_right_to_second_order(lead, with_bias):
    for x in lying((*lead, 4)):
        for w in lying((5, 4), seed=1):
            arrays = [x, w, rng.standard_normal(5)] if with_bias else [x, w]
            assert_like_torch(sg.linear, F.linear, *arrays)
    single = [a.astype(np.float32) for a in arrays]
    assert_like_torch(sg.linear, F.linear, *single, rtol=1e-5, atol=1e-6)
    check_grad(lambda *xs: sg.linear(*xs).sin(), *arrays, order=2)


def test_linear_onto_one_number():
    assert_like_torch(sg.linear, F.linear, rng.standard_normal((2, 3)), rng.standard_normal(3))
    check_grad(lambda x, w: sg.linear(x, w).sin(), rng.standard_normal((2, 3)), rng.standard_normal(3), order=2)


def test_linear_takes_its_bias_by_name():
    x, w, b = (sg.ones(*shape).requires_grad_() for shape in ((2, 3), (4, 3), (4,)))
    sg.linear(x, w, bias=b).sum().backward()
    assert b.grad.tolist() == [2, 2, 2, 2]


def test_linear_computes_only_the_gradients_asked_for(monkeypatch):
    seen = []
    matmul = np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b: seen.append((a.shape, b.shape)) or matmul(a, b))
    x, w = sg.ones(5, 6, 3).double(), sg.ones(2, 3).double().requires_grad_()
    sg.linear(x, w).sum().backward()
    assert seen == [((30, 3), (3, 2)), ((2, 30), (30, 3))]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("op", ["matmul", "linear", "linear_vjp"])
def test_every_implementation_agrees_with_the_reference(op, dtype):
    results = list(kernels.compare(op, dtype=dtype))
    assert len(results) > 5
    assert [r for r in results if not r.passed] == []


def test_linear_is_what_its_composite_says():
    op, x, w = OPS["linear"], sg.tensor(rng.standard_normal((2, 3))), sg.tensor(rng.standard_normal((4, 3)))
    for bias in (None, sg.tensor(rng.standard_normal(4))):
        np.testing.assert_allclose(op(x, w, bias).numpy(), op.composite(x, w, bias).numpy(), rtol=1e-13)


# --- the others


OTHERS = {  # of tensors [2, 3, 4] and [2, 4, 5]
    "mm": lambda m, a, b: m.mm(a[0], b[1]),
    "bmm": lambda m, a, b: m.bmm(a, b),
    "mv": lambda m, a, b: m.mv(a[0], b[0, :, 1]),
    "dot": lambda m, a, b: m.dot(a[0, 0], b[0, :, 1]),
    "outer": lambda m, a, b: m.outer(a[0, 0], b[0, 0]),
    "inner": lambda m, a, b: m.inner(a, b.mT),
    "inner of a number": lambda m, a, b: a.inner(b[0, 0, 0]),
    "addmm": lambda m, a, b: m.addmm(b[0, 0], a[0], b[1], beta=0.5, alpha=-2),
    "baddbmm": lambda m, a, b: m.baddbmm(a[:, :, :1], a, b),
    "tensordot": lambda m, a, b: m.tensordot(a, b[0], 1),
    "tensordot 0": lambda m, a, b: m.tensordot(a[0], b[0], dims=0),
    "tensordot lists": lambda m, a, b: m.tensordot(a, b, dims=([2, 0], [1, 0])),
    "kron": lambda m, a, b: m.kron(a[0], b[0]),
    "kron of unequal ranks": lambda m, a, b: m.kron(a[0, 0], b),
}


@pytest.mark.parametrize("label", OTHERS)
def test_the_others_are_torchs_and_right_to_second_order(label):
    function = OTHERS[label]
    for a, b in zip(lying((2, 3, 4)), lying((2, 4, 5), seed=1)):
        assert_like_torch(*both(function), a, b)
    check_grad(lambda a, b: function(sg, a, b).sin(), a, b, order=2)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_bilinear_is_torchs_and_right_to_second_order(lead):
    arrays = [rng.standard_normal(shape) for shape in ((*lead, 4), (*lead, 5), (2, 4, 5), (2,))]
    for count in (3, 4):
        assert_like_torch(sg.bilinear, F.bilinear, *arrays[:count])
    check_grad(lambda *xs: sg.bilinear(*xs).sin(), *arrays, order=2)


def test_beta_0_forgets_the_input():
    nan = sg.full((2, 2), float("nan"))
    assert nan.addmm(sg.eye(2), sg.eye(2), beta=0).tolist() == [[1, 0], [0, 1]]


x, v = sg.zeros(2, 3), sg.zeros(3)
MISTAKES = [
    (lambda: x @ x, ValueError, r"matmul: shapes \[2, 3\] and \[2, 3\] do not fit"),
    (lambda: x @ 2.0, ValueError, r"matmul: expects at least 1 dimension, got shapes \[2, 3\] and \[\]"),
    (lambda: x @ v.double(), TypeError, r"matmul: float32\[2, 3\] and float64\[3\] differ in dtype"),
    (lambda: sg.zeros(2, 3, 4) @ sg.zeros(3, 4, 5), ValueError, r"broadcast"),
    (lambda: sg.linear(x, x.mT), ValueError, r"linear: input of shape \[2, 3\] does not fit weight of shape \[3, 2\]"),
    (lambda: sg.linear(x, x, v), ValueError, r"linear: bias of shape \[3\], expected \[2\]"),
    (lambda: sg.linear(x, x, v[:2].double()), TypeError, r"linear: .* differ in dtype"),
    (lambda: sg.bilinear(x, x, x), ValueError, r"bilinear: .* expected \[..., m\], \[..., n\] and \[out, m, n\]"),
    (lambda: x.mm(v), ValueError, r"mm: expects 2-D and 2-D tensors, got shapes \[2, 3\] and \[3\]"),
    (lambda: sg.zeros(2, 3, 4).bmm(sg.zeros(3, 4, 5)), ValueError, r"bmm: batches of .* differ in length"),
    (lambda: sg.tensordot(x, x, 3), ValueError, r"tensordot: dims 3 for shapes"),
    (lambda: sg.tensordot(x, x, ([0], [1])), ValueError, r"tensordot: dims \[0\] of shape \[2, 3\] do not pair"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
