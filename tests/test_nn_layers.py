"""Every layer with torch's weights gives torch's output and torch's gradients, in float32 and float64."""

from __future__ import annotations

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import nn

torch = pytest.importorskip("torch", reason="the oracle of these tests")

WITHOUT_ARGUMENTS = [
    "ReLU", "ReLU6", "SELU", "SiLU", "Mish", "Hardsigmoid", "Hardswish", "Sigmoid", "LogSigmoid", "Tanh",
    "Tanhshrink", "Softsign", "LeakyReLU", "ELU", "CELU", "Hardtanh",
]  # fmt: skip

# name, arguments, keyword arguments, shapes of the inputs
PLAIN = [
    ("Identity", (), {}, [(3, 4)]),
    ("Linear", (4, 3), {}, [(2, 5, 4)]),
    ("Linear", (4, 3), {"bias": False}, [(4,)]),
    ("Bilinear", (4, 3, 2), {}, [(5, 4), (5, 3)]),
    ("Bilinear", (4, 3, 2), {"bias": False}, [(2, 5, 4), (2, 5, 3)]),
    ("Flatten", (), {}, [(2, 3, 4)]),
    ("Flatten", (0, 1), {}, [(2, 3, 4)]),
    ("Unflatten", (1, (2, 3)), {}, [(4, 6)]),
    ("Softmax", (-1,), {}, [(3, 4)]),
    ("LogSoftmax", (1,), {}, [(3, 4, 2)]),
    ("Softmin", (0,), {}, [(3, 4)]),
    ("GLU", (), {}, [(3, 4)]),
    ("GELU", (), {}, [(3, 4)]),
    ("GELU", ("tanh",), {}, [(3, 4)]),
    ("Softplus", (), {}, [(3, 4)]),
    ("Softplus", (2.0, 0.5), {}, [(3, 4)]),
    ("LeakyReLU", (0.2,), {}, [(3, 4)]),
    ("ELU", (0.7,), {}, [(3, 4)]),
    ("CELU", (0.5,), {}, [(3, 4)]),
    ("Hardtanh", (-0.5, 0.7), {}, [(3, 4)]),
    ("Threshold", (0.1, 20.0), {}, [(3, 4)]),
    ("PReLU", (), {}, [(3, 4)]),
    ("PReLU", (4, 0.1), {}, [(3, 4, 2)]),
    *((name, (), {}, [(3, 4)]) for name in WITHOUT_ARGUMENTS),
]

CONVOLUTIONS = [
    ("Conv1d", (4, 6, 3), {}, [(2, 4, 9)]),
    ("Conv1d", (4, 6, 3, 2, 1), {"groups": 2}, [(4, 9)]),
    ("Conv2d", (4, 6, 3), {}, [(2, 4, 6, 7)]),
    ("Conv2d", (4, 6, (3, 2)), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}, [(2, 4, 7, 8)]),
    ("Conv2d", (3, 5, (4, 3)), {"padding": "same", "bias": False}, [(2, 3, 6, 7)]),
    ("Conv2d", (3, 5, 2), {"padding": "valid"}, [(3, 6, 7)]),
    ("Conv2d", (3, 5, 3), {"padding": (2, 1), "padding_mode": "reflect"}, [(2, 3, 6, 7)]),
    ("Conv2d", (3, 5, (3, 4)), {"padding": "same", "padding_mode": "circular"}, [(2, 3, 6, 7)]),
    ("Conv1d", (3, 5, 3), {"padding": 2, "padding_mode": "replicate"}, [(2, 3, 6)]),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "padding": 1, "output_padding": 1}, [(2, 4, 5)]),
    ("ConvTranspose2d", (4, 6, 4, 2, 1), {}, [(2, 4, 5, 6)]),
    ("ConvTranspose2d", (4, 6, (3, 2)), {"groups": 2, "bias": False, "dilation": 2}, [(4, 5, 6)]),
]

