"""Losses: torch's values and first gradients with every option, every order, limits, kernels, messages."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from oracle import assert_like_torch, lying, torch
from scipy import stats

import scratchgen as sg
from scratchgen import kernels
from scratchgen.declare import OPS
from scratchgen.testing import check_grad

F = torch.nn.functional
INF = float("inf")
REDUCTIONS = ["none", "mean", "sum"]


def draw(*shape, seed=20):
    return np.random.default_rng(seed).standard_normal(shape)


def probabilities(*shape, seed=21):
    return np.random.default_rng(seed).uniform(0.05, 0.95, shape)


def same(name, *arrays, rtol=1e-10, atol=1e-13, **options):
    """Ours and torch's function of that name on the same arrays and options."""
    f, g = getattr(sg, name), getattr(F, name)
    assert_like_torch(lambda *xs: f(*xs, **options), lambda *ts: g(*ts, **options), *arrays, rtol=rtol, atol=atol)


# --- differences


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("smooth_l1_loss", {}),
        ("smooth_l1_loss", {"beta": 0.3}),
        ("smooth_l1_loss", {"beta": 0.0}),
        ("huber_loss", {}),
        ("huber_loss", {"delta": 0.4}),
    ],
)
def test_losses_of_differences(name, options, reduction):
    for a, b in zip(lying((3, 4)), lying((3, 4), seed=1), strict=True):
        same(name, a, b, reduction=reduction, **options)
    same(name, np.asarray(0.3), np.asarray(-1.0), reduction=reduction, **options)
    same(name, draw(0, 2), draw(0, 2), reduction="sum", **options)
    check_grad(lambda a, b: getattr(sg, name)(a, b, reduction=reduction, **options), draw(3, 4), draw(3, 4, seed=1))


def test_shapes_that_differ_are_broadcast_with_a_warning():
    with pytest.warns(UserWarning, match=r"mse_loss: input \[3, 1\] and target \[3\] differ in shape") as caught:
        loss = sg.mse_loss(sg.zeros(3, 1), sg.ones(3), reduction="none")
    assert loss.shape == (3, 3)
    assert caught[0].filename == __file__


# --- binary cross entropy


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy(reduction):
    for p, t in zip(lying((3, 4)), lying((3, 4), seed=1), strict=True):
        p, t = 1 / (1 + np.exp(-p)), 1 / (1 + np.exp(-t))
        same("binary_cross_entropy", p, t, reduction=reduction)
    p, t = probabilities(3, 4), probabilities(3, 4, seed=1)
    assert_like_torch(
        lambda p, t: sg.binary_cross_entropy(p, t, sg.tensor(t.array + 1), reduction),
        lambda p, t: F.binary_cross_entropy(p, t, t.detach() + 1, reduction=reduction),
        p, t,
    )  # fmt: skip
    check_grad(lambda p, t: sg.binary_cross_entropy(p, t, reduction=reduction), p, t)


def test_binary_cross_entropy_of_certainties_is_limited():
    p, t = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0])
    assert_like_torch(
        lambda p: sg.binary_cross_entropy(p, sg.tensor(t)),
        lambda p: F.binary_cross_entropy(p, torch.tensor(t)),
        p, rtol=1e-8,  # torch's limit of the slope is a float32 number
    )  # fmt: skip
    assert sg.binary_cross_entropy(sg.tensor(p), sg.tensor(t), reduction="none").tolist() == [0, 100, 100, 0]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("positive", [False, True])
def test_binary_cross_entropy_with_logits(reduction, weighted, positive):
    w, p = probabilities(3, 1), probabilities(4, seed=5) * 3

    def options(make):
        return {
            "reduction": reduction,
            "weight": make(w) if weighted else None,
            "pos_weight": make(p) if positive else None,
        }

    for x, t in zip(lying((3, 4)), lying((3, 4), seed=1), strict=True):
        assert_like_torch(
            lambda x, t: sg.binary_cross_entropy_with_logits(x, t, **options(sg.tensor)),
            lambda x, t: F.binary_cross_entropy_with_logits(x, t, **options(torch.tensor)),
            2 * x, 1 / (1 + np.exp(-t)),
        )  # fmt: skip
    check_grad(
        lambda x, t: sg.binary_cross_entropy_with_logits(x, t, **options(sg.tensor)), draw(3, 4), probabilities(3, 4)
    )


