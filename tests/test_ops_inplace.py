"""Changes in place: what they do, when they are refused, and that no graph uses a saved value that has changed."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from oracle import torch

import scratchgen as sg
from scratchgen import changes


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


CHANGES = {
    "add_": lambda x, m: x.add_(m.ones(3), alpha=2),
    "sub_": lambda x, m: x.sub_(0.5),
    "mul_": lambda x, m: x.mul_(m.full((2, 1), 3.0)),
    "div_": lambda x, m: x.div_(4),
    "pow_": lambda x, m: x.pow_(2),
    "floor_divide_": lambda x, m: x.floor_divide_(0.3),
    "remainder_": lambda x, m: x.remainder_(0.3),
    "clamp_": lambda x, m: x.clamp_(-0.5, 0.5),
    "lerp_": lambda x, m: x.lerp_(x.new_ones(2, 3), 0.25),
    "addcmul_": lambda x, m: x.addcmul_(m.ones(2, 3), m.full((2, 3), 2.0), value=0.5),
    "addcdiv_": lambda x, m: x.addcdiv_(m.ones(2, 3), m.full((2, 3), 2.0), value=-1),
    "copy_": lambda x, m: x.copy_(m.arange(3)),
    "fill_": lambda x, m: x.fill_(0.1),
    "zero_": lambda x, m: x.zero_(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_torchs_and_keep_memory_dtype_and_strides(name):
    for data in (normal(2, 3), normal(3, 2).T, normal(4, 6)[::2, ::-2], normal(2, 3).astype(np.float32)):
        array = data.copy(order="K")
        theirs = torch.from_numpy(array.copy())
        x = sg.as_tensor(array)
        assert CHANGES[name](x, sg) is x
        CHANGES[name](theirs, torch)
        assert x.array is array
        np.testing.assert_allclose(array, theirs.numpy(), rtol=1e-14 if data.dtype == np.float64 else 1e-6)


def test_a_view_changes_its_base():
    x = sg.tensor(normal(3, 2))
    x.detach()[1].zero_()
    assert x[1].tolist() == [0, 0]


def test_operators_change_in_place():
    x = y = sg.tensor([1.0, 2.0])
    x += 1
    x *= sg.tensor([2.0, 3.0])
    x -= 1
    x /= 2
    assert x is y
    assert y.tolist() == [1.5, 4.0]
    mask = same = sg.tensor([True, False])
    mask &= sg.tensor([True, True])
    mask |= sg.tensor([False, True])
    mask ^= sg.tensor([True, False])
    assert mask is same
    assert same.tolist() == [False, True]
    count = same = sg.tensor([7, 8])
    count //= 2
    count **= 2
    count %= 5
    assert count is same
    assert same.tolist() == [4, 1]


def test_operators_move_on_to_a_new_tensor_where_they_are_recorded():
    x = sg.tensor([1.0, 2.0], requires_grad=True)
    total = 0
    for factor in (2.0, 3.0):
        total += (x * factor).sum()
    data = sg.zeros(2)
    moved = data
    moved += x
    assert data.tolist() == [0, 0]
    dx, dm = sg.grad(total, x)[0], sg.grad(moved.sum(), x)[0]
    assert dx.tolist() == [5, 5]
    assert dm.tolist() == [1, 1]


def test_a_parameter_is_changed_under_no_grad_only():
    p = sg.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"add_: the tensor of shape \[2\] requires grad.*no_grad"):
        p += 1
    with sg.no_grad():
        p -= 0.5 * sg.ones(2)
        p.add_(1)
    assert p.requires_grad
    assert p.is_leaf
    assert p.tolist() == [1.5, 1.5]


def test_what_would_have_to_be_recorded_is_refused():
    x, p = sg.ones(2), sg.ones(2, requires_grad=True)
    for change in (lambda: x.add_(p), lambda: x.copy_(p), lambda: x.lerp_(x, weight=p), lambda: x.__setitem__(0, p[0])):
        with pytest.raises(RuntimeError, match=r"would be changed by one that requires grad.*functional form"):
            change()
    h = p * 2
    for change in (lambda: h.zero_(), lambda: h.mul_(2), lambda: h.__setitem__(0, 1)):
        for mode in (sg.enable_grad(), sg.no_grad()):
            with mode, pytest.raises(RuntimeError, match=r"computed by a recorded op.*x.detach\(\).clone\(\)"):
                change()
    assert x.tolist() == [1, 1]
    assert h.tolist() == [2, 2]
    with sg.no_grad():
        assert x.add_(p).tolist() == [2, 2]


def test_results_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"add_: a result of shape \[2, 3\] does not fit a tensor of \[3\]"):
        sg.ones(3).add_(sg.ones(2, 3))
    with pytest.raises(TypeError, match="mul_: a result of dtype float32 does not fit a tensor of int64"):
        sg.ones(3, dtype="int64").mul_(0.5)
    with pytest.raises(TypeError, match="add_: a result of dtype int64 does not fit a tensor of bool"):
        sg.tensor([True]).add_(1)
    with pytest.raises(ValueError, match=r"copy_: \[2\] does not broadcast to \[3\]"):
        sg.ones(3).copy_(sg.ones(2))
    with pytest.raises(ValueError, match=r"fill_: expected a number or a 0-d tensor, got shape \[2\]"):
        sg.ones(3).fill_(sg.ones(2))
    assert sg.ones(2, dtype="float32").add_(sg.ones(2, dtype="float64")).dtype == sg.float32
    assert sg.ones(2, dtype="int32").add_(sg.tensor([True, False])).tolist() == [2, 1]


def test_expanded_memory_is_not_written_to():
    x = sg.ones(1, 3).broadcast_to((2, 3))
    with pytest.raises(RuntimeError, match=r"add_: the tensor of shape \[2, 3\] cannot be written to: it is expanded"):
        x.add_(1)


# --- setitem


INDICES = [
    1,
    -1,
    slice(None, None, 2),
    (slice(None), 1),
    (..., slice(None, None, -1)),
    None,
    [0, 2],
    (slice(None), [1, 0]),
]


@pytest.mark.parametrize("index", INDICES)
def test_setitem_is_torchs(index):
    if isinstance(index, slice) or (isinstance(index, tuple) and index[0] is ...):
        expected = normal(4, 3)
        expected[index] = 5.0  # torch has no negative steps
    else:
        theirs = torch.from_numpy(normal(4, 3))
        theirs[index] = 5.0
        expected = theirs.numpy()
    x = sg.tensor(normal(4, 3))
    x[index] = 5.0
    np.testing.assert_array_equal(x.numpy(), expected)


def test_setitem_by_tensors_and_masks():
    x, t = sg.tensor(normal(4, 3)), torch.from_numpy(normal(4, 3))
    x[x > 0] = 0.0
    t[t > 0] = 0.0
    x[sg.tensor([0, 2]), 1] = sg.tensor([7.0, 8.0])
    t[torch.tensor([0, 2]), 1] = torch.tensor([7.0, 8.0], dtype=torch.float64)
    x[1:3] = np.arange(3.0)
    t[1:3] = torch.arange(3.0)
    np.testing.assert_array_equal(x.numpy(), t.numpy())
    with pytest.raises(IndexError) as caught:
        x[7] = 0
    assert "in setitem of a tensor of shape [4, 3]" in caught.value.__notes__
    with pytest.raises(RuntimeError, match=r"setitem: \[\] on emu into a tensor on cpu; move one with .to\(device\)"):
        x[0] = sg.tensor(1.0, device="emu")


def test_copies_between_devices():
    x = sg.zeros(2, device="emu")
    x.copy_(sg.tensor([1, 2]))
    assert x.device is sg.emu
    assert x.tolist() == [1, 2]


def test_detach_cuts_the_graph():
    x = sg.ones(2, requires_grad=True)
    y = x * 2
    assert y.detach_() is y
    assert y.is_leaf
    assert not y.requires_grad
    y.zero_()


# --- random fills


def test_random_fills():
    x, g = sg.empty(2000, dtype="float64"), sg.Generator(1)
    x.uniform_(2, 5, generator=g)
    assert 2 <= x.min().item() < 2.01
    assert 4.99 < x.max().item() < 5
    x.normal_(3, 0.1, generator=g)
    assert abs(x.mean().item() - 3) < 0.01
    assert abs(x.std().item() - 0.1) < 0.01
    x.exponential_(4, generator=g)
    assert x.min().item() > 0
    assert abs(x.mean().item() - 0.25) < 0.02
    x.bernoulli_(0.3, generator=g)
    assert set(x.tolist()) == {0, 1}
    assert abs(x.mean().item() - 0.3) < 0.05
    p = sg.tensor([0.0, 1.0])
    assert sg.empty(3, 2).bernoulli_(p).tolist() == [[0, 1]] * 3
    assert sg.empty(4, dtype="int64").bernoulli_(1).tolist() == [1] * 4
    assert (
        sg.tensor(normal(3, 2))
        .T.uniform_(generator=sg.Generator(5))
        .equal(sg.empty(2, 3, dtype="float64").uniform_(generator=sg.Generator(5)))
    )


def test_random_fills_check_their_arguments():
    x = sg.ones(2)
    with pytest.raises(ValueError, match=r"uniform_: the range \[1, 0\) is empty"):
        x.uniform_(1, 0)
    with pytest.raises(ValueError, match="normal_: the standard deviation must not be negative, got -1"):
        x.normal_(0, -1)
    with pytest.raises(ValueError, match="exponential_: the rate must be positive, got 0"):
        x.exponential_(0)
    with pytest.raises(ValueError, match=r"bernoulli_: probabilities must lie in \[0, 1\]"):
        x.bernoulli_(1.5)
    p = sg.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="normal_: the tensor of shape"):
        p.normal_()
    assert x.tolist() == p.tolist() == [1, 1]


# --- protection of saved values


EVERY_CHANGE = {
    **CHANGES,
    "uniform_": lambda x, m: x.uniform_(),
    "normal_": lambda x, m: x.normal_(),
    "exponential_": lambda x, m: x.exponential_(),
    "bernoulli_": lambda x, m: x.bernoulli_(),
    "setitem": lambda x, m: x.__setitem__(0, 1.0),
    "iadd": lambda x, m: x.__iadd__(1.0),
}


@pytest.mark.parametrize("name", EVERY_CHANGE)
def test_every_change_of_a_saved_value_is_noticed(name):
    x, w = sg.tensor(normal(2, 3)), sg.tensor(normal(2, 3, seed=1), requires_grad=True)
    y = (x * w).sum()
    EVERY_CHANGE[name](x, sg)
    with pytest.raises(RuntimeError, match=r"mul: a value of shape \[2, 3\] that it saved.*was changed in place"):
        y.backward()


def test_a_saved_output_is_protected():
    x = sg.tensor(normal(3), requires_grad=True)
    y = x.exp()
    y.detach().mul_(2)
    with pytest.raises(RuntimeError, match="exp: a value of shape"):
        y.sum().backward()


def test_views_share_protection():
    base = sg.tensor(normal(4, 3))
    w = sg.tensor(normal(2, 3), requires_grad=True)
    y = (base[1:3] * w).sum()
    base[0] = 1.0  # the same memory, if another part of it
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()
    y = (base[1:3] * w).sum()
    base.reshape(-1)[:2].zero_()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_unrelated_and_unsaved_tensors_do_not_trip():
    x, other = sg.tensor(normal(3)), sg.tensor(normal(3))
    w = sg.tensor(normal(3, seed=1), requires_grad=True)
    y = (x * w).sum()
    other.mul_(2)
    y.backward()
    np.testing.assert_array_equal(w.grad.numpy(), x.numpy())
    y = (x + w).sum()  # add saves nothing
    x.zero_()
    y.backward()


def test_a_change_before_or_after_is_harmless():
    x, w = sg.tensor(normal(3)), sg.tensor(normal(3, seed=1), requires_grad=True)
    x.mul_(2)
    y = (x * w).sum()
    y.backward()
    x.mul_(2)


def test_writes_through_numpy_are_not_seen():
    # What the docstring of the file says: nothing tells the engine of such a write.
    x, w = sg.tensor([1.0, 2.0]), sg.tensor([1.0, 1.0], requires_grad=True)
    y = (x * w).sum()
    x.numpy()[0] = 5.0
    assert sg.grad(y, w)[0].tolist() == [5.0, 2.0]


def test_memory_that_numpy_does_not_own_can_be_changed():
    for array in (np.from_dlpack(torch.ones(3)), np.frombuffer(bytearray(24))):
        x = sg.as_tensor(array)
        w = sg.ones(3, dtype=x.dtype, requires_grad=True)
        y = (x[:2] * w[:2]).sum()
        x.fill_(4)
        assert x.tolist() == [4, 4, 4]
        with pytest.raises(RuntimeError, match="changed in place"):
            y.backward()


def test_notes_of_changes_die_with_the_memory():
    gc.disable()
    try:
        x = sg.ones(3)
        array = weakref.ref(x.array)
        x.add_(1)
        key = id(array())
        assert key in changes.changed_at
        del x
        assert array() is None
        assert key not in changes.changed_at
    finally:
        gc.enable()
