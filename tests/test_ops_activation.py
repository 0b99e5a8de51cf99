"""Activations: torch's values and first gradients, every order against differences, limits, corners, kernels."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import assert_like_torch, layouts, torch

import scratchgen as sg
from scratchgen import kernels
from scratchgen.declare import OPS
from scratchgen.testing import check_grad

F = torch.nn.functional

SMOOTH = {  # ours, torch's
    "sigmoid": (sg.sigmoid, torch.sigmoid),
    "silu": (sg.silu, F.silu),
    "gelu": (sg.gelu, F.gelu),
    "gelu tanh": (lambda x: sg.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh")),
    "softplus": (sg.softplus, F.softplus),
    "softplus beta": (lambda x: sg.softplus(x, 3.0, 4.0), lambda x: F.softplus(x, 3.0, 4.0)),
    "logsigmoid": (sg.logsigmoid, F.logsigmoid),
    "mish": (sg.mish, F.mish),
    "softsign": (sg.softsign, F.softsign),
    "tanhshrink": (sg.tanhshrink, F.tanhshrink),
}
CORNERED = {  # ours, torch's, the corners
    "relu": (sg.relu, F.relu, [0]),
    "relu6": (sg.relu6, F.relu6, [0, 6]),
    "threshold": (lambda x: sg.threshold(x, 0.5, -3.0), lambda x: F.threshold(x, 0.5, -3.0), [0.5]),
    "hardtanh": (sg.hardtanh, F.hardtanh, [-1, 1]),
    "hardtanh limits": (lambda x: sg.hardtanh(x, -0.5, 2.0), lambda x: F.hardtanh(x, -0.5, 2.0), [-0.5, 2]),
    "leaky_relu": (sg.leaky_relu, F.leaky_relu, [0]),
    "leaky_relu slope": (lambda x: sg.leaky_relu(x, -0.3), lambda x: F.leaky_relu(x, -0.3), [0]),
    "elu": (sg.elu, F.elu, [0]),
    "elu alpha": (lambda x: sg.elu(x, 0.4), lambda x: F.elu(x, 0.4), [0]),
    "celu": (lambda x: sg.celu(x, 0.5), lambda x: F.celu(x, 0.5), [0]),
    "selu": (sg.selu, F.selu, [0]),
    "hardsigmoid": (sg.hardsigmoid, F.hardsigmoid, [-3, 3]),
    "hardswish": (sg.hardswish, F.hardswish, [-3, 3]),
}
FUSED = ["sigmoid", "tanh", "silu", "gelu", "softplus", "logsigmoid", "mish", "elu", "relu", "leaky_relu"]
TORCH_ROUNDS = ("hardsigmoid",)  # torch keeps its 1 / 6 in float32 for float64 too
ALL = {name: row[:2] for name, row in {**SMOOTH, **CORNERED}.items()}


def draw(shape):
    return 3 * np.random.default_rng(5).standard_normal(shape)


@pytest.mark.parametrize("name", ALL)
def test_values_and_gradients_are_torchs(name):
    for x in layouts(draw):
        assert_like_torch(*ALL[name], x, rtol=1e-7 if name in TORCH_ROUNDS else 1e-10)


@pytest.mark.parametrize("name", ALL)
def test_float32_large_enough_for_the_compiled_kernels(name):
    """Above the size that one thread takes, in a layout that is not row-major. (torch's gelu cancels: 1 + tanh.)"""
    x = draw((40, 30, 32)).astype(np.float32).transpose(2, 0, 1)
    assert_like_torch(*ALL[name], x, rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize("name", ALL)
def test_every_order(name):
    x = draw((3, 4))
    assert np.abs(x[..., None] - [-3, -1, -0.5, 0, 0.5, 1, 2, 3, 6]).min() > 0.02  # differences step over no corner
    check_grad(ALL[name][0], x, order=3, seed=1)


@pytest.mark.parametrize("name", CORNERED)
def test_derivatives_at_corners_are_torchs(name):
    ours, theirs, corners = CORNERED[name]
    assert_like_torch(ours, theirs, np.array(corners, np.float64), rtol=1e-7 if name in TORCH_ROUNDS else 1e-10)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_far_out_they_are_their_asymptotes(name, dtype):
    """Warnings are errors here, so nothing may overflow on the way; first and second derivative included."""
    ends = {
        "sigmoid": ([0, 1], [0, 0]),
        "silu": ([0, 1e4], [0, 1]),
        "gelu": ([0, 1e4], [0, 1]),
        "gelu tanh": ([0, 1e4], [0, 1]),
        "softplus": ([0, 1e4], [0, 1]),
        "softplus beta": ([0, 1e4], [0, 1]),
        "logsigmoid": ([-1e4, 0], [1, 0]),
        "mish": ([0, 1e4], [0, 1]),
        "softsign": ([-1, 1], [0, 0]),
        "tanhshrink": ([-1e4, 1e4], [1, 1]),
    }
    values, slopes = ends[name]
    x = sg.tensor(np.array([-1e4, 1e4], dtype), requires_grad=True)
    y = SMOOTH[name][0](x)
    assert y.dtype == dtype
    (dx,) = sg.grad(y.sum(), x, create_graph=True)
    (ddx,) = sg.grad(dx.sum(), x)
    np.testing.assert_allclose(y.detach().numpy(), values, rtol=1e-3, atol=2e-4)
    np.testing.assert_allclose(dx.detach().numpy(), slopes, atol=1e-6)
    np.testing.assert_allclose(ddx.numpy(), 0, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_nan_shows(name):
    assert np.isnan(ALL[name][0](sg.tensor([np.nan, 1.0])).numpy()[0])


def test_lower_tails_keep_their_relative_accuracy():
    """Where sigmoid and erf written naively give 1 - 1 = 0."""
    x = np.array([-20.0, -8.0, -5.0])
    normal_tail = np.array([2.7536241186062337e-89, 6.220960574271785e-16, 2.866515718791939e-07])  # mpmath.ncdf
    np.testing.assert_allclose(sg.gelu(sg.tensor(x)).numpy(), x * normal_tail, rtol=1e-13)
    small = sg.gelu(sg.tensor(np.repeat(x[1:], 1000).astype(np.float32))).numpy()  # the compiled kernel
    np.testing.assert_allclose(small, np.repeat(x[1:] * normal_tail[1:], 1000), rtol=2e-6)
    np.testing.assert_allclose(sg.logsigmoid(sg.tensor([40.0], dtype=np.float64)).numpy(), -np.exp(-40.0), rtol=1e-12)


def test_a_derivative_at_0_is_half_for_softplus_and_logsigmoid():
    """max(x, 0) + log1p(e^-|x|) has a corner in either term at 0, though not in their sum."""
    for f in (sg.softplus, sg.logsigmoid):
        for keep in (False, True):
            x = sg.tensor([0.0], requires_grad=True)
            (dx,) = sg.grad(f(x).sum(), x, create_graph=keep)
            assert dx.item() == 0.5


@pytest.mark.parametrize("x_shape", [(), (5,), (4, 3), (2, 3, 4), (2, 3, 4, 4)])
def test_prelu_is_torchs(x_shape):
    x = np.asarray(draw(x_shape))
    assert_like_torch(sg.prelu, F.prelu, x, np.array([0.2]))
    if len(x_shape) > 1:
        assert_like_torch(sg.prelu, F.prelu, x, np.array([0.2, -0.3, 0.5]))
        check_grad(sg.prelu, x, np.array([0.2, -0.3, 0.5]), order=2, seed=1)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_glu_is_torchs(dim):
    x = draw((4, 6, 2))
    assert_like_torch(lambda t: sg.glu(t, dim), lambda t: F.glu(t, dim), x)
    check_grad(lambda t: sg.glu(t, dim), x, order=2, seed=1)


def test_methods_and_other_names():
    x = sg.tensor(draw((2, 3)))
    np.testing.assert_array_equal(x.relu().numpy(), np.maximum(x.numpy(), 0))
    np.testing.assert_array_equal(x.prelu(sg.tensor([0.5])).numpy(), np.where(x.numpy() > 0, x.numpy(), x.numpy() / 2))
    assert sg.swish is sg.silu
    assert sg.relu(sg.tensor([-1, 2])).tolist() == [0, 2]  # integers stay integers
    assert sg.relu6(sg.tensor([-1, 7])).dtype == sg.silu(sg.tensor([-1, 7])).dtype == sg.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: sg.gelu(x, "sigmoid"), ValueError, "gelu: approximate must be 'none' or 'tanh', got 'sigmoid'"),
        (lambda x: sg.glu(x, 1), ValueError, r"glu: dim 1 of a tensor of shape \[2, 3\] does not divide"),
        (lambda x: sg.glu(x, 2), IndexError, r"glu: dim 2 is out of range for a tensor of shape \[2, 3\]"),
        (lambda x: sg.prelu(x, sg.zeros(2)), ValueError, r"prelu: weight of shape \[2\] .* one for each of 3 channels"),
        (lambda x: sg.hardtanh(x, 1.0, 0.0), ValueError, "hardtanh: min_val 1.0 is above max_val 0.0"),
        (lambda x: sg.celu(x, 0.0), ValueError, "celu: alpha must not be 0"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call(sg.zeros(2, 3))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("op", FUSED)
def test_kernels_agree_with_their_reference(op, dtype):
    done = [*kernels.compare(op, dtype=dtype), *kernels.compare(f"{op}_vjp", dtype=dtype)]
    assert [c for c in done if not c.passed] == []
    assert {c.impl for c in done} == ({"reference", "numba"} if dtype == "float32" else {"reference"})


@pytest.mark.parametrize(
    "name", ["sigmoid", "silu", "gelu", "gelu tanh", "softplus", "logsigmoid", "mish", "elu", "relu", "leaky_relu"]
)
def test_the_compiled_kernels_keep_the_memory_order(name):
    x = np.zeros((2, 16, 10, 8), np.float32).transpose(0, 3, 1, 2)
    y = ALL[name][0](sg.as_tensor(x, device="cpu").requires_grad_())
    (dx,) = sg.grad(y, [y], [y])
    assert y.array.strides == x.strides
    assert dx.array.strides == x.strides


def test_the_composites_are_what_the_kernels_compute():
    """The composite is what higher orders differentiate; nothing else would notice if it were another function."""
    attrs = {
        "gelu": [{"approximate": "none"}, {"approximate": "tanh"}],
        "softplus": [{"beta": 2.0, "threshold": 5.0}],
        "leaky_relu": [{"slope": 0.2}],
        "elu": [{"alpha": 0.7, "scale": 1.1, "rate": 2.0}],
    }
    x = sg.tensor(draw((50,)))
    for op in FUSED:
        for options in attrs.get(op, [{}]):
            ours, composite = OPS[op](x, **options), OPS[op].composite(x, **options)
            np.testing.assert_allclose(ours.numpy(), composite.numpy(), rtol=1e-12, atol=1e-300)