def test_binary_cross_entropy_with_logits_is_differentiable_in_its_weights():
    inputs = draw(3, 4), probabilities(3, 4), probabilities(3, 1), probabilities(4)
    check_grad(lambda x, t, w, p: sg.binary_cross_entropy_with_logits(x, t, w, pos_weight=p), *inputs)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy_with_logits_in_float32(reduction):
    """Large enough for the compiled kernel on all threads. Against float64: torch's float32 loses small losses."""
    x, t = (3 * draw(100, 400)).astype(np.float32), np.round(probabilities(100, 400)).astype(np.float32)
    f = sg.binary_cross_entropy_with_logits
    for a, b in ((x, t), (x.T, np.ascontiguousarray(t.T)), (x[:, ::2], t[:, ::2])):
        results = []
        for dtype in (np.float32, np.float64):
            logits, target = (sg.tensor(array.astype(dtype), requires_grad=True) for array in (a, b))
            loss = f(logits, target, reduction=reduction)
            results.append([loss.detach(), *sg.grad(loss.sum(), (logits, target))])
        for got, exact in zip(*results, strict=True):
            assert got.dtype == np.float32
            np.testing.assert_allclose(got.numpy(), exact.numpy(), rtol=1e-6)


def test_binary_cross_entropy_with_far_logits():
    x = sg.tensor([-1e4, -1e4, 1e4, 1e4, 0.0], requires_grad=True)
    t = sg.tensor([0.0, 1.0, 0.0, 1.0, 0.5])
    losses = sg.binary_cross_entropy_with_logits(x, t, reduction="none")
    np.testing.assert_allclose(losses.numpy(force=True), [0, 1e4, 1e4, 0, math.log(2)], rtol=1e-6)
    (dx,) = sg.grad(losses.sum(), x, create_graph=True)
    assert dx.tolist() == [0, -1, 1, 0, 0]
    assert sg.grad(dx.sum(), x)[0].tolist() == [0, 0, 0, 0, 0.25]


# --- cross entropy


