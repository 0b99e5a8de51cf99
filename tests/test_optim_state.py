"""Optimizer state: torch's format, exact continuation, and errors for state that does not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import optim

OPTIMIZERS = [
    ("SGD", {"momentum": 0.9, "dampening": 0.1}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {}),
    ("Adamax", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True}),
    ("Adagrad", {"lr_decay": 0.1}),
]


def parameters(rng, dtype=np.float64):
    return [sg.tensor(rng.normal(size=shape).astype(dtype), requires_grad=True) for shape in [(3, 4), (5,)]]


def train(optimizer, params, rng, steps):
    for _ in range(steps):
        for p in params:
            p.grad = sg.tensor(np.asarray(rng.normal(size=p.shape), p.dtype))
        optimizer.step()


@pytest.mark.parametrize(("name", "kwargs"), OPTIMIZERS)
def test_training_goes_on_bit_for_bit(name, kwargs):
    rng = np.random.default_rng(0)
    params = parameters(rng, np.float32)
    optimizer = getattr(optim, name)([{"params": params[0], "lr": 0.03}, {"params": params[1]}], **kwargs)
    train(optimizer, params, rng, 7)

    again = [p.detach().clone().requires_grad_() for p in params]
    resumed = getattr(optim, name)([{"params": again[0]}, {"params": again[1]}], **kwargs)
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.param_groups[0]["lr"] == 0.03

    state = rng.bit_generator.state
    train(optimizer, params, rng, 5)
    rng.bit_generator.state = state
    train(resumed, again, rng, 5)
    for p, q in zip(params, again, strict=True):
        np.testing.assert_array_equal(p.numpy(force=True), q.numpy(force=True))


def test_loaded_state_is_a_copy():
    rng = np.random.default_rng(0)
    params = parameters(rng)
    optimizer = optim.Adam(params)
    train(optimizer, params, rng, 1)
    state = optimizer.state_dict()
    saved = state["state"][0]["exp_avg"].numpy().copy()
    resumed = optim.Adam(parameters(rng))
    resumed.load_state_dict(state)
    train(resumed, resumed.param_groups[0]["params"], rng, 1)
    np.testing.assert_array_equal(state["state"][0]["exp_avg"].numpy(), saved)


@pytest.mark.parametrize(("name", "kwargs"), OPTIMIZERS)
def test_torchs_state_loads_and_goes_on(name, kwargs):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    params = parameters(rng)
    theirs = [torch.tensor(p.numpy(force=True), requires_grad=True) for p in params]
    reference = getattr(torch.optim, name)(theirs, lr=0.05, **kwargs)

    def torch_steps(steps, rng):
        for _ in range(steps):
            for q in theirs:
                q.grad = torch.tensor(rng.normal(size=tuple(q.shape)))
            reference.step()

    torch_steps(7, rng)
    ours = [sg.tensor(q.detach().numpy(), requires_grad=True) for q in theirs]
    optimizer = getattr(optim, name)(ours, **kwargs)
    optimizer.load_state_dict(reference.state_dict())
    state = rng.bit_generator.state
    torch_steps(5, rng)
    rng.bit_generator.state = state
    train(optimizer, ours, rng, 5)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.numpy(force=True), q.detach().numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "kwargs"), OPTIMIZERS)
def test_the_format_is_torchs(name, kwargs):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    params = parameters(rng)
    theirs = [torch.tensor(p.numpy(force=True), requires_grad=True) for p in params]
    optimizer, reference = getattr(optim, name)(params, **kwargs), getattr(torch.optim, name)(theirs, **kwargs)
    train(optimizer, params, rng, 1)
    for q in theirs:
        q.grad = torch.ones_like(q)
    reference.step()
    ours, expected = optimizer.state_dict(), reference.state_dict()
    assert ours["state"].keys() == expected["state"].keys()
    for number in ours["state"]:
        assert ours["state"][number].keys() == expected["state"][number].keys()
    assert [group["params"] for group in ours["param_groups"]] == [g["params"] for g in expected["param_groups"]]
    assert set(ours["param_groups"][0]) <= set(expected["param_groups"][0])


def test_options_survive_json():
    rng = np.random.default_rng(0)
    params = parameters(rng)
    optimizer = optim.Adam(params, lr=0.05, betas=(0.8, 0.9))
    train(optimizer, params, rng, 2)
    state = optimizer.state_dict()
    arrays = {number: {k: v for k, v in values.items() if k != "step"} for number, values in state["state"].items()}
    text = json.dumps(
        {"param_groups": state["param_groups"], "step": {n: values["step"] for n, values in state["state"].items()}}
    )
    back = json.loads(text)
    resumed = optim.Adam(params)
    resumed.load_state_dict(
        {
            "param_groups": back["param_groups"],
            "state": {n: {"step": step, **arrays[int(n)]} for n, step in back["step"].items()},
        }
    )
    other = [p.detach().clone().requires_grad_() for p in params]
    original = optim.Adam(other)
    original.load_state_dict(state)
    bits = rng.bit_generator.state
    train(original, other, rng, 3)
    rng.bit_generator.state = bits
    train(resumed, params, rng, 3)
    for p, q in zip(params, other, strict=True):
        np.testing.assert_array_equal(p.numpy(force=True), q.numpy(force=True))


def test_state_that_does_not_fit_is_refused():
    rng = np.random.default_rng(0)
    params = parameters(rng)
    optimizer = optim.Adam(params)
    train(optimizer, params, rng, 1)
    saved = optimizer.state_dict()

    with pytest.raises(ValueError, match=r"groups of \[2\] parameters, this optimizer of \[1\]"):
        optim.Adam(params[:1]).load_state_dict(saved)
    with pytest.raises(ValueError, match=r"groups of \[2\] parameters, this optimizer of \[1, 1\]"):
        optim.Adam([{"params": params[:1]}, {"params": params[1:]}]).load_state_dict(saved)
    with pytest.raises(ValueError, match="lacks alpha, momentum, centered; it was saved by another kind"):
        optim.RMSprop(params).load_state_dict(saved)
    with pytest.raises(ValueError, match=r"exp_avg of parameter 0 has shape \[3, 4\], the parameter has \[5\]"):
        optim.Adam(params[::-1]).load_state_dict(saved)
    foreign = {**saved, "state": {7: saved["state"][0]}}
    with pytest.raises(ValueError, match="of parameter 7, which no group has"):
        optim.Adam(params).load_state_dict(foreign)
    negative = {**saved, "param_groups": [{**saved["param_groups"][0], "lr": -1.0}]}
    with pytest.raises(ValueError, match="lr must be at least 0"):
        optim.Adam(params).load_state_dict(negative)


def test_a_refused_state_changes_nothing():
    rng = np.random.default_rng(0)
    params = parameters(rng)
    saved = optim.Adam(params, lr=0.5).state_dict()
    optimizer = optim.Adam(params)
    train(optimizer, params, rng, 1)
    before = optimizer.state_dict()
    broken = {**saved, "state": {0: {"step": 1, "exp_avg": np.zeros(3), "exp_avg_sq": np.zeros(3)}}}
    with pytest.raises(ValueError, match="exp_avg of parameter 0"):
        optimizer.load_state_dict(broken)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert after["state"][0]["exp_avg"] is before["state"][0]["exp_avg"] or np.array_equal(
        after["state"][0]["exp_avg"].numpy(), before["state"][0]["exp_avg"].numpy()
    )
