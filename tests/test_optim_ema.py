"""The moving average of weights: its values, the swap, buffers, and exact continuation."""

from __future__ import annotations

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import nn, optim


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(np.array([1.0, 2.0]))
        self.tied = self.weight
        self.register_buffer("count", sg.tensor(0))
        self.register_buffer("cache", sg.tensor([1.0]), persistent=False)


def step(net, i):
    net.weight.array += np.array([1.0, -0.5]) * i
    net.count.array += 1


@pytest.mark.parametrize("warmup", [False, True])
def test_the_average_is_the_recurrence(warmup):
    net = Net()
    ema = optim.EMA(net, decay=0.9, warmup=warmup)
    expected = net.weight.numpy(force=True).copy()
    for i in range(20):
        step(net, i)
        ema.update()
        decay = min(0.9, (1 + i) / (10 + i)) if warmup else 0.9
        expected = decay * expected + (1 - decay) * net.weight.numpy(force=True)
    np.testing.assert_allclose(ema.average["weight"].numpy(), expected, rtol=1e-12)
    assert ema.average["count"].item() == 20
    assert ema.average["tied"] is ema.average["weight"]


def test_swapped_gives_the_average_and_takes_it_back():
    net = Net()
    ema = optim.EMA(net, decay=0.5, warmup=False)
    step(net, 4)
    ema.update()
    step(net, 4)
    own, array = net.weight.numpy(force=True).copy(), net.weight.array
    with ema.swapped() as averaged:
        assert averaged is net
        np.testing.assert_array_equal(net.weight.numpy(force=True), [3.0, 1.0])  # (1 + 5) / 2, (2 + 0) / 2
        assert net.tied is net.weight
        assert net.count.item() == 1
        net.count.array += 100  # what evaluation does to buffers stays out of training
        for call in (ema.update, ema.state_dict, lambda: ema.load_state_dict({}), lambda: ema.swapped().__enter__()):
            with pytest.raises(RuntimeError, match="holds the averaged weights"):
                call()
    assert net.weight.array is array
    np.testing.assert_array_equal(net.weight.numpy(force=True), own)
    assert net.count.item() == 2


def test_swapped_takes_it_back_after_an_error():
    net = Net()
    ema = optim.EMA(net)
    array = net.weight.array
    with pytest.raises(ZeroDivisionError), ema.swapped():
        raise ZeroDivisionError
    assert net.weight.array is array
    ema.update()


def test_a_graph_from_before_the_swap_refuses_the_averaged_values():
    net = Net()
    ema = optim.EMA(net)
    y = (net.weight * net.weight).sum_to_size(())
    with ema.swapped(), pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_state_goes_on_exactly_and_loads_into_the_module():
    net = Net()
    ema = optim.EMA(net, decay=0.9)
    for i in range(5):
        step(net, i)
        ema.update()
    other = Net()
    other.load_state_dict(net.state_dict())
    resumed = optim.EMA(other, decay=0.9)
    resumed.load_state_dict(ema.state_dict())
    for i in range(5):
        for module, average in ((net, ema), (other, resumed)):
            step(module, i)
            average.update()
    np.testing.assert_array_equal(ema.average["weight"].numpy(), resumed.average["weight"].numpy())
    sampler = Net()
    sampler.load_state_dict(ema.state_dict()["average"])
    np.testing.assert_array_equal(sampler.weight.numpy(force=True), ema.average["weight"].numpy())


def test_state_that_does_not_fit_is_refused():
    ema = optim.EMA(Net())
    state = ema.state_dict()
    average = {"weight": np.zeros(3), "count": 0, "extra": 1.0}
    with pytest.raises(RuntimeError, match="nothing was loaded") as error:
        ema.load_state_dict({**state, "average": average})
    assert "missing: tied [2]" in str(error.value)
    assert "unexpected: extra []" in str(error.value)
    assert "wrong shape: weight is [3], expected [2]" in str(error.value)
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got 1.0"):
        optim.EMA(Net(), decay=1.0)


def test_the_checkpoint_average_is_the_plain_mean():
    net = Net()
    average, seen = sg.optim.CheckpointAverage(net), []
    for i in range(7):
        step(net, i)
        if i in (2, 3, 6):
            average.update()
            seen.append({name: t.numpy(force=True).copy() for name, t in net.named_parameters()})
    with average.swapped():
        for name, t in net.named_parameters():
            mean = np.mean([weights[name] for weights in seen], 0)
            np.testing.assert_allclose(t.numpy(force=True), mean, rtol=1e-6, err_msg=name)
    again = sg.optim.CheckpointAverage(net)
    again.load_state_dict(average.state_dict())
    assert again.updates == 3
