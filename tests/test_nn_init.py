"""Initial values: bounds, moments and structure; the layers' defaults are torch's distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import scratchgen as sg
from scratchgen import nn
from scratchgen.nn import init


def made(function, shape, *args, dtype=np.float64, **kwargs):
    t = sg.tensor(np.full(shape, np.nan, dtype))
    assert function(t, *args, **kwargs) is t
    return t.numpy()


def is_uniform(values, bound):
    """Within the bounds, and not distinguishable from uniform."""
    assert np.abs(values).max() <= bound
    assert stats.kstest(values.ravel() / bound, stats.uniform(-1, 2).cdf).pvalue > 1e-3


def is_normal(values, std):
    assert stats.kstest(values.ravel() / std, stats.norm.cdf).pvalue > 1e-3


def test_plain_distributions():
    is_uniform(made(init.uniform_, (100, 50), -2.0, 2.0), 2.0)
    is_normal(made(init.normal_, (100, 50), 3.0, 0.5) - 3.0, 0.5)
    assert (made(init.constant_, (3, 2), 0.3) == 0.3).all()
    assert (made(init.ones_, (3, 2)) == 1).all()
    assert (made(init.zeros_, (3, 2), dtype=np.float32) == 0).all()
    truncated = made(init.trunc_normal_, (100, 50), 1.0, 2.0, a=0.0, b=2.5)
    assert truncated.min() >= 0.0
    assert truncated.max() <= 2.5
    assert stats.kstest(truncated.ravel(), stats.truncnorm(-0.5, 0.75, loc=1.0, scale=2.0).cdf).pvalue > 1e-3


def test_scaled_distributions():
    shape = (60, 20, 3, 2)  # fan in 120, fan out 360
    is_uniform(made(init.xavier_uniform_, shape, 2.0), 2.0 * math.sqrt(6 / 480))
    is_normal(made(init.xavier_normal_, shape, 2.0), 2.0 * math.sqrt(2 / 480))
    is_uniform(made(init.kaiming_uniform_, shape, math.sqrt(5)), 1 / math.sqrt(120))
    is_uniform(made(init.kaiming_uniform_, shape, mode="fan_out", nonlinearity="relu"), math.sqrt(6 / 360))
    is_normal(made(init.kaiming_normal_, shape, nonlinearity="tanh"), 5 / 3 / math.sqrt(120))
    is_normal(made(init.kaiming_normal_, shape, 0.2, "fan_out"), math.sqrt(2 / 1.04 / 360))


def test_gains_are_torchs():
    torch = pytest.importorskip("torch")
    for name in ("linear", "conv2d", "conv_transpose1d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"):
        assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert init.calculate_gain("leaky_relu", 0.3) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.3))


@pytest.mark.parametrize("shape", [(7, 7), (9, 4), (4, 9), (5, 3, 2)])
def test_orthogonal(shape):
    matrix = made(init.orthogonal_, shape, 3.0).reshape(shape[0], -1)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(gram, 9 * np.eye(len(gram)), atol=1e-10)


def test_orthogonal_is_uniformly_distributed():
    """A uniform rotation's trace has mean 0 and variance 1; QR without the sign correction has a negative mean."""
    traces = [np.trace(made(init.orthogonal_, (3, 3))) for _ in range(400)]
    assert abs(np.mean(traces)) < 4 / 20
    assert abs(np.var(traces) - 1) < 0.3