def class_problem(shape, classes, seed=0, ignored=0.0):
    """Logits (N, C, ...) or (C) and targets with the other dimensions."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((*shape[:1], classes, *shape[1:]))
    target = rng.integers(0, classes, shape)
    return logits, np.where(rng.random(shape) < ignored, -100, target)


CLASS_SHAPES = [(), (6,), (3, 2), (2, 3, 2)]


@pytest.mark.parametrize("shape", CLASS_SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy_of_class_indices(shape, reduction):
    for weighted, smoothing, ignored in itertools.product([False, True], [0.0, 0.2], [0.0, 0.4]):
        x, target = class_problem(shape, 5, ignored=ignored if shape else 0.0)
        w = probabilities(5) if weighted else None

        def options(make, w=w, s=smoothing):
            return {"weight": None if w is None else make(w), "reduction": reduction, "label_smoothing": s}

        assert_like_torch(
            lambda x, t, o=options: sg.cross_entropy(x, t, **o(sg.tensor)),
            lambda x, t, o=options: F.cross_entropy(x, t, **o(torch.tensor)),
            x, target,
        )  # fmt: skip
        if not ignored:
            continue
        check_grad(lambda x, t, o=options: sg.cross_entropy(x, t, **o(sg.tensor)), x, target)
        if weighted:
            check_grad(
                lambda x, w, t, s=smoothing: sg.cross_entropy(x, t, w, reduction=reduction, label_smoothing=s),
                x,
                w,
                target,
            )


@pytest.mark.parametrize("shape", CLASS_SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy_of_probabilities(shape, reduction):
    x, _ = class_problem(shape, 5)
    p = probabilities(*x.shape)
    for w, smoothing in itertools.product([None, probabilities(5)], [0.0, 0.2]):

        def options(make, w=w, s=smoothing):
            return {"weight": None if w is None else make(w), "reduction": reduction, "label_smoothing": s}

        assert_like_torch(
            lambda x, p, o=options: sg.cross_entropy(x, p, **o(sg.tensor)),
            lambda x, p, o=options: F.cross_entropy(x, p, **o(torch.tensor)),
            x, p,
        )  # fmt: skip
    check_grad(lambda x, p: sg.cross_entropy(x, p, reduction=reduction, label_smoothing=0.1), x, p)


@pytest.mark.parametrize("shape", CLASS_SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nll_loss(shape, reduction):
    for w, ignored in itertools.product([None, probabilities(5)], [0.0, 0.4]):
        x, target = class_problem(shape, 5, ignored=ignored if shape else 0.0)
        assert_like_torch(
            lambda x, t, w=w: sg.nll_loss(x, t, None if w is None else sg.tensor(w), reduction=reduction),
            lambda x, t, w=w: F.nll_loss(x, t, None if w is None else torch.tensor(w), reduction=reduction),
            x, target,
        )  # fmt: skip
        check_grad(lambda x, t: sg.nll_loss(x, t, reduction=reduction), x, target)


def test_cross_entropy_layouts():
    _, target = class_problem((3,), 5)
    for x in lying((3, 5)):
        same("cross_entropy", x, target)
    for x in lying((2, 5, 3)):
        same("cross_entropy", x, class_problem((2, 3), 5)[1])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_in_float32(reduction, smoothing):
    """Large enough for the compiled kernel on all threads: rows, rows of a larger array, images in both layouts."""
    x, target = class_problem((300,), 200, ignored=0.2)
    image, labels = class_problem((4, 20, 20), 30)
    image = image.astype(np.float32)
    x = x.astype(np.float32)
    for a, t in (
        (x, target),
        (np.concatenate([x, x], 1)[:, :200], target),
        (image, labels),
        (np.ascontiguousarray(image.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), labels),
    ):
        same("cross_entropy", a, t, rtol=1e-5, atol=1e-7, reduction=reduction, label_smoothing=smoothing)


@pytest.mark.parametrize("rows", [2, 1000])  # the second for the compiled kernel
def test_cross_entropy_of_extreme_logits(rows):
    x = np.tile(np.array([[1e4, -1e4, 0.0], [0.0, -INF, 1.0]], np.float32), (rows // 2, 1))
    target = np.tile([1, 0], rows // 2)
    same("cross_entropy", x, target, reduction="none", rtol=1e-6)


def test_cross_entropy_where_every_target_is_ignored():
    x, t = sg.tensor(draw(3, 4), requires_grad=True), sg.tensor([-100] * 3)
    assert math.isnan(sg.cross_entropy(x, t).item())
    total = sg.cross_entropy(x, t, reduction="sum")
    assert total.item() == 0
    assert (sg.grad(total, x)[0].numpy() == 0).all()


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_the_mean_of_nothing_is_nan_without_a_warning(name):
    f = getattr(sg, name)
    assert math.isnan(f(sg.zeros(0, 3), sg.zeros(0, 3)).item())
    assert f(sg.zeros(0, 3), sg.zeros(0, 3), reduction="sum").item() == 0


def test_other_ignored_index():
    x, target = class_problem((6,), 5)
    same("cross_entropy", x, target, ignore_index=2)
    same("nll_loss", x, target, ignore_index=2)


def test_cross_entropy_memory_is_one_copy_of_the_logits():
    """Forward stores no softmax, backward only the gradient."""
    import tracemalloc

    x = sg.tensor(draw(1000, 2000).astype(np.float32), requires_grad=True)
    t = sg.tensor(np.zeros(1000, np.int64))
    sg.grad(sg.cross_entropy(x, t), x)  # compiles
    tracemalloc.start()
    loss = sg.cross_entropy(x, t)
    forward = tracemalloc.get_traced_memory()[1]
    (dx,) = sg.grad(loss, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert forward < 0.1 * x.array.nbytes
    assert peak < 1.1 * dx.array.nbytes


@pytest.mark.parametrize("op", ["cross_entropy", "binary_cross_entropy_with_logits"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_kernels_agree_with_their_reference(op, dtype):
    done = [*kernels.compare(op, dtype=dtype), *kernels.compare(f"{op}_vjp", dtype=dtype)]
    assert [c for c in done if not c.passed] == []
    assert {c.impl for c in done} == ({"reference", "numba"} if dtype == "float32" else {"reference"})


def test_the_composites_are_what_the_kernels_compute():
    x, target = class_problem((6,), 5, ignored=0.3)
    for w, smoothing, reduction in itertools.product([None, probabilities(5)], [0.0, 0.2], REDUCTIONS):
        inputs = sg.tensor(x), sg.tensor(target), None if w is None else sg.tensor(w)
        options = {"ignore_index": -100, "reduction": reduction, "label_smoothing": smoothing}
        op = OPS["cross_entropy"]
        np.testing.assert_allclose(op(*inputs, **options).numpy(), op.composite(*inputs, **options).numpy(), rtol=1e-12)
    for weights, reduction in itertools.product([(None, None), (probabilities(6, 1), probabilities(5))], REDUCTIONS):
        inputs = sg.tensor(x), sg.tensor(probabilities(6, 5)), *(None if w is None else sg.tensor(w) for w in weights)
        op = OPS["binary_cross_entropy_with_logits"]
        got, expected = op(*inputs, reduction=reduction), op.composite(*inputs, reduction=reduction)
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-12)


# --- divergences and densities


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")  # torch's
def test_kl_div(reduction, log_target):
    for x, t in zip(lying((3, 4)), lying((3, 4), seed=1), strict=True):
        t = t if log_target else np.exp(t)
        same("kl_div", x, t, reduction=reduction, log_target=log_target)
    t = draw(3, 4) if log_target else probabilities(3, 4)
    check_grad(lambda x, t: sg.kl_div(x, t, reduction, log_target), draw(3, 4, seed=1), t)


def test_kl_div_of_distributions_is_the_divergence():
    p, q = probabilities(5), probabilities(5, seed=1)
    p, q = p / p.sum(), q / q.sum()
    assert sg.kl_div(sg.tensor(np.log(q)), sg.tensor(p), "sum").item() == pytest.approx(stats.entropy(p, q), rel=1e-12)
    assert sg.kl_div(sg.tensor(np.log(q)), sg.tensor(np.zeros(5)), "sum").item() == 0  # 0 log 0 is 0


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("var_shape", [(3, 4), (3, 1), (3,)])
def test_gaussian_nll_loss(reduction, full, var_shape):
    x, t, var = draw(3, 4), draw(3, 4, seed=1), probabilities(*var_shape)
    same("gaussian_nll_loss", x, t, var, full=full, reduction=reduction)
    check_grad(lambda *xs: sg.gaussian_nll_loss(*xs, full=full, reduction=reduction), x, t, var)


def test_gaussian_nll_loss_is_minus_the_log_density():
    x, t, var = draw(3, 4), draw(3, 4, seed=1), probabilities(3, 4)
    loss = sg.gaussian_nll_loss(*(sg.tensor(a) for a in (x, t, var)), full=True, reduction="none")
    np.testing.assert_allclose(loss.numpy(), -stats.norm.logpdf(t, x, np.sqrt(var)), rtol=1e-12)
    loss = sg.gaussian_nll_loss(sg.tensor(x), sg.tensor(t), 0.25, full=True, reduction="none")
    np.testing.assert_allclose(loss.numpy(), -stats.norm.logpdf(t, x, 0.5), rtol=1e-12)


def test_variances_below_eps_count_as_eps_and_keep_their_gradient():
    same("gaussian_nll_loss", draw(4), draw(4, seed=1), np.array([0.0, 1e-9, 1e-6, 0.5]), reduction="none")
    same("gaussian_nll_loss", draw(4), draw(4, seed=1), np.array([0.0, 1e-3, 0.3, 0.5]), eps=0.4)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("log_input", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_poisson_nll_loss(reduction, log_input, full):
    x = draw(3, 4) if log_input else probabilities(3, 4) * 3
    t = np.arange(12.0).reshape(3, 4) / 2 + 0.25  # torch's Stirling formula has no gradient at 0
    same("poisson_nll_loss", x, t, log_input=log_input, full=full, reduction=reduction)
    check_grad(lambda x, t: sg.poisson_nll_loss(x, t, log_input, full, reduction=reduction), x, t)


# --- the rest

PAIRED = [
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "cross_entropy", "nll_loss", "kl_div", "poisson_nll_loss",
]  # fmt: skip


@pytest.mark.parametrize("name", PAIRED)
def test_an_unknown_reduction_is_named(name):
    with pytest.raises(ValueError, match=f"{name}: reduction must be one of 'mean', 'sum', 'none'.*, got 'average'"):
        getattr(sg, name)(sg.zeros(2, 3), sg.zeros(2, 3), reduction="average")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: sg.binary_cross_entropy(x, sg.ones(2)), ValueError, r"target of shape \[2\] for .* \[2, 3\]"),
        (lambda x: sg.binary_cross_entropy(x + 2, x), ValueError, "input must be probabilities, from 0 to 1"),
        (
            lambda x: sg.binary_cross_entropy_with_logits(x, sg.ones(3)),
            ValueError,
            r"target of shape \[3\] .* \[2, 3\]",
        ),
        (lambda x: sg.cross_entropy(x, sg.tensor([0, 3])), IndexError, "target 3 is not a class: there are 3, from 0"),
        (lambda x: sg.cross_entropy(x, sg.tensor([0, -1])), IndexError, "cross_entropy: target -1 is not a class"),
        (lambda x: sg.cross_entropy(x, sg.tensor([0])), ValueError, r"target of shape \[1\] for an input .* \[2, 3\]"),
        (lambda x: sg.cross_entropy(x, sg.zeros(2)), ValueError, "probabilities must have the input's shape; class"),
        (lambda x: sg.cross_entropy(x, sg.tensor([0, 1]), sg.ones(2)), ValueError, "expected one for each of 3"),
        (lambda x: sg.cross_entropy(x, x, label_smoothing=1.5), ValueError, "label_smoothing must be from 0 to 1"),
        (lambda x: sg.nll_loss(x, x[:, 0]), TypeError, "nll_loss: expected class indices of an integer dtype"),
        (lambda x: sg.smooth_l1_loss(x, x, beta=-1), ValueError, "smooth_l1_loss: beta must not be negative"),
        (lambda x: sg.huber_loss(x, x, delta=0), ValueError, "huber_loss: delta must be positive"),
        (lambda x: sg.gaussian_nll_loss(x, x, x - 1), ValueError, "var must not be negative; pass the variance"),
        (lambda x: sg.gaussian_nll_loss(x, x, sg.ones(3)), ValueError, r"var of shape \[3\] for an input .* \[2, 3\]"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call(sg.zeros(2, 3))
