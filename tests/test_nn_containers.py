"""Containers: names, order, list and dict operations, printing."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import nn


class Add(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.n = n
        self.offset = nn.Parameter(np.full(1, float(n)))

    def forward(self, x):
        return x + self.offset


def numbers(modules):
    return [m.n for m in modules]


def test_sequential_runs_in_order():
    net = nn.Sequential(Add(1), Add(2))
    assert net(sg.tensor([0.0], dtype="float64")).tolist() == [3.0]
    assert list(net.state_dict()) == ["0.offset", "1.offset"]
    net.append(Add(3)).extend([Add(4)])
    net.insert(0, Add(0))
    assert numbers(net) == [0, 1, 2, 3, 4]
    assert list(net.state_dict())[-1] == "4.offset"
    del net[1]
    net[0] = Add(7)
    assert numbers(net) == [7, 2, 3, 4]
    assert len(net) == 4
    assert net[-1].n == 4
    with pytest.raises(IndexError, match="Sequential: index 4 is out of range for 4 entries"):
        net[4]


def test_sequential_with_names():
    net = nn.Sequential(OrderedDict([("a", Add(1)), ("b", Add(2)), ("c", Add(3))]))
    assert list(net.state_dict()) == ["a.offset", "b.offset", "c.offset"]
    assert net.b is net[1]
    assert list(net[1:].state_dict()) == ["b.offset", "c.offset"]
    shared = Add(1)
    twice = nn.Sequential(shared, shared)
    assert twice(sg.tensor([0.0], dtype="float64")).tolist() == [2.0]
    assert len(twice[:]) == 2
    assert len(nn.Sequential()) == 0
    assert nn.Sequential()(5) == 5


def test_module_list():
    modules = nn.ModuleList(Add(i) for i in range(4))
    assert numbers(modules) == [0, 1, 2, 3]
    assert isinstance(modules[1:3], nn.ModuleList)
    assert numbers(modules[1:3]) == [1, 2]
    del modules[1:3]
    assert numbers(modules) == [0, 3]
    assert list(modules.state_dict()) == ["0.offset", "1.offset"]
    modules.insert(1, Add(9))
    assert numbers(modules) == [0, 9, 3]
    with pytest.raises(NotImplementedError, match="ModuleList does not define forward"):
        modules(1)
    with pytest.raises(TypeError, match="must be a Module or None, got int"):
        modules.append(3)


def test_module_dict():
    modules = nn.ModuleDict({"a": Add(1)})
    modules["b"] = Add(2)
    modules.update([("c", Add(3)), ("a", Add(4))])
    assert modules.keys() == ["a", "b", "c"]
    assert numbers(modules.values()) == [4, 2, 3]
    assert [(key, m.n) for key, m in modules.items()] == [("a", 4), ("b", 2), ("c", 3)]
    assert list(modules) == ["a", "b", "c"]
    assert "b" in modules
    assert "training" not in modules
    assert modules.pop("b").n == 2
    assert len(modules) == 2
    assert list(modules.state_dict()) == ["a.offset", "c.offset"]
    with pytest.raises(KeyError, match="ModuleDict has no 'b'; it has: a, c"):
        modules["b"]
    with pytest.raises(KeyError, match="already has an attribute 'keys'"):
        modules["keys"] = Add(1)
    modules.clear()
    assert len(modules) == 0


def test_parameter_list():
    params = nn.ParameterList([np.zeros(2), nn.Parameter(np.ones(3))])
    params.append(sg.tensor([5.0]))
    assert [p.shape for p in params] == [(2,), (3,), (1,)]
    assert all(isinstance(p, nn.Parameter) for p in params)
    assert [name for name, _ in params.named_parameters()] == ["0", "1", "2"]
    params[0] = np.ones((2, 2))
    assert params[0].shape == (2, 2)
    assert len(params[1:]) == 2
    assert repr(params) == (
        "ParameterList(\n  (0): Parameter of float64[2, 2]\n  (1): Parameter of float64[3]\n"
        "  (2): Parameter of float32[1]\n)"
    )


def test_printing_is_torchs():
    torch = pytest.importorskip("torch")

    def build(n):
        block = n.Sequential(n.Linear(3, 4, bias=False), n.ReLU(), n.Dropout(0.1))
        return n.Sequential(
            OrderedDict(
                net=block,
                many=n.ModuleList([n.Linear(2, 2), n.Linear(2, 2), n.ReLU()]),
                named=n.ModuleDict({"x": n.Identity()}),
                empty=n.Sequential(),
            )
        )

    assert repr(build(nn)) == repr(build(torch.nn))