NORMS = [
    ("BatchNorm1d", (4,), {}, [(6, 4)]),
    ("BatchNorm1d", (4,), {"momentum": None}, [(6, 4, 3)]),
    ("BatchNorm2d", (4,), {"momentum": 0.3, "eps": 1e-3}, [(3, 4, 5, 2)]),
    ("BatchNorm2d", (4,), {"affine": False}, [(3, 4, 5, 2)]),
    ("BatchNorm2d", (4,), {"track_running_stats": False}, [(3, 4, 5, 2)]),
    ("InstanceNorm1d", (4,), {}, [(3, 4, 5)]),
    ("InstanceNorm1d", (4,), {"affine": True, "track_running_stats": True}, [(4, 5)]),
    ("InstanceNorm2d", (4,), {"affine": True}, [(3, 4, 5, 2)]),
    ("InstanceNorm2d", (4,), {"track_running_stats": True}, [(3, 4, 5, 2)]),
    ("LayerNorm", (4,), {}, [(3, 4)]),
    ("LayerNorm", ((3, 4),), {"eps": 1e-3}, [(2, 3, 4)]),
    ("LayerNorm", (4,), {"bias": False}, [(3, 4)]),
    ("LayerNorm", (4,), {"elementwise_affine": False}, [(3, 4)]),
    ("GroupNorm", (2, 4), {}, [(3, 4, 5)]),
    ("GroupNorm", (4, 4), {"affine": False, "eps": 1e-3}, [(3, 4, 5, 2)]),
    ("RMSNorm", (4,), {}, [(3, 4)]),
    ("RMSNorm", ((3, 4),), {"eps": 1e-3}, [(2, 3, 4)]),
    ("RMSNorm", (4,), {"elementwise_affine": False}, [(3, 4)]),
]

SPATIAL = [
    ("MaxPool1d", (3,), {}, [(2, 3, 9)]),
    ("MaxPool2d", (2,), {}, [(2, 3, 6, 7)]),
    ("MaxPool2d", ((3, 2),), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "ceil_mode": True}, [(3, 6, 7)]),
    ("AvgPool1d", (3, 2), {"padding": 1, "count_include_pad": False}, [(2, 3, 9)]),
    ("AvgPool2d", (2,), {"ceil_mode": True}, [(2, 3, 5, 7)]),
    ("AvgPool2d", (3, 2, 1), {"divisor_override": 5}, [(2, 3, 5, 7)]),
    ("AdaptiveAvgPool1d", (3,), {}, [(2, 3, 7)]),
    ("AdaptiveAvgPool2d", ((3, None),), {}, [(2, 3, 7, 5)]),
    ("AdaptiveMaxPool1d", (3,), {}, [(2, 3, 7)]),
    ("AdaptiveMaxPool2d", (2,), {}, [(2, 3, 7, 5)]),
    ("Upsample", (), {"scale_factor": 2}, [(2, 3, 4, 5)]),
    ("Upsample", (), {"size": (7, 3), "mode": "bilinear"}, [(2, 3, 4, 5)]),
    ("Upsample", (), {"scale_factor": 1.5, "mode": "bicubic", "align_corners": True}, [(2, 3, 4, 5)]),
    ("PixelShuffle", (2,), {}, [(2, 8, 3, 2)]),
    ("PixelUnshuffle", (2,), {}, [(2, 3, 4, 6)]),
    ("Unfold", (3,), {"padding": 1, "stride": 2}, [(2, 3, 6, 7)]),
    ("Fold", ((6, 7), 3), {"padding": 1, "stride": 2}, [(2, 27, 12)]),
    *((f"{kind}Pad1d", (2,), {}, [(2, 3, 5)]) for kind in ("Zero", "Reflection", "Replication", "Circular")),
    *(
        (f"{kind}Pad2d", ((1, 2, 0, 3),), {}, [(2, 3, 5, 4)])
        for kind in ("Zero", "Reflection", "Replication", "Circular")
    ),
    ("ConstantPad1d", ((1, 2), 0.5), {}, [(2, 3, 5)]),
    ("ConstantPad2d", (2, -1.5), {}, [(2, 3, 5, 4)]),
]

TOLERANCE = {"float32": {"rtol": 1e-5, "atol": 1e-5}, "float64": {"rtol": 1e-10, "atol": 1e-10}}


