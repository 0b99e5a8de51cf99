"""Graph memory is freed by reference counting: a thousand training steps, with the collector off, leave nothing.

Counted are live tensors and nodes, what the collector then finds in cycles, and all blocks of memory that Python holds:
an array of NumPy, however large, is one of them at least.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import nn, optim
from scratchgen.autograd import Meta, Node, Output
from scratchgen.declare import Primitive

SLACK = 50  # blocks; Python's and NumPy's own caches come and go, the smallest leak would be one block each time


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def live() -> int:
    """How many tensors and pieces of graphs there are."""
    # by type(x): isinstance asks for x.__class__, and some modules of others warn or import when asked
    return sum(issubclass(type(x), (sg.Tensor, Node, Output, Meta)) for x in gc.get_objects())


def assert_nothing_stays(action: Callable[[], object], times: int = 300) -> None:
    """Run ``action`` many times; its first runs may fill caches and make optimizer state.

    A leak grows in every round of runs, caches do so in the first ones at most.
    """
    for _ in range(20):
        action()
    growth = []
    for _ in range(3):
        gc.collect()  # which also empties the lists of free blocks that Python keeps for new objects
        objects, blocks = live(), sys.getallocatedblocks()
        for _ in range(times):
            action()
        more = live() - objects
        cyclic = gc.collect()
        assert more == 0, f"{more} more tensors and nodes after {times} times"
        assert cyclic == 0, f"{cyclic} objects were in cycles after {times} times"
        growth.append(sys.getallocatedblocks() - blocks)
        if growth[-1] < SLACK:
            return
    raise AssertionError(f"{growth} more blocks of memory in rounds of {times} times")


class Network:
    """A little of everything: convolution, batch norm, layer norm, dropout, linear layers."""

    def __init__(self) -> None:
        sg.manual_seed(0)
        self.model = nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(8, 6), nn.LayerNorm(6), nn.SiLU(), nn.Dropout(0.3), nn.Linear(6, 3),
        )  # fmt: skip
        self.x = sg.randn(4, 1, 4, 4)
        self.target = sg.tensor([0, 2, 1, 1])
        self.optimizer = optim.Adam(self.model.parameters(), lr=1e-3)

    def loss(self) -> sg.Tensor:
        return nn.functional.cross_entropy(self.model(self.x), self.target)

    def step(self, loss: Callable[[], sg.Tensor] | None = None) -> None:
        self.optimizer.zero_grad()
        (loss or self.loss)().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()


def test_forward_passes_dropped_without_backward():
    assert_nothing_stays(Network().loss, times=1000)


def test_training_steps():
    assert_nothing_stays(Network().step, times=1000)


def test_the_counters_see_a_leak():
    kept = []
    x = sg.randn(3, requires_grad=True)
    with pytest.raises(AssertionError, match="more tensors"):
        assert_nothing_stays(lambda: kept.append(x * 2))


def test_a_cycle_is_seen_with_the_collector_off():
    def cycle() -> None:
        t = sg.ones(2)
        t.hooks = [t]

    with pytest.raises(AssertionError, match="more tensors"):
        assert_nothing_stays(cycle)


def test_a_cycle_of_other_objects_is_seen_too():
    def cycle() -> None:
        x: list = []
        x.append(x)

    with pytest.raises(AssertionError, match="in cycles"):
        assert_nothing_stays(cycle)


def test_arrays_that_stay_are_seen():
    kept = []
    with pytest.raises(AssertionError, match="more blocks"):
        assert_nothing_stays(lambda: kept.append(np.ones(3)))


# --- special ways through the engine


def test_checkpoint():
    network = Network()
    first, rest = network.model[:5], network.model[5:]

    def loss() -> sg.Tensor:
        return nn.functional.cross_entropy(sg.checkpoint(rest, sg.checkpoint(first, network.x)), network.target)

    assert_nothing_stays(lambda: network.step(loss))
    assert_nothing_stays(loss)  # and without backward


def test_penalties_on_gradients():
    network = Network()
    parameters = list(network.model.parameters())

    def loss() -> sg.Tensor:
        plain = network.loss()
        return plain + sum((g * g).sum() for g in sg.grad(plain, parameters, create_graph=True))

    assert_nothing_stays(lambda: network.step(loss))
    assert_nothing_stays(loss)


def test_a_third_derivative():
    x = sg.randn(2, 3, requires_grad=True)

    def third() -> None:
        y = sg.log_softmax(x, 1).exp().square().sum()
        for _ in range(3):
            (g,) = sg.grad(y, x, create_graph=True)
            y = (g * g).sum()

    assert_nothing_stays(third)


def test_retained_graphs_die_with_their_last_tensor():
    network = Network()

    def twice() -> None:
        loss = network.loss()
        loss.backward(retain_graph=True)
        loss.backward()
        for p in network.model.parameters():
            p.grad = None

    assert_nothing_stays(twice)


def test_exceptions_in_forward_and_backward():
    network = Network()
    broken = Primitive("broken", np.sin, (lambda g, y, x: g + sg.ones(77),), "", False, False)

    def fail() -> None:
        h = network.model(network.x)
        with pytest.raises(ValueError, match="does not fit"):
            nn.functional.linear(h * 2, sg.ones(3, 77))
        with pytest.raises(ValueError, match="broadcast"):
            broken(h * 2).sum().backward()

    assert_nothing_stays(fail)


def test_hooks():
    network = Network()
    seen = []

    def hooked() -> sg.Tensor:
        h = network.model[0](network.x)
        h.register_hook(lambda g: g * 2)
        remove = network.model[0].weight.register_hook(lambda g: seen.append(g.shape))
        nn.functional.cross_entropy(network.model[1:](h), network.target).backward()
        remove()
        network.optimizer.zero_grad()
        seen.clear()
        return h

    assert_nothing_stays(hooked)


def test_observers():
    network = Network()

    def observed() -> None:
        with sg.Timer():
            network.step()

    assert_nothing_stays(observed)


def test_changes_in_place_are_forgotten_with_the_memory_they_changed():
    def change() -> None:
        x = sg.zeros(5)
        x.add_(1)
        x[1:].mul_(2)

    assert_nothing_stays(change)


def test_random_numbers_and_views():
    def draw() -> None:
        x = sg.rand(4, 5, generator=sg.Generator(1), requires_grad=True)
        y = x.T[1:, ::2].expand(2, -1, -1).unbind(0)[1]
        (y @ y.T).diagonal().sum().backward()

    assert_nothing_stays(draw)


# --- debug mode


def test_walking_a_model():
    model = Network().model
    assert_nothing_stays(lambda: (list(model.named_modules()), list(model.named_buffers()), model.state_dict()))


def test_debug_mode_entered_each_time():
    network = Network()

    def step() -> None:
        with sg.debug():
            network.step()

    assert_nothing_stays(step)


def test_debug_mode_around_all_of_them():
    network = Network()
    with sg.debug():
        assert_nothing_stays(network.step)
        assert_nothing_stays(network.loss)  # dropped without backward


def test_debug_mode_lets_go_of_what_a_dropped_graph_saved():
    x = sg.ones(3, requires_grad=True)
    with sg.debug():
        y = (x * x).sum()
        assert not x.array.flags.writeable
        del y
        assert x.array.flags.writeable


def test_a_gradient_kept_with_its_graph_is_let_go_when_it_is_replaced():
    """``backward(create_graph=True)`` makes a leaf refer to a graph that refers to it: this cycle is the user's."""
    x = sg.randn(3, requires_grad=True)

    def penalised() -> None:
        (x * x * x).sum().backward(create_graph=True)
        x.grad = None

    assert_nothing_stays(penalised)
