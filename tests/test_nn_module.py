"""Module: what is registered and in which order, hooks, modes, casts, saving and loading, printing."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import nn


class Child(nn.Module):
    def __init__(self, size=2):
        super().__init__()
        self.scale = nn.Parameter(np.ones(size, np.float32))
        self.register_buffer("seen", sg.tensor(0))

    def forward(self, x):
        return x * self.scale


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Child()
        self.weight = nn.Parameter(np.full((2, 2), 2.0, np.float32))
        self.register_parameter("bias", None)
        self.register_buffer("mean", sg.tensor([0.0, 1.0]))
        self.register_buffer("cache", sg.tensor([5.0]), persistent=False)
        self.second = Child()
        self.plain = sg.tensor([7.0])

    def forward(self, x):
        return self.second(self.first(x)) + self.mean


def names(pairs):
    return [name for name, _ in pairs]


def test_the_order_is_that_of_assignment_own_before_childrens():
    net = Net()
    assert names(net.named_parameters()) == ["weight", "first.scale", "second.scale"]
    assert names(net.named_buffers()) == ["mean", "cache", "first.seen", "second.seen"]
    assert names(net.named_children()) == ["first", "second"]
    assert names(net.named_modules()) == ["", "first", "second"]
    assert names(net.named_parameters(prefix="net", recurse=False)) == ["net.weight"]
    assert list(net.state_dict()) == ["weight", "mean", "first.scale", "first.seen", "second.scale", "second.seen"]
    assert list(net.state_dict(prefix="net."))[:3] == ["net.weight", "net.mean", "net.first.scale"]
    net.bias = nn.Parameter(np.zeros(2, np.float32))
    assert names(net.named_parameters(recurse=False)) == ["weight", "bias"]


def test_what_is_shared_is_counted_once_and_saved_under_every_name():
    net = Net()
    net.second = net.first
    net.tied = net.weight
    assert names(net.named_modules()) == ["", "first"]
    assert names(net.named_modules(remove_duplicate=False)) == ["", "first", "second"]
    assert names(net.named_parameters()) == ["weight", "first.scale"]
    assert names(net.named_parameters(remove_duplicate=False)) == ["weight", "tied", "first.scale", "second.scale"]
    assert {"tied", "weight", "second.scale"} <= set(net.state_dict())
    twin = copy.deepcopy(net)
    assert twin.tied is twin.weight is not net.weight
    assert twin.second is twin.first is not net.first


def test_look_up_by_dotted_name():
    net = Net()
    assert net.get_submodule("first") is net.first
    assert net.get_submodule("") is net
    assert net.get_parameter("second.scale") is net.second.scale
    assert net.get_buffer("first.seen") is net.first.seen
    with pytest.raises(AttributeError, match="Net has no sub-module 'third'; it has: first, second"):
        net.get_submodule("third")
    with pytest.raises(AttributeError, match="Child has no parameter 'weight'; it has: scale"):
        net.get_parameter("first.weight")
    with pytest.raises(AttributeError, match="Child has no buffer 'scale'; it has: seen"):
        net.get_buffer("first.scale")


def test_attributes_keep_their_kind():
    net = Net()
    net.first = None
    assert names(net.named_children()) == ["second"]
    net.first = Child()
    assert names(net.named_children()) == ["first", "second"]
    net.mean = sg.tensor([3.0, 4.0])
    assert "mean" in net.state_dict()
    with pytest.raises(TypeError, match="weight is a Parameter"):
        net.weight = sg.tensor([1.0])
    with pytest.raises(TypeError, match="second is a Module"):
        net.second = lambda x: x
    with pytest.raises(TypeError, match="mean is a buffer: it takes a Tensor, got list"):
        net.mean = [1.0]
    net.mean = nn.Parameter(np.zeros(2))
    assert "mean" in names(net.named_parameters())
    assert "mean" not in names(net.named_buffers())
    del net.cache
    assert names(net.named_buffers(recurse=False)) == []
    del net.weight
    assert not hasattr(net, "weight")


def test_names_are_checked():
    net = Net()
    for name in ("", "a.b", 3):
        with pytest.raises(KeyError, match="non-empty string without dots"):
            net.add_module(name, Child())
    with pytest.raises(KeyError, match="already has an attribute 'forward'"):
        net.register_buffer("forward", sg.tensor(1.0))
    with pytest.raises(KeyError, match="already has an attribute 'training'"):
        net.add_module("training", Child())
    with pytest.raises(TypeError, match="must be a Parameter or None, got Tensor"):
        net.register_parameter("p", sg.tensor(1.0))
    with pytest.raises(TypeError, match="must be a plain Tensor or None, got ndarray"):
        net.register_buffer("b", np.zeros(2))
    with pytest.raises(TypeError, match="must be a plain Tensor or None, got Parameter"):
        net.register_buffer("b", net.weight)
    with pytest.raises(TypeError, match="must be a Module or None, got function"):
        net.add_module("m", lambda x: x)


def test_forgetting_super_init_says_so():
    class Forgetful(nn.Module):
        def __init__(self):
            self.child = Child()

    with pytest.raises(AttributeError, match=r"must call super\(\).__init__\(\) before it assigns 'child'"):
        Forgetful()


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match=r"Module does not define forward\(\)"):
        nn.Module()(1)


def test_train_eval_apply_and_requires_grad():
    net = Net()
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    net.train()
    assert all(m.training for m in net.modules())
    visited = []
    net.apply(visited.append)
    assert visited == [net.first, net.second, net]
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    assert all(p.requires_grad for p in net.requires_grad_().parameters())


def test_zero_grad():
    net = Net()
    net(sg.tensor([[1.0, 2.0]])).sum_to_size(()).backward()
    assert net.weight.grad is None
    assert net.first.scale.grad is not None
    net.zero_grad(set_to_none=False)
    assert net.first.scale.grad.numpy().tolist() == [0.0, 0.0]
    net.zero_grad()
    assert net.first.scale.grad is None


def test_casts_change_floats_in_place():
    net = Net()
    weight = net.weight
    net(sg.tensor([[1.0, 2.0]])).sum_to_size(()).backward()
    assert net.to(np.float64) is net
    assert net.weight is weight
    assert {t.dtype for t in (*net.parameters(), net.mean, net.first.scale.grad)} == {np.dtype("float64")}
    assert net.first.seen.dtype == np.int64
    assert {p.dtype for p in net.half().parameters()} == {np.dtype("float16")}
    assert {p.dtype for p in net.to(sg.tensor([1.0])).parameters()} == {np.dtype("float32")}
    assert {p.dtype for p in net.double().float().parameters()} == {np.dtype("float32")}
    assert all(p.is_leaf and p.requires_grad for p in net.parameters())
    with pytest.raises(TypeError, match="dtype must be floating-point, got int64"):
        net.to(np.int64)


def test_moves_between_devices():
    net = Net().to("emu", np.float64)
    assert {t.device for t in (*net.parameters(), *net.buffers())} == {sg.emu}
    assert net.weight.dtype == np.float64
    assert {t.device for t in net.cpu().buffers()} == {sg.cpu}


def test_a_graph_from_before_a_cast_refuses_the_new_values():
    net = Net()
    y = (net.weight * net.weight).sum_to_size(())
    net.double()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_hooks_see_and_replace():
    net = Net()
    x = sg.tensor([[1.0, 2.0]])
    seen = []
    before = net.register_forward_pre_hook(lambda m, args: (args[0] * 10,))
    after = net.first.register_forward_hook(lambda m, args, output: seen.append((m, args[0].tolist(), output.tolist())))
    twice = net.register_forward_hook(lambda m, args, output: output * 2)
    assert net(x).tolist() == [[20.0, 42.0]]
    assert seen == [(net.first, [[10.0, 20.0]], [[10.0, 20.0]])]
    for handle in (before, after, twice):
        handle.remove()
        handle.remove()  # once more does no harm
    assert net(x).tolist() == [[1.0, 3.0]]
    assert len(seen) == 1


def test_state_shares_memory_and_load_copies():
    net, other = Net(), Net()
    state = net.state_dict()
    assert not state["weight"].requires_grad
    net.weight.array += 1
    assert state["weight"].tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert net.state_dict(keep_vars=True)["weight"] is net.weight
    weight, array = other.weight, other.weight.array
    result = other.load_state_dict(state)
    assert result == ([], [])
    assert other.weight is weight
    assert other.weight.array is array
    assert other.weight.tolist() == state["weight"].tolist()
    net.weight.array += 1
    assert other.weight.tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_load_takes_arrays_and_casts():
    net = Net()
    state = {name: t.numpy().astype(np.float64) for name, t in net.state_dict().items()}
    state["weight"] += 0.5
    state["first.seen"] = 3
    net.load_state_dict(state)
    assert net.weight.dtype == np.float32
    assert net.weight.tolist() == [[2.5, 2.5], [2.5, 2.5]]
    assert net.first.seen.item() == 3
    assert net.first.seen.dtype == np.int64


def test_load_lists_all_that_does_not_fit_and_changes_nothing():
    net = Net()
    state = {"weight": np.zeros((3, 2)), "mean": np.ones(2), "first.scale": np.zeros(2), "extra": np.zeros((1, 2))}
    with pytest.raises(RuntimeError, match="nothing was loaded") as error:
        net.load_state_dict(state)
    assert str(error.value).splitlines()[1:] == [
        "    missing: first.seen []",
        "    missing: second.scale [2]",
        "    missing: second.seen []",
        "    unexpected: extra [1, 2]",
        "    wrong shape: weight is [3, 2], expected [2, 2]",
    ]
    assert net.mean.tolist() == [0.0, 1.0]
    with pytest.raises(RuntimeError, match=r"wrong shape: weight is \[3, 2\]"):
        net.load_state_dict(state, strict=False)
    del state["weight"]
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["weight", "first.seen", "second.scale", "second.seen"]
    assert result.unexpected_keys == ["extra"]
    assert net.mean.tolist() == [1.0, 1.0]
    assert net.first.scale.tolist() == [0.0, 0.0]
    with pytest.raises(TypeError) as error:
        net.load_state_dict({"weight": "a string"})
    assert "while loading 'weight'" in error.value.__notes__


def test_a_graph_from_before_loading_refuses_the_new_values():
    net = Net()
    y = (net.weight * net.weight).sum_to_size(())
    net.load_state_dict(Net().state_dict())
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_copies_and_pickles_are_independent_and_whole():
    net = Net().eval()
    net.weight.requires_grad_(False)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert isinstance(twin.weight, nn.Parameter)
        assert not twin.weight.requires_grad
        assert twin.first.scale.requires_grad
        assert not twin.training
        assert list(twin.state_dict()) == list(net.state_dict())
        assert names(twin.named_buffers()) == names(net.named_buffers())
        twin.weight.array += 1
        assert net.weight.tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_a_parameter_shares_what_it_is_made_of():
    array = np.zeros(3)
    p = nn.Parameter(array)
    assert p.requires_grad
    assert p.is_leaf
    assert p.array is array
    assert not nn.Parameter(sg.tensor([1.0]), requires_grad=False).requires_grad
    assert nn.Parameter(sg.tensor([1.0], requires_grad=True) * 2).is_leaf
    assert repr(nn.Parameter(np.zeros(1, np.float32))).startswith("Parameter containing:\ntensor([0.]")
    with pytest.raises(RuntimeError, match="floating-point"):
        nn.Parameter(np.zeros(3, np.int64))
