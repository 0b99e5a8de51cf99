"""Making tensors, and their way to and from other libraries."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import scratchgen as sg


def test_python_numbers_take_the_default_types():
    assert sg.tensor(1.5).dtype == np.float32
    assert sg.tensor([1, 2]).dtype == np.int64
    assert sg.tensor([True]).dtype == np.bool_
    assert sg.tensor([1, 2.5]).dtype == np.float32
    assert sg.tensor([[1.0], [2.0]], dtype="float64").dtype == np.float64


def test_a_python_float_keeps_its_precision_in_float64():
    assert sg.tensor([0.2], dtype="float64").item() == 0.2
    assert sg.tensor(0.2, dtype="float64").item() == 0.2


def test_arrays_keep_their_type_and_are_copied_by_tensor_and_shared_by_as_tensor():
    array = np.arange(3.0)
    copied, shared = sg.tensor(array), sg.as_tensor(array)
    array[0] = 7.0
    assert (copied.dtype, copied[0].item(), shared[0].item()) == (np.float64, 0.0, 7.0)


@pytest.mark.parametrize("bad", [["a"], [object()], [[1, 2], [3]]])
def test_what_is_not_numbers_is_refused(bad):
    with pytest.raises((TypeError, ValueError), match="cannot make a tensor"):
        sg.tensor(bad)


def test_numpy_and_tensors_mix_from_both_sides():
    x = sg.tensor(np.ones(3, np.float32))
    assert isinstance(np.ones(3, np.float32) * x, sg.Tensor)
    assert (np.float64(2.0) * x).dtype == np.float32
    np.testing.assert_array_equal(np.asarray(x + 1.0), np.full(3, 2.0))
    with pytest.raises(RuntimeError, match=r"x\.detach\(\)\.numpy\(\)"):
        np.asarray(sg.tensor(1.0, requires_grad=True))


def test_dlpack_both_ways_without_a_copy():
    torch = pytest.importorskip("torch")
    x = sg.tensor(np.ones(3, np.float32))
    there = torch.from_dlpack(x)
    there[0] = 5.0
    assert x[0].item() == 5.0
    back = sg.as_tensor(there)
    there[1] = 6.0
    assert back[1].item() == 6.0


def test_leaves_are_copied_and_pickled_with_their_requires_grad():
    x = sg.tensor([1.0, 2.0], requires_grad=True)
    for twin in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        np.testing.assert_array_equal(twin.detach().numpy(), [1.0, 2.0])
        assert twin.requires_grad
        assert not np.shares_memory(twin.array, x.array)
    with pytest.raises(RuntimeError, match="only leaf tensors"):
        copy.deepcopy(x * 2.0)


def test_repr_shows_type_device_and_origin():
    x = sg.tensor([1.0], requires_grad=True)
    assert repr(x) == "tensor([1.], requires_grad=True)"
    assert repr(x * 2.0) == "tensor([2.], grad_fn=<mul>)"
    assert repr(sg.tensor([1], dtype="int32", device="emu")) == "tensor([1], dtype=int32, device='emu')"


def test_truth_and_conversion_of_single_elements():
    assert bool(sg.tensor([3.0]))
    assert not bool(sg.tensor(0))
    assert float(sg.tensor([2.5])) == 2.5
    assert [10, 20][sg.tensor(1)] == 20
    with pytest.raises(ValueError, match="ambiguous"):
        bool(sg.tensor([1, 2]))
    with pytest.raises(TypeError, match="only integer tensors"):
        [10, 20][sg.tensor(1.0)]


def test_integers_cannot_require_grad():
    with pytest.raises(RuntimeError, match="only floating-point tensors"):
        sg.tensor([1], requires_grad=True)


def test_mixed_devices_raise_and_name_both():
    with pytest.raises(RuntimeError, match=r"\[2\] on cpu and \[2\] on emu"):
        sg.tensor([1.0, 2.0]) + sg.tensor([1.0, 2.0], device="emu")


def test_devices_are_unique_and_checked():
    assert sg.device("cuda:1") is sg.device("cuda", 1)
    assert str(sg.device("cuda")) == "cuda:0"
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        sg.device("gpu")