@pytest.mark.parametrize("shape", [(4, 4, 3), (6, 3, 3, 3), (2, 5, 4, 4), (4, 2, 3, 1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_structures_are_torchs(shape, groups):
    torch = pytest.importorskip("torch")
    expected = torch.nn.init.dirac_(torch.empty(shape, dtype=torch.float64), groups).numpy()
    np.testing.assert_array_equal(made(init.dirac_, shape, groups), expected)
    np.testing.assert_array_equal(made(init.eye_, shape[:2]), torch.nn.init.eye_(torch.empty(shape[:2])).numpy())


def test_sparse():
    values = made(init.sparse_, (50, 40), 0.3, 2.0)
    assert ((values == 0).sum(axis=0) == 15).all()
    is_normal(values[values != 0], 2.0)


def test_the_generator_decides():
    a = made(init.normal_, (5,), generator=sg.Generator(3))
    assert (made(init.normal_, (5,), generator=sg.Generator(3)) == a).all()
    assert (made(init.normal_, (5,), generator=sg.Generator(4)) != a).all()
    sg.manual_seed(5)
    a = nn.Linear(3, 2).weight.tolist()
    assert nn.Linear(3, 2).weight.tolist() != a
    sg.manual_seed(5)
    assert nn.Linear(3, 2).weight.tolist() == a


def test_values_are_set_in_place():
    t = sg.tensor(np.zeros((3, 3)), requires_grad=True)
    array, y = t.array, (t * t).sum()
    init.ones_(t)
    assert t.array is array
    assert t.is_leaf
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (lambda: nn.Linear(30, 400), 30),
        (lambda: nn.Bilinear(30, 10, 40), 30),
        (lambda: nn.Conv1d(6, 400, 5), 30),
        (lambda: nn.Conv2d(6, 400, (5, 2), groups=2), 30),
        (lambda: nn.ConvTranspose1d(40, 300, 3), 900),  # torch reads the fan off the transposed shape
        (lambda: nn.ConvTranspose2d(40, 300, 3, groups=2), 1350),
    ],
)
def test_layers_begin_uniform_within_the_root_of_their_fan(layer, fan_in):
    layer = layer()
    is_uniform(layer.weight.numpy(force=True), 1 / math.sqrt(fan_in))
    is_uniform(layer.bias.numpy(force=True), 1 / math.sqrt(fan_in))
    assert layer.weight.dtype == np.float32


def test_other_layers_begin_as_torchs():
    embedding = nn.Embedding(200, 30, padding_idx=-1)
    is_normal(embedding.weight.numpy(force=True)[:-1], 1.0)
    assert (embedding.weight.numpy(force=True)[-1] == 0).all()
    attention = nn.MultiheadAttention(20, 4, add_bias_kv=True)
    is_uniform(attention.in_proj_weight.numpy(force=True), math.sqrt(6 / 80))
    is_uniform(attention.out_proj.weight.numpy(force=True), 1 / math.sqrt(20))
    assert (attention.in_proj_bias.numpy(force=True) == 0).all()
    assert (attention.out_proj.bias.numpy(force=True) == 0).all()
    separate = nn.MultiheadAttention(20, 4, kdim=30, vdim=10)
    is_uniform(separate.k_proj_weight.numpy(force=True), math.sqrt(6 / 50))
    is_uniform(separate.v_proj_weight.numpy(force=True), math.sqrt(6 / 30))


def test_layers_of_no_inputs():
    assert nn.Linear(0, 3).bias.tolist() == [0.0, 0.0, 0.0]


def test_wrong_arguments_say_what_is_wrong():
    vector = sg.tensor(np.zeros(3))
    with pytest.raises(ValueError, match=r"eye_: expected a matrix, got shape \[3\]"):
        init.eye_(vector)
    with pytest.raises(ValueError, match="dirac_: expected a convolution weight"):
        init.dirac_(vector)
    with pytest.raises(ValueError, match="do not divide into 2 groups"):
        init.dirac_(sg.tensor(np.zeros((3, 3, 3))), 2)
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        init.xavier_uniform_(vector)
    with pytest.raises(ValueError, match="orthogonal_: expected at least 2 dimensions"):
        init.orthogonal_(vector)
    with pytest.raises(ValueError, match="mode must be 'fan_in' or 'fan_out', got 'fan'"):
        init.kaiming_normal_(sg.tensor(np.zeros((3, 3))), mode="fan")
    with pytest.raises(ValueError, match="unknown nonlinearity 'swish'; known: leaky_relu, tanh"):
        init.calculate_gain("swish")
