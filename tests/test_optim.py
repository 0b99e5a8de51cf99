"""Every optimizer takes torch's steps, with every option; and what a step does to graphs, groups and gradients."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import optim

SHAPES = [(3, 4), (5,), ()]


def options(**choices):
    """All combinations of the choices, as keyword arguments."""
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


CASES = [
    *(
        ("SGD", o)
        for o in options(momentum=[0, 0.9], dampening=[0, 0.3], weight_decay=[0, 0.1], maximize=[False, True])
    ),
    *(("SGD", o) for o in options(momentum=[0.9], nesterov=[True], weight_decay=[0, 0.1], maximize=[False, True])),
    *(
        (name, o)
        for name in ("Adam", "AdamW")
        for o in options(amsgrad=[False, True], weight_decay=[0, 0.1], maximize=[False, True])
    ),
    ("Adam", {"betas": (0.5, 0.9), "eps": 1e-3}),
    ("Adam", {"betas": (0.0, 0.9)}),
    ("Adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {}),
    *(("Adamax", o) for o in options(weight_decay=[0, 0.1], maximize=[False, True])),
    ("Adamax", {"betas": (0.5, 0.9), "eps": 1e-3}),
    *(
        ("RMSprop", o)
        for o in options(momentum=[0, 0.9], centered=[False, True], weight_decay=[0, 0.1], maximize=[False, True])
    ),
    ("RMSprop", {"alpha": 0.5, "eps": 1e-3}),
    *(("Adagrad", o) for o in options(lr_decay=[0, 0.1], weight_decay=[0, 0.1], maximize=[False, True])),
    ("Adagrad", {"initial_accumulator_value": 0.5, "eps": 1e-3}),
]


def gradients(rng, step):
    """Gradients whose scale changes over time, so that moments and AMSGrad's maximum matter."""
    return [np.asarray(rng.normal(size=shape) * (1 + np.sin(step / 5)) + 0.3) for shape in SHAPES]


@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_a_hundred_steps_equal_torchs(name, kwargs):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start = [np.asarray(rng.normal(size=shape)) for shape in SHAPES]
    ours = [sg.tensor(x, requires_grad=True) for x in start]
    theirs = [torch.tensor(x, requires_grad=True) for x in start]
    kwargs = {"lr": 0.05, **kwargs}
    optimizer, reference = getattr(optim, name)(ours, **kwargs), getattr(torch.optim, name)(theirs, **kwargs)
    for step in range(100):
        for p, q, g in zip(ours, theirs, gradients(rng, step), strict=True):
            p.grad, q.grad = sg.tensor(g), torch.tensor(g)
        optimizer.step()
        reference.step()
    for p, q, x in zip(ours, theirs, start, strict=True):
        assert np.abs(p.numpy(force=True) - x).max() > 0.1
        np.testing.assert_allclose(p.numpy(force=True), q.detach().numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adamax", "RMSprop", "Adagrad"])
def test_defaults_are_torchs(name):
    torch = pytest.importorskip("torch")
    ours = getattr(optim, name)([sg.tensor([1.0], requires_grad=True)]).defaults
    theirs = getattr(torch.optim, name)([torch.tensor([1.0], requires_grad=True)]).defaults
    assert ours == {key: theirs[key] for key in ours}


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adamax", "RMSprop", "Adagrad"])
def test_float32_stays_float32(name):
    p = sg.tensor(np.ones((3, 2), np.float32), requires_grad=True)
    optimizer = getattr(optim, name)([p], lr=np.float64(0.1), weight_decay=0.1)
    array = p.array
    for _ in range(3):
        p.grad = sg.tensor(np.ones((3, 2), np.float32))
        optimizer.step()
    assert p.array is array
    assert p.dtype == np.float32
    state = optimizer.state_dict()["state"].get(0, {})
    assert {value.dtype for value in state.values() if isinstance(value, sg.Tensor)} <= {np.dtype(np.float32)}


def test_groups_have_options_of_their_own():
    a, b, c = (sg.tensor([1.0], requires_grad=True) for _ in range(3))
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [c], "lr": 0.0})
    for p in (a, b, c):
        p.grad = sg.tensor([1.0])
    optimizer.step()
    np.testing.assert_allclose([p.item() for p in (a, b, c)], [0.9, 0.5, 1.0], rtol=1e-6)
    assert [group["momentum"] for group in optimizer.param_groups] == [0.0, 0.0, 0.0]


