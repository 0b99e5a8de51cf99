"""Learning-rate schedules give torch's sequences, or their papers', and go on where they were saved."""

from __future__ import annotations

import math

import numpy as np
import pytest

import scratchgen as sg
from scratchgen.optim import SGD, lr_scheduler

STEPS = 40
LRS = (0.1, 0.03)  # two groups

SHARED = [  # what torch has too, under the same names
    ("LambdaLR", {"lr_lambda": lambda epoch: 0.9**epoch + 0.01}),
    ("LambdaLR", {"lr_lambda": [lambda epoch: 1 / (1 + epoch), lambda epoch: math.exp(-epoch)]}),
    ("StepLR", {"step_size": 7}),
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [4, 9, 9, 30], "gamma": 0.3}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.5, "total_iters": 13}),
    ("CosineAnnealingLR", {"T_max": STEPS}),
    ("CosineAnnealingLR", {"T_max": 9, "eta_min": 0.001}),
]


def ours():
    return SGD([{"params": [sg.tensor([1.0], requires_grad=True)], "lr": lr} for lr in LRS])


def theirs(torch):
    return torch.optim.SGD([{"params": [torch.ones(1, requires_grad=True)], "lr": lr} for lr in LRS])


def run(optimizer, scheduler, steps=STEPS):
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr())
        optimizer.step()
        scheduler.step()
    return np.array(rates)


@pytest.mark.parametrize(("name", "kwargs"), SHARED)
def test_rates_are_torchs(name, kwargs):
    torch = pytest.importorskip("torch")
    a, b = ours(), theirs(torch)
    expected = run(b, getattr(torch.optim.lr_scheduler, name)(b, **kwargs))
    assert expected.std(axis=0).min() > 0
    np.testing.assert_allclose(run(a, getattr(lr_scheduler, name)(a, **kwargs)), expected, rtol=1e-10, atol=1e-15)


def sequence(module, optimizer):
    warmup = module.LinearLR(optimizer, start_factor=0.25, total_iters=6)
    cosine = module.CosineAnnealingLR(optimizer, T_max=20)
    decay = module.ExponentialLR(optimizer, gamma=0.8)
    return module.SequentialLR(optimizer, [warmup, cosine, decay], milestones=[6, 26])


@pytest.mark.filterwarnings("ignore:.*epoch parameter.*")  # torch's SequentialLR calls its own deprecated step(epoch)
def test_schedules_one_after_another():
    torch = pytest.importorskip("torch")
    a, b = ours(), theirs(torch)
    expected = run(b, sequence(torch.optim.lr_scheduler, b))
    np.testing.assert_allclose(run(a, sequence(lr_scheduler, a)), expected, rtol=1e-10, atol=1e-15)


def test_warmup_and_cosine():
    a = ours()
    rates = run(a, lr_scheduler.WarmupCosineLR(a, warmup_steps=5, total_steps=30, eta_min=0.001))
    for rate, base in zip(rates.T, LRS, strict=True):
        np.testing.assert_allclose(rate[:6], [base / 5, base * 2 / 5, base * 3 / 5, base * 4 / 5, base, base])
        np.testing.assert_allclose(rate[5 + 25 // 2], 0.001 + (base - 0.001) * (1 + math.cos(math.pi * 12 / 25)) / 2)
        np.testing.assert_allclose(rate[30:], 0.001)
        assert (np.diff(rate[5:31]) < 0).all()
    no_warmup = ours()
    rates = run(no_warmup, lr_scheduler.WarmupCosineLR(no_warmup, warmup_steps=0, total_steps=30))
    np.testing.assert_allclose(rates[0], LRS)


def test_noam_is_the_transformer_papers():
    optimizer = SGD([sg.tensor([1.0], requires_grad=True)], lr=1.0)
    rates = run(optimizer, lr_scheduler.NoamLR(optimizer, d_model=512, warmup_steps=10))[:, 0]
    steps = np.arange(1, STEPS + 1)
    np.testing.assert_allclose(rates, 512**-0.5 * np.minimum(steps**-0.5, steps * 10**-1.5))
    assert rates.argmax() == 9


EVERY = [
    *SHARED,
    ("WarmupCosineLR", {"warmup_steps": 5, "total_steps": 30}),
    ("NoamLR", {"d_model": 64, "warmup_steps": 10}),
]


@pytest.mark.parametrize(("name", "kwargs"), EVERY)
def test_a_loaded_schedule_goes_on_exactly(name, kwargs):
    straight = ours()
    expected = run(straight, getattr(lr_scheduler, name)(straight, **kwargs))

    first = ours()
    scheduler = getattr(lr_scheduler, name)(first, **kwargs)
    run(first, scheduler, 17)
    saved = first.state_dict(), scheduler.state_dict()
    assert not any(callable(value) for value in saved[1].values())

    second = ours()
    resumed = getattr(lr_scheduler, name)(second, **kwargs)
    second.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    np.testing.assert_array_equal(run(second, resumed, STEPS - 17), expected[17:])


def test_a_loaded_sequence_goes_on_exactly():
    straight = ours()
    expected = run(straight, sequence(lr_scheduler, straight))
    for stop in (3, 6, 17, 30):
        first = ours()
        scheduler = sequence(lr_scheduler, first)
        run(first, scheduler, stop)
        second = ours()
        resumed = sequence(lr_scheduler, second)
        second.load_state_dict(first.state_dict())
        resumed.load_state_dict(scheduler.state_dict())
        np.testing.assert_array_equal(run(second, resumed, STEPS - stop), expected[stop:])


def test_last_epoch_resumes_as_in_torch():
    optimizer = ours()
    with pytest.raises(KeyError, match="initial_lr"):
        lr_scheduler.StepLR(optimizer, step_size=3, last_epoch=4)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    scheduler = lr_scheduler.StepLR(optimizer, step_size=3, last_epoch=4)
    np.testing.assert_allclose(scheduler.get_last_lr(), [lr * 0.1 for lr in LRS])  # step 5


def test_wrong_arguments_say_what_is_wrong():
    a, b = ours(), ours()
    with pytest.raises(ValueError, match="start_factor"):
        lr_scheduler.LinearLR(a, start_factor=0.0)
    with pytest.raises(ValueError, match="end_factor"):
        lr_scheduler.LinearLR(a, end_factor=1.5)
    with pytest.raises(ValueError, match="total_iters"):
        lr_scheduler.LinearLR(a, total_iters=0)
    with pytest.raises(ValueError, match="got 30 and 30"):
        lr_scheduler.WarmupCosineLR(a, warmup_steps=30, total_steps=30)
    with pytest.raises(ValueError, match="1 functions for 2 parameter groups"):
        lr_scheduler.LambdaLR(a, [lambda epoch: 1.0])
    step = lr_scheduler.StepLR(a, step_size=3)
    with pytest.raises(ValueError, match="one milestone fewer"):
        lr_scheduler.SequentialLR(a, [step], [3])
    with pytest.raises(ValueError, match="schedule 1 is of another optimizer"):
        lr_scheduler.SequentialLR(a, [step, lr_scheduler.StepLR(b, step_size=3)], [3])
    with pytest.raises(ValueError, match="has gamma, unknown here"):
        lr_scheduler.LinearLR(a).load_state_dict(lr_scheduler.ExponentialLR(a, gamma=0.9).state_dict())
    one = SGD([sg.tensor([1.0], requires_grad=True)])
    with pytest.raises(ValueError, match="for 2 parameter groups, the optimizer has 1"):
        lr_scheduler.StepLR(one, step_size=3).load_state_dict(step.state_dict())
