"""Indexing, look-ups and masks: torch's rules, values, gradients and errors; adding back at places named twice."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import assert_like_torch, both, lying, torch

import scratchgen as sg
from scratchgen import kernels
from scratchgen.testing import check_grad

F = torch.nn.functional
rng = np.random.default_rng(0)

SLICES = {  # of a tensor [3, 4, 5]
    "number": lambda x: x[1],
    "numbers": lambda x: x[1, -1, 2],
    "slice": lambda x: x[1:],
    "slices": lambda x: x[:2, ::3, -3:-1],
    "empty slice": lambda x: x[:, 2:2],
    "None": lambda x: x[None, :, None, 1],
    "ellipsis": lambda x: x[..., 1],
    "ellipsis in the middle": lambda x: x[1, ..., None, ::2],
    "nothing": lambda x: x[()],
    "all": lambda x: x[...],
    "NumPy number": lambda x: x[np.int64(2), :, np.int32(-1)],
    "select": lambda x: x.select(1, -1),
    "narrow": lambda x: x.narrow(2, 1, 3),
    "narrow from the end": lambda x: x.narrow(-1, -2, 2),
}


@pytest.mark.parametrize("label", SLICES)
def test_slices_are_torchs_and_right_to_second_order(label):
    for x in lying((3, 4, 5)):
        assert_like_torch(SLICES[label], SLICES[label], x)
    check_grad(lambda x: SLICES[label](x).sin(), x, order=2)


def test_steps_may_be_negative_which_torch_forbids():
    x = rng.standard_normal((3, 4, 5))
    np.testing.assert_array_equal(sg.tensor(x)[::-1, 1, 3:0:-2].numpy(), x[::-1, 1, 3:0:-2])
    check_grad(lambda x: x[::-1, 1, 3:0:-2].sin(), x, order=2)


ARRAYS = {  # of a tensor [3, 4, 5]
    "list": lambda m, x: x[[2, 0, 2, 2]],
    "empty list": lambda m, x: x[[]],
    "range": lambda m, x: x[:, range(1, 3)],
    "tensor": lambda m, x: x[m.tensor([[2, -1], [0, 0]])],
    "int32": lambda m, x: x[:, m.tensor([3, 3, 1], dtype=m.int32)],
    "along the last dim": lambda m, x: x[..., m.tensor([4, 4, 0])],
    "0-d tensor": lambda m, x: x[m.tensor(1), :, m.tensor(-1)],
    "pairs": lambda m, x: x[[0, 0, 2], [1, 1, -1]],
    "later pairs": lambda m, x: x[:, [0, 0, 2], [1, 1, -1]],
    "pairs apart": lambda m, x: x[[0, 0, 2], :, [1, 1, -1]],
    "triples": lambda m, x: x[[0, 0], [1, 1], [4, 4]],
    "broadcast": lambda m, x: x[:, [[0], [3]], [1, 1, 2]],
    "broadcast of length 1": lambda m, x: x[[1], [0, 0, 3]],
    "number before an array": lambda m, x: x[0, :, [1, 1]],
    "array before a number": lambda m, x: x[[1, 1], :, 0],
    "array and slice": lambda m, x: x[1:, [3, 3], ::2],
    "array and None": lambda m, x: x[[1, 1], None, :, [0, 0]],
    "None between": lambda m, x: x[:, [1, 1], None, [0, 0]],
    "array after ellipsis": lambda m, x: x[..., [1, 1], :],
    "mask": lambda m, x: x[m.tensor([True, False, True])],
    "mask of a later dim": lambda m, x: x[:, m.tensor([True, False, True, True])],
    "mask of two dims": lambda m, x: x[:, m.arange(20).reshape(4, 5) % 3 == 0],
    "mask of all": lambda m, x: x[m.arange(60).reshape(3, 4, 5) % 7 < 2],
    "mask of nothing": lambda m, x: x[m.zeros(3, 4) > 0],
    "mask list": lambda m, x: x[[False, True, True]],
    "mask and number": lambda m, x: x[:, m.tensor([True, False, True, True]), 2],
    "mask and array": lambda m, x: x[:, m.tensor([True, False, True, False]), [4, 4]],
    "mask and array apart": lambda m, x: x[m.tensor([True, False, True]), :, [1, 1]],
    "mask of two dims and array": lambda m, x: x[m.arange(12).reshape(3, 4) % 5 == 0, [1, 1, 2]],
    "True": lambda m, x: x[True],
    "False": lambda m, x: x[:, False],
    "0-d mask": lambda m, x: x[m.tensor(True)],
}


@pytest.mark.parametrize("label", ARRAYS)
def test_arrays_and_masks_are_torchs_and_right_to_second_order(label):
    function = ARRAYS[label]
    for x in lying((3, 4, 5)):
        assert_like_torch(*both(function), x)
    check_grad(lambda x: function(sg, x).sin(), x, order=2)


def test_a_nested_list_is_one_array():
    x = rng.standard_normal((3, 4, 5))  # torch 2.13 still takes it for a tuple, and warns that this will change
    np.testing.assert_array_equal(sg.tensor(x)[[[0, 1], [1, 0]]].numpy(), x[np.array([[0, 1], [1, 0]])])


def test_tensors_without_dimensions_or_elements():
    for function in (lambda x: x[...], lambda x: x[None], lambda x: x[()], lambda x: x[None, ..., None]):
        assert_like_torch(function, function, np.array(2.5))
        check_grad(lambda x, f=function: f(x).sin(), np.array(2.5), order=2)
    for function in (lambda x: x[:, 1:], lambda x: x[[1, 1]], lambda x: x[x > 0], lambda x: x[..., [2, 0]]):
        assert_like_torch(function, function, np.zeros((2, 0, 3)))
    assert_like_torch(lambda x: x[x > 0], lambda x: x[x > 0], np.array(2.5))


def test_an_index_changed_after_use_is_noticed():
    x, index = sg.ones(4).requires_grad_(), sg.tensor([0, 1])
    y = x[index].sum()
    index += 1
    with pytest.raises(RuntimeError, match=r"take_at: a value .* was changed in place"):
        y.backward()


MISTAKES = [  # indexing zeros of shape [2, 3, 4] with it
    ((0, 0, 0, 0), r"too many indices"),
    (([0], 0, 0, 0), r"getitem: 4 dimensions indexed in a tensor of shape \[2, 3, 4\]"),
    (5, r"index 5 is out of bounds for axis 0 with size 2"),
    ([5], r"index 5 is out of bounds"),
    (([0, 1], [0, 1, 2]), r"shape mismatch"),
    (sg.tensor([1.0]), r"getitem: an index must be of integers or bools, got float32\[1\]"),
    (sg.tensor([1, 0], dtype=sg.uint8), r"got uint8\[2\]; use .bool\(\) for a mask"),
    (sg.ones(3) > 0, r"getitem: a mask of shape \[3\] at dim 0 of a tensor of shape \[2, 3, 4\]"),
]


@pytest.mark.parametrize(("index", "message"), MISTAKES)
def test_indexing_mistakes_are_named(index, message):
    with pytest.raises(IndexError, match=message):
        sg.zeros(2, 3, 4)[index]


# --- along one dimension


ALONG = {  # of tensors [3, 4, 5] and [3, 2, 5]
    "index_select": lambda m, x, s: m.index_select(x, 1, m.tensor([3, 0, 3])),
    "index_select nothing": lambda m, x, s: x.index_select(-1, m.tensor([], dtype=m.int64)),
    "index_add": lambda m, x, s: m.index_add(x, 1, m.tensor([2, 2]), s),
    "index_add alpha": lambda m, x, s: x.index_add(-2, m.tensor([0, 3]), s, alpha=-2.5),
    "take": lambda m, x, s: m.take(x, m.tensor([[59, -1], [0, 7]])) * s.sum(),
    "masked_fill": lambda m, x, s: m.masked_fill(x, x > 0.2, -1.5) * s[:, :1],
    "masked_fill broadcast": lambda m, x, s: s[0, 0].masked_fill(m.arange(4)[:, None] > 1, 2),
    "masked_fill tensor": lambda m, x, s: x.masked_fill(x < 0, s[0, 0, 0]),
    "masked_select": lambda m, x, s: m.masked_select(x, m.arange(5) > 2),
    "masked_select broadcast": lambda m, x, s: s[0, 0].masked_select(m.arange(4)[:, None] > 1),
    "masked_scatter": lambda m, x, s: m.masked_scatter(x, m.arange(5) > 3, s),
    "embedding": lambda m, x, s: (m if m is sg else F).embedding(m.tensor([[2, 2, 0], [1, 2, 2]]), x[:, 0]),
    "embedding of padding": lambda m, x, s: (m if m is sg else F).embedding(m.tensor([2, 1, 0, 1]), x[0], 1),
    "embedding of the last": lambda m, x, s: (m if m is sg else F).embedding(m.tensor([3, 1]), x[0], padding_idx=-1),
    "embedding of nothing": lambda m, x, s: (m if m is sg else F).embedding(m.zeros(0, 2, dtype=m.int64), x[0]),
    "embedding of one": lambda m, x, s: (m if m is sg else F).embedding(m.tensor(3), x[0]),
}


@pytest.mark.parametrize("label", ALONG)
def test_look_ups_are_torchs_and_right_to_second_order(label):
    function = ALONG[label]
    for x, s in zip(lying((3, 4, 5)), lying((3, 2, 5), seed=1)):
        assert_like_torch(*both(function), x, s)
    if label not in ("embedding of padding", "embedding of the last"):  # there the derivative is not that of the value
        check_grad(lambda *xs: function(sg, *xs).sin(), x, s, order=2)


def test_the_padding_row_gets_no_gradient_of_any_order():
    weight = sg.tensor(rng.standard_normal((3, 2)), requires_grad=True)
    index = sg.tensor([0, 1, 1])
    (g,) = sg.grad((sg.embedding(index, weight, padding_idx=1) ** 3).sum(), weight, create_graph=True)
    (gg,) = sg.grad((g**2).sum(), weight)
    np.testing.assert_allclose(g.detach().numpy()[0], 3 * weight.detach().numpy()[0] ** 2)
    assert not g.detach().numpy()[1:].any()
    assert gg.numpy()[0].all()
    assert not gg.numpy()[1:].any()


def test_no_gradients_for_positions():
    for call in ("one_hot", "nonzero"):
        assert not getattr(sg, call)(sg.tensor([0, 2, 1])).requires_grad
    for n in (-1, 3, 5):
        x = np.array([[0, 2], [1, 0]])
        assert_like_torch(lambda x, n=n: sg.one_hot(x, n), lambda x, n=n: F.one_hot(x, n), x)
    assert_like_torch(lambda x: sg.one_hot(x, 4), lambda x: F.one_hot(x, 4), np.array(2))
    for x in (rng.integers(0, 2, (3, 4)), np.zeros((2, 3)), np.array(1.0), np.array(0.0), np.zeros((0, 3))):
        assert_like_torch(sg.nonzero, torch.nonzero, x)
        ours, theirs = sg.nonzero(sg.tensor(x), as_tuple=True), torch.from_numpy(x).nonzero(as_tuple=True)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


x, i = sg.zeros(2, 3, 4), sg.tensor([0, -1])
LOOK_UP_MISTAKES = [
    (lambda: x.select(1, 3), IndexError, r"index 3 is out of bounds for axis 1"),
    (lambda: x.narrow(1, 2, 3), IndexError, r"narrow: 3 from 2 on in dim 1 of a tensor of shape \[2, 3, 4\]"),
    (lambda: x.index_select(0, i), IndexError, r"index_select: position -1 is out of range for a dimension of"),
    (lambda: x.index_select(0, i + 5), IndexError, r"index_select: position 5 is out of range"),
    (lambda: x.index_select(0, x[0]), ValueError, r"index_select: index must be 1-D, got shape \[3, 4\]"),
    (lambda: x.index_add(0, i, x[:1]), ValueError, r"index_add: .* expected a 1-D index and source \[2, 3, 4\]"),
    (lambda: sg.take(x, i * 99), IndexError, r"take: position -99 is out of range for a dimension of length 24"),
    (lambda: sg.embedding(i, x[0]), IndexError, r"embedding: position -1 is out of range"),
    (lambda: sg.embedding(i + 3, x[0]), IndexError, r"embedding: position 3 is out of range"),
    (lambda: sg.embedding(x[0], x[0]), TypeError, r"embedding: positions must be integers, got float32\[3, 4\]"),
    (lambda: sg.embedding(i, x), ValueError, r"embedding: weight must be \[num, dim\], got shape \[2, 3, 4\]"),
    (lambda: sg.embedding(i, x[0], 3), ValueError, r"embedding: padding_idx 3 is out of range for 3 rows"),
    (lambda: sg.one_hot(i + 1, 1), IndexError, r"one_hot: position 1 is out of range"),
    (lambda: sg.one_hot(i), IndexError, r"one_hot: position -1 is out of range"),
    (lambda: sg.one_hot(i[:0]), ValueError, r"one_hot: num_classes cannot be inferred from an empty tensor"),
    (lambda: x.half().masked_fill(x > 0, -1e9), OverflowError, r"masked_fill: -1000000000.0 is beyond the range of"),
    (lambda: x.masked_fill(i, 0), TypeError, r"masked_fill: mask must be of bools, got int64\[2\]"),
    (lambda: x.masked_fill(x > 0, x), ValueError, r"masked_fill: value must be a number or a 0-d tensor"),
    (lambda: x.masked_scatter(x == 0, x[0]), ValueError, r"the mask is True 24 times, source has 12 elements"),
]


@pytest.mark.parametrize(("call", "error", "message"), LOOK_UP_MISTAKES)
def test_look_up_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- the kernel that adds rows


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_implementation_agrees_with_the_reference(dtype):
    results = list(kernels.compare("scatter_add", dtype=dtype))
    assert {"reference", "flat"} | ({"numba"} if dtype != "float16" else set()) == {r.impl for r in results}
    assert [r for r in results if not r.passed] == []


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_implementation_of_the_look_up_agrees_with_the_reference(dtype):
    results = list(kernels.compare("take_rows", dtype=dtype))
    assert {"reference"} | ({"numba"} if dtype != "float16" else set()) == {r.impl for r in results}
    assert [r for r in results if r.error > (1e-3 if dtype == "float16" else 1e-7)] == []


def test_the_reference_is_the_sum_of_its_rows():
    source, index = rng.standard_normal((50, 7)), rng.integers(0, 4, 50)
    got = kernels.implementations("scatter_add")["reference"].fn(source, index, rows=5)
    np.testing.assert_allclose(got, [source[index == row].sum(0) for row in range(5)], rtol=1e-12, atol=1e-12)


def test_half_precision_counts_beyond_2048():
    x = sg.zeros(2, dtype=sg.float16).requires_grad_()
    x[sg.zeros(5000, dtype=sg.int64)].sum().backward()
    assert x.grad.tolist() == [5000, 0]


def test_large_and_small_gradients_take_different_ways_to_one_result():
    weight = sg.tensor(rng.standard_normal((40, 64)), requires_grad=True)
    index = sg.tensor(rng.integers(0, 40, 50))  # small enough for each of them
    results = []
    for impl in ("reference", "flat", "numba"):
        with kernels.use(scatter_add=impl):
            results.append(sg.grad((sg.embedding(index, weight) ** 2).sum(), weight)[0].numpy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-12)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-12)
