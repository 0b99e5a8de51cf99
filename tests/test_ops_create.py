"""New tensors: torch's shapes, dtypes and values."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import assert_like_torch, dtype_name, torch

import scratchgen as sg


def assert_same(ours, theirs, rtol=0.0, atol=0.0):
    assert ours.shape == tuple(theirs.shape)
    assert dtype_name(ours) == dtype_name(theirs)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=rtol, atol=atol)


@pytest.mark.parametrize("size", [((),), (3,), (2, 0), ((2, 3),), ([2, 3],), (2, 3)])
def test_zeros_ones_and_empty(size):
    for name in ("zeros", "ones"):
        assert_same(getattr(sg, name)(*size), getattr(torch, name)(*size))
        ours, theirs = sg.ones(1, dtype="int32"), torch.ones(1, dtype=torch.int32)
        assert_same(getattr(ours, f"new_{name}")(*size), getattr(theirs, f"new_{name}")(*size))
    assert sg.empty(*size).shape == sg.ones(1).new_empty(*size).shape == tuple(torch.empty(*size).shape)


def test_size_by_name():
    for make in (sg.zeros, sg.ones, sg.empty, sg.rand, sg.randn):
        assert make(size=(2, 3)).shape == (2, 3)


@pytest.mark.parametrize("value", [2, 2.5, True, -float("inf")])
def test_full_takes_the_kind_of_its_value(value):
    assert_same(sg.full((2, 3), value), torch.full((2, 3), value))
    assert_same(sg.ones(1).new_full((2,), value), torch.ones(1).new_full((2,), value))
    assert_same(sg.full_like(sg.ones(2, 2), value), torch.full_like(torch.ones(2, 2), value))
    assert sg.full((2,), np.float64(value)).dtype == sg.float32
    assert sg.full((2,), sg.tensor(value)).dtype == sg.tensor(value).dtype


def test_dtype_device_and_requires_grad():
    for make in (sg.zeros, sg.ones, sg.empty, sg.eye, sg.rand, sg.randn):
        x = make(3, dtype="float64", device="emu", requires_grad=True)
        assert x.dtype == sg.float64
        assert x.device is sg.emu
        assert x.requires_grad
        assert x.is_leaf
    with pytest.raises(RuntimeError, match="only floating-point tensors can require grad"):
        sg.ones(2, dtype="int64", requires_grad=True)


def test_like_keeps_dtype_device_and_the_order_in_memory():
    image = sg.as_tensor(np.zeros((2, 5, 4, 3), np.float16).transpose(0, 3, 1, 2)).to("emu")
    for name in ("zeros_like", "ones_like", "empty_like"):
        y = getattr(sg, name)(image)
        assert (y.dtype, y.device, y.array.strides) == (image.dtype, image.device, image.array.strides)
        y = getattr(sg, name)(image, dtype="int32", device="cpu")
        assert (y.dtype, y.device, y.shape) == (sg.int32, sg.cpu, image.shape)
    assert sg.ones_like(sg.ones(2), requires_grad=True).requires_grad


def test_new_tensor_has_dtype_and_device():
    x = sg.ones(1, dtype="float64", device="emu").new_tensor([1, 2])
    assert (x.dtype, x.device, x.tolist()) == (sg.float64, sg.emu, [1, 2])


RANGES = [
    (5,), (2, 7), (7, 2, -2), (0,), (0, 0), (0.5,), (1, 2, 0.25), (0, 1, 0.1), (0, 0.3, 0.1), (3.0, 0, -0.5),
    (-3, 3, 2),
]  # fmt: skip


@pytest.mark.parametrize("args", RANGES)
def test_arange(args):
    assert_same(sg.arange(*args), torch.arange(*args), rtol=2e-7)
    assert_same(sg.arange(*args, dtype="float64"), torch.arange(*args, dtype=torch.float64), rtol=1e-15)
    if all(isinstance(x, int) for x in args):
        assert_same(sg.arange(*args, dtype="int32"), torch.arange(*args, dtype=torch.int32))


def test_arange_is_accurate_and_takes_0d_tensors():
    assert sg.arange(0, 1e6, 0.1)[-1].item() == np.float32(999999.9)
    assert sg.arange(sg.tensor(3)).tolist() == [0, 1, 2]
    assert sg.arange(2**60, 2**60 + 2).tolist() == [2**60, 2**60 + 1]
    for args in ((5, 0), (0, 5, -1), (0, 1, 0)):
        with pytest.raises(ValueError, match=r"arange: a step of -?[01] does not lead from"):
            sg.arange(*args)


@pytest.mark.parametrize("args", [(0, 1, 5), (3, -2, 4), (1, 1, 3), (0.5, 2, 1), (0, 1, 0), (-10, 10, 101)])
def test_linspace_and_logspace(args):
    assert_same(sg.linspace(*args, dtype="float64"), torch.linspace(*args, dtype=torch.float64), 1e-14, 1e-14)
    assert_same(sg.logspace(*args, dtype="float64"), torch.logspace(*args, dtype=torch.float64), rtol=1e-13)
    assert_same(sg.logspace(*args, 2), torch.logspace(*args, 2), rtol=1e-6)
    ours = sg.linspace(*args)
    assert ours.dtype == sg.float32
    if args[2] > 1:
        assert (ours[0].item(), ours[-1].item()) == args[:2]


def test_linspace_of_integers_and_wrong_steps():
    assert_same(sg.linspace(-3, 3, 5, dtype="int64"), torch.linspace(-3, 3, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match="linspace: the number of steps must not be negative, got -1"):
        sg.linspace(0, 1, -1)


def test_eye_and_triangle_indices():
    for args in ((3,), (2, 4), (4, 2), (0,)):
        assert_same(sg.eye(*args), torch.eye(*args))
    for args in ((3, 4), (4, 3, 1), (3, 3, -1), (2, 2, 5), (0, 3)):
        assert_same(sg.tril_indices(*args), torch.tril_indices(*args))
        assert_same(sg.triu_indices(*args), torch.triu_indices(*args))


@pytest.mark.parametrize("indexing", ["ij", "xy"])
@pytest.mark.parametrize("lengths", [(3,), (2, 3), (2, 3, 4), (2, 0)])
def test_meshgrid(indexing, lengths):
    vectors = [np.random.default_rng(i).standard_normal(n) for i, n in enumerate(lengths)]
    for i in range(len(lengths)):
        assert_like_torch(
            lambda *t, i=i: sg.meshgrid(*t, indexing=indexing)[i],
            lambda *t, i=i: torch.meshgrid(*t, indexing=indexing)[i],
            *vectors,
        )


def test_meshgrid_of_a_list_and_of_numbers():
    rows, columns = sg.meshgrid([sg.arange(2), sg.arange(3)])
    assert rows.shape == columns.shape == (2, 3)
    assert not rows.array.flags.owndata
    assert sg.meshgrid(sg.tensor(1.0), sg.arange(2))[0].shape == (1, 2)
    with pytest.raises(ValueError, match=r"meshgrid: expected vectors, got a tensor of shape \[2, 2\]"):
        sg.meshgrid(sg.ones(2, 2))
    with pytest.raises(ValueError, match="indexing must be 'ij' or 'xy', got 'yx'"):
        sg.meshgrid(sg.arange(2), indexing="yx")


def test_from_numpy_shares_memory():
    array = np.zeros(3)
    x = sg.from_numpy(array)
    array[0] = 1
    assert x.tolist() == [1, 0, 0]
    assert x.dtype == sg.float64
    with pytest.raises(TypeError, match="from_numpy: expected a NumPy array, got list"):
        sg.from_numpy([1.0])
