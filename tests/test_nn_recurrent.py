"""Recurrent layers and cells with torch's weights give torch's states and gradients, to the second order."""

from __future__ import annotations

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import nn

torch = pytest.importorskip("torch", reason="the oracle of these tests")

KINDS = ["RNN", "GRU", "LSTM"]
OPTIONS = [
    {},
    {"bias": False},
    {"batch_first": True},
    {"bidirectional": True},
    {"num_layers": 3},
    {"num_layers": 2, "bidirectional": True, "batch_first": True, "bias": False},
]
LENGTHS = np.array([3, 6, 1, 4])


def pair(kind, dtype="float64", sizes=(5, 7), **options):
    theirs = getattr(torch.nn, kind)(*sizes, dtype=getattr(torch, dtype), **options)
    generator = torch.Generator().manual_seed(1)
    for t in theirs.state_dict().values():
        t.copy_(0.8 * (torch.rand(t.shape, generator=generator, dtype=t.dtype) - 0.5))
    ours = getattr(nn, kind)(*sizes, dtype=dtype, **options)
    assert [(key, t.shape) for key, t in ours.state_dict().items()] == [
        (key, tuple(t.shape)) for key, t in theirs.state_dict().items()
    ]
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def flat(result):
    """Output and states as a list."""
    y, h = result
    return [y, *h] if isinstance(h, tuple) else [y, h]


def close(ours, theirs, tolerance):
    found, expected = ours.numpy(force=True), theirs.detach().numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * max(1, abs(expected).max()))


def first_states(theirs, rows, dtype):
    rng = np.random.default_rng(3)
    shape = (theirs.num_layers * (2 if theirs.bidirectional else 1), rows, theirs.hidden_size)
    count = 2 if isinstance(theirs, torch.nn.LSTM) else 1
    return [rng.normal(size=shape).astype(dtype) for _ in range(count)]


def as_state(arrays, make):
    states = tuple(make(a) for a in arrays)
    return states if len(states) > 1 else states[0]


def leaves(arrays):
    return [sg.tensor(a, requires_grad=True) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]