def agree(a, b, dtype, **tolerance):
    assert a.shape == tuple(b.shape)
    np.testing.assert_allclose(a.numpy(force=True), b.detach().numpy(), **{**TOLERANCE[dtype], **tolerance})


def pair(name, args, kwargs, dtype):
    """Our layer and torch's, with the same random state and in evaluation's and training's neutral start."""
    theirs = getattr(torch.nn, name)(*args, **kwargs).to(getattr(torch, dtype))
    generator = torch.Generator().manual_seed(1)
    for key, t in theirs.state_dict().items():
        if t.is_floating_point():
            values = torch.rand(t.shape, generator=generator, dtype=t.dtype)
            t.copy_(values + 0.5 if key.endswith("var") else values - 0.5)
    ours = getattr(nn, name)(*args, **kwargs).to(dtype)
    own = ours.state_dict()
    assert [(key, t.shape) for key, t in own.items()] == [
        (key, tuple(t.shape)) for key, t in theirs.state_dict().items()
    ]
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def compare(ours, theirs, shapes, dtype, call=lambda layer, *inputs: layer(*inputs), **tolerance):
    """One forward and backward pass of both: output, gradients of inputs and parameters, buffers."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    xs = [sg.tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, t = call(ours, *xs), call(theirs, *ts)
    agree(y, t, dtype)
    assert str(y.dtype) == dtype
    g = rng.normal(size=y.shape).astype(dtype)
    ours.zero_grad()
    theirs.zero_grad()
    y.backward(sg.tensor(g))
    t.backward(torch.tensor(g))
    for x, expected in zip(xs, ts, strict=True):
        agree(x.grad, expected.grad, dtype, **tolerance)
    for (key, p), (other, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert key == other
        agree(p.grad, q.grad, dtype)
    for (key, p), (other, q) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        assert key == other
        agree(p, q, dtype)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch's hint that it copies
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "args", "kwargs", "shapes"), PLAIN + CONVOLUTIONS + SPATIAL)
def test_layer(name, args, kwargs, shapes, dtype):
    ours, theirs = pair(name, args, kwargs, dtype)
    # torch's derivative of hardsigmoid has 1/6 in float32 for every dtype
    compare(ours, theirs, shapes, dtype, **({"rtol": 1e-7} if name == "Hardsigmoid" and dtype == "float64" else {}))
    assert repr(ours) == repr(theirs) or name == "AvgPool1d"  # where torch prints one-element tuples


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "args", "kwargs", "shapes"), NORMS)
def test_norm(name, args, kwargs, shapes, dtype):
    """Three batches of training, whose running statistics must agree, then evaluation with them."""
    ours, theirs = pair(name, args, kwargs, dtype)
    assert repr(ours) == repr(theirs)
    for _ in range(3):
        compare(ours, theirs, shapes, dtype)
    ours.eval()
    theirs.eval()
    compare(ours, theirs, shapes, dtype)


def test_every_layer_is_tested_here_or_by_name_elsewhere():
    elsewhere = """
        Module Parameter Sequential ModuleList ModuleDict ParameterList MultiheadAttention Embedding
        Dropout Dropout1d Dropout2d AlphaDropout RNN GRU LSTM RNNCell GRUCell LSTMCell
    """
    layers = {name for name in nn.__all__ if isinstance(getattr(nn, name), type) and not name.endswith("Loss")}
    assert layers - set(elsewhere.split()) == {name for name, *_ in PLAIN + CONVOLUTIONS + NORMS + SPATIAL}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_transposed_convolution_to_a_wanted_size(dtype):
    for name, size, shape in (("ConvTranspose2d", (8, 9), (2, 4, 4, 4)), ("ConvTranspose1d", (9,), (2, 4, 4))):
        ours, theirs = pair(name, (4, 6, 3), {"stride": 2, "padding": 1, "output_padding": 1}, dtype)
        for wanted in ((7,) * len(size), (8,) * len(size)):
            compare(ours, theirs, [shape], dtype, lambda layer, x, wanted=wanted: layer(x, output_size=list(wanted)))
        with pytest.raises(ValueError, match=r"output_size must be between \[7"):
            ours(sg.tensor(np.zeros(shape, dtype)), output_size=(6,) * len(size))


def test_inplace_overwrites_nothing():
    x = sg.tensor([-1.0, 2.0])
    for layer in (nn.ReLU(True), nn.LeakyReLU(0.1, inplace=True), nn.ELU(inplace=True), nn.Dropout(0.5, True)):
        assert "inplace=True" in repr(layer)
        layer(x)
    assert x.tolist() == [-1.0, 2.0]


def test_max_pooling_returns_indices():
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 4)).astype(np.float32)
    for layer, args in (("MaxPool2d", (2,)), ("AdaptiveMaxPool2d", (3,))):
        y, index = getattr(nn, layer)(*args, return_indices=True)(sg.tensor(x))
        t, expected = getattr(torch.nn, layer)(*args, return_indices=True)(torch.tensor(x))
        np.testing.assert_array_equal(y.numpy(), t.numpy())
        np.testing.assert_array_equal(index.numpy(), expected.numpy())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padding_idx", [None, 2, -1])
def test_embedding(dtype, padding_idx):
    ours, theirs = pair("Embedding", (7, 3), {"padding_idx": padding_idx}, dtype)
    assert repr(ours) == repr(theirs)
    index = np.array([[0, 2, 2], [6, 1, 0]])
    y, t = ours(sg.tensor(index)), theirs(torch.tensor(index))
    agree(y, t, dtype)
    g = np.random.default_rng(0).normal(size=y.shape).astype(dtype)
    y.backward(sg.tensor(g))
    t.backward(torch.tensor(g))
    agree(ours.weight.grad, theirs.weight.grad, dtype)


def test_a_pretrained_embedding():
    table = sg.tensor(np.arange(12.0).reshape(4, 3))
    frozen = nn.Embedding.from_pretrained(table, padding_idx=0)
    assert not frozen.weight.requires_grad
    assert frozen(sg.tensor([3, 0])).tolist() == [[9.0, 10.0, 11.0], [0.0, 1.0, 2.0]]
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad
    with pytest.raises(ValueError, match=r"expected a matrix, got shape \[3\]"):
        nn.Embedding.from_pretrained(table[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_whole_network(dtype):
    def build(n):
        return n.Sequential(
            n.Conv2d(1, 4, 3, padding=1), n.BatchNorm2d(4), n.SiLU(), n.MaxPool2d(2),
            n.Conv2d(4, 6, 3, stride=2, bias=False), n.GroupNorm(2, 6), n.LeakyReLU(0.2), n.Flatten(),
            n.Linear(24, 8), n.LayerNorm(8), n.GELU(), n.Linear(8, 3), n.LogSoftmax(-1),
        )  # fmt: skip

    ours, theirs = build(nn).to(dtype), build(torch.nn).to(getattr(torch, dtype))
    ours.load_state_dict(theirs.state_dict())
    compare(ours, theirs, [(5, 1, 12, 12)], dtype)
    theirs.load_state_dict({key: torch.tensor(t.numpy()) for key, t in ours.state_dict().items()})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "2 groups do not divide 3 in and 4 out channels"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), "kernel_size must be an integer of at least 1 or 2 of them"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), "padding must be 'same', 'valid' or numbers, got 'full'"),
        (lambda: nn.Conv2d(3, 4, 3, 2, padding="same"), "padding='same' needs stride 1"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), "padding_mode must be one of zeros, reflect"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), "only padding_mode='zeros' exists"),
        (lambda: nn.GroupNorm(3, 4), "4 channels do not divide into 3 groups"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), "padding_idx 3 is out of range for 3 embeddings"),
        (lambda: nn.Dropout(1.5), r"p must be in \[0, 1\], got 1.5"),
        (lambda: nn.ZeroPad2d((1, 2)), r"padding must be an int or 4 ints, got \[1, 2\]"),
        (lambda: nn.BatchNorm2d(3)(sg.zeros(2, 3)), r"expected an input of 4 dimensions, got shape \[2, 3\]"),
        (lambda: nn.InstanceNorm1d(3)(sg.zeros(2)), "expected an input of 2 or 3 dimensions"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
