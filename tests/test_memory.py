"""Graph memory is freed by reference counting: a thousand of anything, with the cyclic collector off, leaves nothing.

What is counted: live tensors, nodes and gradients' sources (exactly as many as before), and bytes, NumPy's included.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import nn, optim
from scratchgen.autograd import Meta, Node, Output
from scratchgen.declare import Primitive

TIMES = 1000
SLACK = 20_000  # bytes; a leak of only one small object a time would be 56,000


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def live() -> int:
    """How many tensors and pieces of graphs there are."""
    return sum(isinstance(x, (sg.Tensor, Node, Output, Meta)) for x in gc.get_objects())


def assert_nothing_stays(action: Callable[[], object]) -> None:
    """Run ``action`` a thousand times; its first runs may fill caches and make optimizer state."""
    tracemalloc.start()
    try:
        for _ in range(20):
            action()
        objects, held = live(), tracemalloc.get_traced_memory()[0]
        for _ in range(TIMES):
            action()
        more_objects, more_bytes = live() - objects, tracemalloc.get_traced_memory()[0] - held
    finally:
        tracemalloc.stop()
    assert more_objects == 0
    assert more_bytes < SLACK


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
        self.optimizer.step()


def test_forward_passes_dropped_without_backward():
    assert_nothing_stays(Network().loss)


def test_training_steps():
    assert_nothing_stays(Network().step)


def test_the_counters_see_a_leak():
    kept = []
    x = sg.randn(3, requires_grad=True)
    with pytest.raises(AssertionError, match="== 0"):
        assert_nothing_stays(lambda: kept.append(x * 2))


def test_a_cycle_is_seen_with_the_collector_off():
    def cycle() -> None:
        t = sg.ones(2)
        t.hooks = [t]

    with pytest.raises(AssertionError, match="== 0"):
        assert_nothing_stays(cycle)


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
        with pytest.raises(ValueError, match="do not fit"):
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
    x = sg.randn(3, requires_grad=True)
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