def compare(ours, theirs, steps=6, rows=4, lengths=None, dtype="float64", tolerance=1e-10):
    rng = np.random.default_rng(0)
    shape = (rows, steps) if theirs.batch_first else (steps, rows)
    arrays = [rng.normal(size=(*shape, theirs.input_size)).astype(dtype), *first_states(theirs, rows, dtype)]
    (x, *mine), (t, *its) = leaves(arrays)
    found = flat(ours(x, tuple(mine) if len(mine) > 1 else mine[0], None if lengths is None else sg.tensor(lengths)))
    hx = tuple(its) if len(its) > 1 else its[0]
    if lengths is None:
        expected = flat(theirs(t, hx))
    else:
        utils = torch.nn.utils.rnn
        packed = utils.pack_padded_sequence(t, torch.tensor(lengths), theirs.batch_first, enforce_sorted=False)
        y, h = theirs(packed, hx)
        expected = flat((utils.pad_packed_sequence(y, theirs.batch_first)[0], h))
    for a, b in zip(found, expected, strict=True):
        close(a, b, tolerance)
    weights = [rng.normal(size=a.shape).astype(dtype) for a in found]
    sum((a * sg.tensor(w)).sum() for a, w in zip(found, weights)).backward()
    sum((b * torch.tensor(w)).sum() for b, w in zip(expected, weights)).backward()
    for a, b in zip([x, *mine, *ours.parameters()], [t, *its, *theirs.parameters()], strict=True):
        close(a.grad, b.grad, tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", OPTIONS)
def test_states_and_gradients_are_torchs(kind, options):
    compare(*pair(kind, **options))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", OPTIONS)
def test_lengths_are_torchs_packed_sequences(kind, options):
    compare(*pair(kind, **options), lengths=LENGTHS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kernels_that_run_on_batches_are_torchs_too(kind):
    ours, theirs = pair(kind, "float32", (24, 40), num_layers=2, bidirectional=True)
    compare(ours, theirs, 12, 33, dtype="float32", tolerance=1e-5)
    compare(ours, theirs, 6, 33, np.resize(LENGTHS, 33), "float32", 1e-5)


def test_a_net_with_relu_is_torchs():
    compare(*pair("RNN", nonlinearity="relu", bidirectional=True), lengths=LENGTHS)


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_are_torchs(kind):
    ours, theirs = pair(kind, bidirectional=True)
    (x,), (t,) = leaves([np.random.default_rng(0).normal(size=(4, 3, 5))])

    def slope(layer, x, grad, **options):
        loss = sum((a * a * a).sum() for a in flat(layer(x)))
        return grad(loss, [x, *layer.parameters()], create_graph=True, **options)

    found, expected = slope(ours, x, sg.grad), slope(theirs, t, torch.autograd.grad)
    second = sg.grad(sum((g * g).sum() for g in found), [x, *ours.parameters()])
    truth = torch.autograd.grad(sum((g * g).sum() for g in expected), [t, *theirs.parameters()])
    for a, b in zip(second, truth, strict=True):
        close(a, b, 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_without_a_batch(kind):
    ours, theirs = pair(kind, num_layers=2, batch_first=True)
    x = np.random.default_rng(0).normal(size=(6, 5))
    for a, b in zip(flat(ours(sg.tensor(x))), flat(theirs(torch.tensor(x))), strict=True):
        close(a, b, 1e-10)


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("batch", [(3,), ()])
def test_cells_are_torchs(kind, bias, given, batch):
    ours, theirs = pair(kind, bias=bias)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(*batch, 5))]
    if given:
        arrays += [rng.normal(size=(*batch, 7)) for _ in range(2 if kind == "LSTMCell" else 1)]
    (x, *mine), (t, *its) = leaves(arrays)
    found = ours(x, as_state(mine, lambda s: s)) if given else ours(x)
    expected = theirs(t, as_state(its, lambda s: s)) if given else theirs(t)
    found, expected = (list(r) if isinstance(r, tuple) else [r] for r in (found, expected))
    for a, b in zip(found, expected, strict=True):
        close(a, b, 1e-10)
    sum((a * a).sum() for a in found).backward()
    sum((b * b).sum() for b in expected).backward()
    for a, b in zip([x, *mine, *ours.parameters()], [t, *its, *theirs.parameters()], strict=True):
        close(a.grad, b.grad, 1e-10)


def test_a_cell_with_relu_is_torchs():
    ours, theirs = pair("RNNCell", nonlinearity="relu")
    x = np.random.default_rng(0).normal(size=(3, 5))
    close(ours(sg.tensor(x)), theirs(torch.tensor(x)), 1e-10)


def test_dropout_is_between_layers_and_in_training_only():
    sg.manual_seed(0)
    layer = nn.GRU(4, 8, num_layers=2, dropout=0.5)
    x = sg.randn(5, 2, 4)
    assert not np.array_equal(layer(x)[0].numpy(force=True), layer(x)[0].numpy(force=True))
    first = [layer(x)[1][0].numpy(force=True) for _ in range(2)]  # the first layer sees none of it
    np.testing.assert_array_equal(*first)
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].numpy(force=True), layer(x)[0].numpy(force=True))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="num_layers must be 1 or more"):
        nn.GRU(4, 8, 0)
    with pytest.raises(ValueError, match="dropout must be from 0 to 1"):
        nn.LSTM(4, 8, dropout=2.0)
    with pytest.raises(ValueError, match="'tanh' or 'relu', got 'gelu'"):
        nn.RNN(4, 8, nonlinearity="gelu")
    layer = nn.GRU(4, 8)
    with pytest.raises(ValueError, match=r"expected \(L, N, 4\) or \(L, 4\), got \[3, 2, 5\]"):
        layer(sg.zeros(3, 2, 5))
    with pytest.raises(ValueError, match="at least one step"):
        layer(sg.zeros(0, 2, 4))
    with pytest.raises(ValueError, match=r"an initial state must be \[1, 2, 8\], got \[2, 8\]"):
        layer(sg.zeros(3, 2, 4), sg.zeros(2, 8))
    with pytest.raises(ValueError, match="lengths must be one number for each row"):
        layer(sg.zeros(3, 2, 4), None, sg.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match=r"expected \(N, 4\) or \(4,\)"):
        nn.LSTMCell(4, 8)(sg.zeros(2, 3))
    with pytest.raises(ValueError, match=r"the state must be \[2, 8\], got \[3, 8\]"):
        nn.GRUCell(4, 8)(sg.zeros(2, 4), sg.zeros(3, 8))
    F = nn.functional
    with pytest.raises(ValueError, match=r"weight must be \(3 H, H\), got \[8, 4\]"):
        F.gru(sg.zeros(2, 2, 12), sg.zeros(2, 4), sg.zeros(8, 4))
    with pytest.raises(ValueError, match=r"input must be \(T, N, 12\) with T of 1 or more"):
        F.gru(sg.zeros(0, 2, 12), sg.zeros(2, 4), sg.zeros(12, 4))
    with pytest.raises(TypeError, match="present must be bool"):
        F.gru(sg.zeros(2, 2, 12), sg.zeros(2, 4), sg.zeros(12, 4), present=sg.zeros(2, 2))
    with pytest.raises(ValueError, match="'tanh' or 'relu'"):
        F.rnn(sg.zeros(2, 2, 4), sg.zeros(2, 4), sg.zeros(4, 4), activation="sin")


def test_what_a_layer_says_of_itself():
    assert repr(nn.LSTM(4, 8, 2, bidirectional=True)) == "LSTM(4, 8, num_layers=2, bidirectional=True)"
    assert repr(nn.RNNCell(4, 8, bias=False)) == "RNNCell(4, 8, bias=False)"
