"""Gradient clipping, parameters as a vector, and the summary of a model."""

from __future__ import annotations

import math

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import nn
from scratchgen.nn import utils


def with_gradients(dtype=np.float64, scale=1.0):
    """Parameters with gradients, one of 0 dimensions, one without."""
    rng = np.random.default_rng(0)
    params = [nn.Parameter(np.zeros(shape, dtype)) for shape in [(3, 4), (), (5,), (2,)]]
    for p in params[:3]:
        p.grad = sg.tensor(np.asarray(scale * rng.normal(size=p.shape), dtype))
    return params


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clipping_by_norm_is_torchs(norm_type, max_norm):
    torch = pytest.importorskip("torch")
    params = with_gradients()
    theirs = [torch.zeros(p.shape, dtype=torch.float64, requires_grad=True) for p in params]
    for p, q in zip(params, theirs, strict=True):
        q.grad = None if p.grad is None else torch.tensor(p.grad.numpy())
    before = [p.grad.numpy().copy() for p in params[:3]]
    total = utils.clip_grad_norm_(params, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    np.testing.assert_allclose(total.item(), expected.item(), rtol=1e-12)
    for p, q, g in zip(params[:3], theirs, before):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)
        assert (p.grad.numpy() == g).all() == (max_norm == 100.0)
    assert params[3].grad is None


def test_clipping_by_norm_at_its_limits():
    assert utils.clip_grad_norm_([], 1.0).item() == 0.0
    assert utils.clip_grad_norm_([nn.Parameter(np.zeros(2))], 1.0).item() == 0.0
    params = with_gradients(scale=0.0)
    assert utils.clip_grad_norm_(params, 1.0).item() == 0.0
    assert params[0].grad.numpy().tolist() == np.zeros((3, 4)).tolist()
    single = nn.Parameter(np.zeros(2))
    single.grad = sg.tensor([3.0, 4.0], dtype="float64")
    assert utils.clip_grad_norm_(single, 1.0).item() == 5.0
    np.testing.assert_allclose(single.grad.numpy(), [0.6, 0.8], rtol=1e-6)
    params = with_gradients(np.float32)
    assert utils.clip_grad_norm_(params, 1.0).dtype == np.float32
    assert params[0].grad.dtype == np.float32


def test_a_norm_that_is_not_finite_can_be_an_error():
    params = with_gradients()
    params[2].grad.array[1] = np.nan
    before = params[0].grad.numpy().copy()
    with pytest.raises(RuntimeError, match="total norm of the gradients is nan; nothing was scaled"):
        utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(params[0].grad.numpy(), before)
    assert math.isnan(utils.clip_grad_norm_(params, 1.0).item())
    assert np.isnan(params[0].grad.numpy()).all()


def test_clipping_by_value():
    params = with_gradients(scale=3.0)
    expected = [np.clip(p.grad.numpy(), -0.7, 0.7) for p in params[:3]]
    utils.clip_grad_value_(params, 0.7)
    for p, g in zip(params, expected):
        np.testing.assert_array_equal(p.grad.numpy(), g)


def test_parameters_as_one_vector():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    vector = utils.parameters_to_vector(net.parameters())
    assert vector.shape == (11,)
    vector.sum().backward()
    assert net[0].weight.grad.tolist() == [[1.0] * 3] * 2
    other = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    utils.vector_to_parameters(vector, other.parameters())
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p.numpy(force=True), q.numpy(force=True))
    with pytest.raises(ValueError, match=r"11 elements are needed, the vector has shape \[3\]"):
        utils.vector_to_parameters(vector[:3], other.parameters())


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
        self.unused = nn.Linear(3, 3)
        self.unused.requires_grad_(False)

    def forward(self, index, shift):
        hidden = self.body(self.embedding(index) + shift)
        return hidden + sg.randn(hidden.shape), hidden


def test_summary_is_a_table_that_leaves_no_trace():
    model = Model()
    model.body[2].eval()
    counter, state = sg.default_generator.counter, {k: t.tolist() for k, t in model.state_dict().items()}
    text = nn.summary(model, sg.tensor([1, 2, 3]), (3, 4))
    assert text.splitlines() == [
        "layer                   output          parameters",
        "--------------------------------------------------",
        "Model                   [3, 6], [3, 6]",
        "  embedding: Embedding  [3, 4]                  40",
        "  body: Sequential      [3, 6]",
        "    0: Linear           [3, 6]                  30",
        "    1: BatchNorm1d      [3, 6]                  12",
        "    2: Dropout          [3, 6]",
        "  unused: Linear        not run                 12",
        "--------------------------------------------------",
        "94 parameters (12 frozen), 0.00 MiB with buffers",
    ]
    assert sg.default_generator.counter == counter
    assert {k: t.tolist() for k, t in model.state_dict().items()} == state
    assert model.training
    assert model.body.training
    assert not model.body[2].training
    assert not any(m._hooks for m in model.modules())


def test_summary_of_a_failing_run_leaves_no_trace_either():
    model = Model()
    with pytest.raises(ValueError, match="linear"):
        nn.summary(model.body, (3, 5))
    assert model.body.training
    assert not any(m._hooks for m in model.modules())


def test_summary_without_parameters():
    assert "0 parameters, 0.00 MiB" in nn.summary(nn.ReLU(), (2, 3))
