"""What layers do beyond their formula: dropout's draws, running statistics, losses' options, functional's names."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import nn, ops
from scratchgen.nn import functional


def test_dropout_draws_from_its_generator_and_only_in_training():
    x = sg.ones(1000)
    layer = nn.Dropout(0.25, generator=sg.Generator(3))
    y = layer(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.06
    np.testing.assert_array_equal(nn.Dropout(0.25, generator=sg.Generator(3))(x).numpy(), y)
    assert (layer(x).numpy() != y).any()
    counter = sg.default_generator.counter
    layer(x)
    assert sg.default_generator.counter == counter
    nn.Dropout()(x)
    assert sg.default_generator.counter > counter
    assert layer.eval()(x).tolist() == x.tolist()
    assert nn.Dropout(0.0)(x).tolist() == x.tolist()
    assert nn.Dropout(1.0)(x).tolist() == [0.0] * 1000


def test_a_copied_or_pickled_dropout_goes_on_with_its_stream():
    layer = nn.Dropout(0.5, generator=sg.Generator(3))
    layer(sg.ones(10))
    twins = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    expected = layer(sg.ones(100)).tolist()
    for twin in twins:
        assert twin(sg.ones(100)).tolist() == expected


@pytest.mark.parametrize(("layer", "shape"), [(nn.Dropout1d, (8, 16, 5)), (nn.Dropout2d, (8, 16, 3, 4))])
def test_channel_dropout_drops_whole_channels(layer, shape):
    y = layer(0.5)(sg.ones(*shape)).numpy().reshape(128, -1)
    assert (y == y[:, :1]).all()
    assert set(np.unique(y)) == {0.0, 2.0}


def test_alpha_dropout_keeps_mean_and_variance():
    x = sg.randn(100_000)
    y = nn.AlphaDropout(0.3)(x).numpy()
    assert abs(y.mean()) < 0.02
    assert abs(y.var() - 1) < 0.03
    assert nn.AlphaDropout(0.3).eval()(x) is x


def test_batch_norm_under_checkpoint_counts_a_batch_once():
    layer, plain = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    x = sg.randn(6, 3).requires_grad_()
    sg.checkpoint(layer, x).sum().backward()
    plain(x.detach())
    assert layer.num_batches_tracked.item() == 1
    np.testing.assert_array_equal(layer.running_mean.numpy(), plain.running_mean.numpy())
    np.testing.assert_array_equal(layer.running_var.numpy(), plain.running_var.numpy())


def test_running_statistics_can_be_reset_and_switched_off():
    layer = nn.BatchNorm1d(3)
    x = sg.randn(6, 3)
    layer(x)
    before = layer.running_mean.tolist()
    layer.track_running_stats = False
    layer(x)
    assert layer.running_mean.tolist() == before
    assert layer.num_batches_tracked.item() == 1
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0.0, 0.0, 0.0]
    assert layer.running_var.tolist() == [1.0, 1.0, 1.0]
    layer.weight.array += 1
    layer.reset_parameters()
    assert layer.weight.tolist() == [1.0, 1.0, 1.0]


LOSSES = [
    ("MSELoss", {}, "same"),
    ("L1Loss", {}, "same"),
    ("SmoothL1Loss", {"beta": 0.5}, "same"),
    ("HuberLoss", {"delta": 0.5}, "same"),
    ("BCELoss", {}, "probability"),
    ("BCELoss", {"weight": [0.5, 1.0, 2.0]}, "probability"),
    ("BCEWithLogitsLoss", {"weight": [0.5, 1.0, 2.0], "pos_weight": [3.0, 1.0, 0.2]}, "target"),
    ("CrossEntropyLoss", {}, "class"),
    ("CrossEntropyLoss", {"weight": [0.5, 1.0, 2.0], "ignore_index": 1, "label_smoothing": 0.1}, "class"),
    ("NLLLoss", {"weight": [0.5, 1.0, 2.0], "ignore_index": 1}, "class"),
    ("KLDivLoss", {}, "target"),
    ("KLDivLoss", {"log_target": True}, "same"),
    ("GaussianNLLLoss", {"full": True, "eps": 1e-3}, "variance"),
]


def loss_inputs(kind):
    rng = np.random.default_rng(0)
    x, y, p = rng.normal(size=(6, 3)), rng.normal(size=(6, 3)), rng.uniform(0.05, 0.95, size=(6, 3))
    return {
        "same": [x, y],
        "probability": [p, rng.uniform(size=(6, 3))],
        "target": [x, rng.uniform(size=(6, 3))],
        "class": [x, np.array([0, 2, 1, 0, 2, 2])],
        "variance": [x, y, p],
    }[kind]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "batchmean"])
@pytest.mark.parametrize(("name", "kwargs", "kind"), LOSSES)
@pytest.mark.filterwarnings("ignore:reduction.*:UserWarning")  # torch's advice on KLDivLoss
def test_losses_are_torchs(name, kwargs, kind, reduction):
    torch = pytest.importorskip("torch")
    if (reduction == "batchmean") and name != "KLDivLoss":
        with pytest.raises(ValueError, match=f"{name}: reduction must be 'mean', 'sum' or 'none'"):
            getattr(nn, name)(reduction=reduction)
        return

    def build(n, make):
        return getattr(n, name)(
            reduction=reduction, **{k: make(v) if isinstance(v, list) else v for k, v in kwargs.items()}
        )

    ours = build(nn, lambda v: sg.tensor(v, dtype="float64"))
    theirs = build(torch.nn, lambda v: torch.tensor(v, dtype=torch.float64))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    arrays = loss_inputs(kind)
    x, t = sg.tensor(arrays[0], requires_grad=True), torch.tensor(arrays[0], requires_grad=True)
    a, b = ours(x, *map(sg.tensor, arrays[1:])), theirs(t, *map(torch.tensor, arrays[1:]))
    np.testing.assert_allclose(a.numpy(force=True), b.detach().numpy(), rtol=1e-10, atol=1e-12)
    a.sum().backward()
    b.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_every_loss_is_tested():
    assert {name for name, *_ in LOSSES} == {name for name in nn.__all__ if name.endswith("Loss")}


FUSED = {  # in torch two ops or more each
    "affine_coupling", "batch_norm_relu", "conv2d_residual", "free_energy", "group_norm_silu",
    "layer_norm_residual", "linear_activation", "mixing_filters", "scaled_filters",
}  # fmt: skip
RECURRENT = {"gru", "lstm", "rnn"}  # in torch with other arguments


def test_functional_is_torchs_names_of_our_ops():
    torch = pytest.importorskip("torch")
    for name in functional.__all__:
        assert getattr(functional, name) is getattr(ops, name)
        assert hasattr(torch.nn.functional, name) != (name in FUSED | RECURRENT)
    common = {
        name for name in ops.__all__ if inspect.isfunction(getattr(ops, name)) and hasattr(torch.nn.functional, name)
    }
    assert common <= set(functional.__all__)


def test_layers_are_made_where_and_of_what_they_are_asked():
    for layer in (
        nn.Linear(2, 3, device="emu", dtype="float64"),
        nn.Conv2d(2, 3, 1, device="emu", dtype="float64"),
        nn.BatchNorm2d(3, device="emu", dtype="float64"),
        nn.LayerNorm(3, device="emu", dtype="float64"),
        nn.Embedding(3, 2, device="emu", dtype="float64"),
        nn.MultiheadAttention(4, 2, add_bias_kv=True, device="emu", dtype="float64"),
        nn.PReLU(device="emu", dtype="float64"),
    ):
        floats = [t for t in layer.state_dict().values() if t.is_floating_point()]
        assert {t.device for t in layer.state_dict().values()} == {sg.emu}
        assert {t.dtype for t in floats} == {np.dtype("float64")}
