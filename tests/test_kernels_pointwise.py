"""Kernels that go over memory once: against their references, in every order in memory, on one thread and on two."""

from __future__ import annotations

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import kernels
from scratchgen.kernels.compare import _cases as declared
from scratchgen.kernels.layout import middle, rows

OPS = [
    "softmax", "softmax_vjp", "log_softmax", "log_softmax_vjp", "cross_entropy", "cross_entropy_vjp", "add", "cat",
    "sum", "dropout", "scatter_add", "take_rows",
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", OPS)
def test_every_implementation_agrees_with_the_reference(op, dtype):
    done = list(kernels.compare(op, dtype=dtype))
    assert [c for c in done if not c.passed] == []
    assert "numba" in {c.impl for c in done} or dtype == "float64"


def test_every_step_of_the_ladder_of_softmax_is_compared():
    steps = {"1-loops", "2-kept", "3-polynomial", "4-ordered", "online"}
    assert steps == {name for name, k in kernels.implementations("softmax", "cpu").items() if k.study}
    assert steps <= {c.impl for c in kernels.compare("softmax")}


@pytest.mark.parametrize("op", OPS)
def test_bits_do_not_depend_on_the_number_of_threads(op):
    kernel = kernels.implementations(op, "cpu")["numba"]
    import numba  # after the kernels have chosen its threads

    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("there is one thread only")
    results = []
    before = numba.get_num_threads()
    try:
        for count in (1, 2, 2):
            numba.set_num_threads(count)
            results.append(outputs(kernel))
    finally:
        numba.set_num_threads(before)
    assert results[0]
    for one, two, again in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(two, again)


def outputs(kernel):
    """What the kernel makes of the cases of its op that it takes."""
    found = []
    for case in declared[kernel.op](np.random.default_rng(0)):
        arrays = [a.astype(np.float32) if a is not None and a.dtype == np.float64 else a for a in case.arrays]
        if kernel.when is None or kernel.when(*arrays, **case.attrs):
            made = kernel.fn(*arrays, **case.attrs)
            found += [a for a in (made if isinstance(made, tuple) else (made,)) if a is not None]
    return found


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
@pytest.mark.parametrize("op", [sg.softmax, sg.log_softmax])
def test_softmax_keeps_the_order_in_memory_and_gives_arrays_of_their_own(op, dim):
    x = np.random.default_rng(0).standard_normal((4, 20, 18, 16)).astype(np.float32).transpose(0, 3, 1, 2)
    t = sg.tensor(x).requires_grad_()
    y = op(t, dim)
    (dx,) = sg.grad(y, [t], [y.detach()])
    for made in (y.array, dx.array):
        assert made.strides == t.array.strides
        assert made.base is None


def test_rows_in_the_middle_of_memory():
    image = np.empty((4, 5, 6, 32)).transpose(0, 3, 1, 2)  # channels last
    assert middle(image, (4, 32, 1, 1)) == ((0, 2, 3, 1), (4, 30, 32), (4, 1, 32))
    assert middle(image, (32, 1, 1)) == ((0, 2, 3, 1), (1, 120, 32), (1, 1, 32))
    assert middle(np.empty((7, 3, 20)), (3, 20)) == ((0, 1, 2), (1, 7, 60), (1, 1, 60))
    assert middle(image, (4, 1, 5, 6)) is None  # one number a pixel
    assert middle(image, (4, 32, 5, 6)) is None  # nothing to spread
    assert middle(image, (4, 32, 1, 6)) == ((0, 2, 3, 1), (4, 5, 192), (4, 1, 192))
    assert middle(image, (1, 32, 5, 1)) is None  # apart
    assert middle(np.empty((3, 32)), (2, 3, 32)) is None  # larger
    assert middle(np.empty((50, 8)), (8,)) is None  # short


def test_some_channels_of_images_are_a_matrix_and_are_not_copied():
    image = np.arange(4 * 5 * 6 * 48, dtype=np.float32).reshape(4, 5, 6, 48).transpose(0, 3, 1, 2)
    part, other = image[:, 16:], np.empty((4, 5, 6, 32)).transpose(0, 3, 1, 2)
    found = rows(part, other)
    assert [m.shape for m in found] == [(120, 32)] * 2
    assert np.shares_memory(found[0], image)
    np.testing.assert_array_equal(found[0], part.transpose(0, 2, 3, 1).reshape(120, 32))
    assert rows(part, np.empty(part.shape)) is None  # in another order
    assert rows(part[:, :8], other[:, :8]) is None  # short
    assert rows(part[:, :, ::2], other[:, :, ::2]) is None  # not evenly apart


def test_gradients_are_added_to_from_some_of_the_channels():
    image = np.random.default_rng(0).standard_normal((4, 25, 25, 64), np.float32).transpose(0, 3, 1, 2)
    total = np.array(image[:, :40])  # channels last too
    kernels.implementations("accumulate", "cpu")["numba"].fn(total, image[:, 24:])
    np.testing.assert_array_equal(total, image[:, :40] + image[:, 24:])
    part = image[:, :40]  # not packed, and added to where it lies
    expected = part + total
    assert kernels.implementations("accumulate", "cpu")["numba"].fn(part, total) is part
    np.testing.assert_array_equal(image[:, :40], expected)


def test_large_gradients_add_up_to_the_bits_of_small_ones():
    """Gradients that meet are added in place; from some size on by a kernel."""
    x = sg.tensor(np.random.default_rng(0).standard_normal((300, 300)), dtype="float32", requires_grad=True)
    h = x * 1.0
    (g,) = sg.grad((h * 0.3).sum() + (h * 0.7).sum() + (h * 1.1).sum(), x)
    once = np.float32(1.1) + np.float32(0.7) + np.float32(0.3)
    np.testing.assert_allclose(g.numpy(), np.full((300, 300), once), rtol=2e-7)
    for impl in ("reference", "numba"):
        total, other = np.float32(np.ones((300, 300))), x.detach().numpy()
        kernels.implementations("accumulate", "cpu")[impl].fn(total, other)
        np.testing.assert_array_equal(total, 1 + other)


def test_dropout_draws_what_uniform_draws_and_is_its_own_derivative():
    for shape in ((33, 77), (2, 5, 4, 3)):
        x = sg.tensor(np.random.default_rng(0).standard_normal(shape), dtype="float32", requires_grad=True)
        kept = sg.Generator(3).uniform(shape) >= np.float32(0.3)
        y = sg.dropout(x, 0.3, generator=sg.Generator(3))
        np.testing.assert_array_equal(y.detach().numpy(), x.detach().numpy() * (kept * np.float32(1 / 0.7)))
        g = sg.ones(*shape).requires_grad_()
        (dx,) = sg.grad(y, [x], [g], create_graph=True)
        np.testing.assert_array_equal(dx.detach().numpy(), kept * np.float32(1 / 0.7))
        (dg,) = sg.grad(dx.sum(), [g])
        np.testing.assert_array_equal(dg.numpy(), dx.detach().numpy())


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1)])
@pytest.mark.parametrize("cut", range(4))
def test_joining_takes_parts_of_other_arrays(order, cut):
    """Also where their rows are as many and as long as rows that lie side by side would be."""
    rng, back = np.random.default_rng(5), np.argsort(order)
    join = kernels.implementations("cat", "cpu")["numba"].fn
    for shape in ((1, 40, 90, 22), (4, 24, 21, 40)):
        sizes = [n + 17 * (i == cut) for i, n in enumerate(shape)]
        place = (slice(None),) * cut + (slice(5, 5 + shape[cut]),)
        arrays = [rng.standard_normal([sizes[i] for i in order]).astype(np.float32).transpose(back) for _ in range(2)]
        parts = [a[place] for a in arrays]
        for dim in range(4):
            np.testing.assert_array_equal(join(*parts, dim=dim), np.concatenate(parts, dim))