def test_printing_lists_the_options_of_each_group():
    a, b = (sg.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = optim.RMSprop([{"params": a}, {"params": b, "lr": 0.5}], lr=0.1, centered=True)
    lines = repr(optimizer).splitlines()
    assert lines[:3] == ["RMSprop (", "Parameter Group 0", "    alpha: 0.99"]
    assert [line for line in lines if "lr" in line] == ["    lr: 0.1", "    lr: 0.5"]
    assert lines[-1] == ")"


def test_parameters_without_a_gradient_are_left_alone():
    a, b = (sg.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = optim.Adam([a, b], lr=0.1)
    a.grad = sg.tensor([1.0])
    optimizer.step()
    assert b.item() == 1.0
    assert list(optimizer.state_dict()["state"]) == [0]


def test_a_closure_is_run_with_gradients_on():
    x = sg.tensor([3.0], requires_grad=True)
    optimizer = optim.SGD([x], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = x * x
        loss.backward()
        return loss

    with sg.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 9.0
    np.testing.assert_allclose(x.item(), 3.0 - 0.1 * 6.0, rtol=1e-6)


def test_zero_grad_forgets_or_fills():
    x = sg.tensor([3.0], requires_grad=True)
    optimizer = optim.SGD([x], lr=0.1)
    x.grad = sg.tensor([1.0])
    optimizer.zero_grad(set_to_none=False)
    assert x.grad is not None
    assert x.grad.item() == 0.0
    optimizer.zero_grad()
    assert x.grad is None


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adamax", "RMSprop", "Adagrad"])
def test_a_graph_from_before_the_step_refuses_the_new_values(name):
    x = sg.tensor([3.0], requires_grad=True)
    y = x * x
    optimizer = getattr(optim, name)([x], lr=0.1)
    x.grad = sg.tensor([1.0])
    optimizer.step()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x: optim.Adam(x), TypeError, "not one Tensor"),
        (lambda x: optim.Adam([]), ValueError, "empty"),
        (lambda x: optim.Adam({x}), TypeError, "a set has no order"),
        (lambda x: optim.Adam([x, x]), ValueError, "given twice"),
        (lambda x: optim.Adam([{"params": [x]}, {"params": [x]}]), ValueError, "given twice"),
        (lambda x: optim.Adam([x * 2]), ValueError, "not a leaf"),
        (lambda x: optim.Adam([x.numpy(force=True)]), TypeError, "ndarray"),
        (lambda x: optim.Adam([x], lr=-1.0), ValueError, "lr must be at least 0, got -1.0"),
        (lambda x: optim.Adam([x], lr=float("nan")), ValueError, "lr must be at least 0, got nan"),
        (lambda x: optim.Adam([x], betas=(0.9, 1.0)), ValueError, r"betas\[1\] must be in \[0, 1\), got 1.0"),
        (lambda x: optim.Adam([{"params": [x], "eps": -1}]), ValueError, "eps must be at least 0"),
        (lambda x: optim.SGD([x], nesterov=True), ValueError, "nesterov needs a momentum"),
        (lambda x: optim.SGD([x], nesterov=True, momentum=0.9, dampening=0.1), ValueError, "dampening 0"),
        (lambda x: optim.RMSprop([x], alpha=-1.0), ValueError, "alpha"),
        (lambda x: optim.Adagrad([x], lr_decay=-1.0), ValueError, "lr_decay"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(make, error, message):
    with pytest.raises(error, match=message):
        make(sg.tensor([1.0], requires_grad=True))
