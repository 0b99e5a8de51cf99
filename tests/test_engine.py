"""The engine: order, accumulation, pruning, freeing, guards, hooks."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import declare
from scratchgen.declare import primitive
from scratchgen.kernels import registry
from scratchgen.testing import check_grad


def leaf(*shape: int, seed: int = 0) -> sg.Tensor:
    return sg.tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def test_a_diamond_runs_each_node_once_with_the_summed_gradient():
    calls = []

    def rule(g, y, x):
        calls.append(g.array.copy())
        return g * x * 2.0

    square = primitive("test_square", np.square, (rule,), save="x")
    x = leaf(3)
    y = square(x)
    z = y * 2.0 + y * 3.0 + y
    (dx,) = sg.grad(z, x, sg.tensor(np.ones(3)))
    assert len(calls) == 1
    np.testing.assert_array_equal(calls[0], np.full(3, 6.0))
    np.testing.assert_allclose(dx.array, 12 * x.detach().numpy(), rtol=1e-15)


def test_third_derivative_of_a_polynomial_is_exact():
    x = sg.tensor(2.0, dtype="float64", requires_grad=True)
    y = x * x * x * x
    for expected in (32.0, 48.0, 48.0, 24.0):
        (y,) = sg.grad(y, x, create_graph=True)
        assert y.item() == expected


def test_gradients_flow_to_intermediates_as_total_derivatives():
    x = leaf(3)
    h = x * 2.0
    y = (h * h).sum()
    dh, dx = sg.grad(y, [h, x])
    np.testing.assert_allclose(dh.array, 4 * x.array)
    np.testing.assert_allclose(dx.array, 8 * x.array)


def test_only_the_path_to_the_inputs_runs():
    ran = []
    spy = primitive("test_spy", lambda x: x + 0, (lambda g, y, x: ran.append(1) or g,))
    w, x = leaf(3), leaf(3, seed=1)
    y = (spy(w) * x).sum()
    sg.grad(y, x)
    assert not ran


def test_backward_accumulates_into_leaves_that_own_their_memory():
    a, b = leaf(3), leaf(3, seed=1)
    (a + b).sum().backward()
    assert not np.shares_memory(a.grad.array, b.grad.array)
    assert a.grad.array.flags.writeable
    assert a.grad.array.base is None
    (a * 2.0).sum().backward()
    np.testing.assert_array_equal(a.grad.array, np.full(3, 3.0))


def test_a_gradient_given_by_the_caller_is_never_written_to():
    x = leaf(3)
    g = sg.tensor(np.ones(3))
    (x + x + x).backward(g)
    np.testing.assert_array_equal(g.array, np.ones(3))
    np.testing.assert_array_equal(x.grad.array, np.full(3, 3.0))


def test_a_vjp_kernel_adds_to_its_gradient_what_its_input_has_already(monkeypatch):
    monkeypatch.setattr(declare, "OPS", dict(declare.OPS))
    monkeypatch.setattr(registry, "_table", dict(registry._table))
    seen = []

    @declare.fused()
    def test_doubled(x):
        return x * 2.0

    @registry.kernel("test_doubled")
    def doubled(x):
        return x * 2.0

    @registry.kernel("test_doubled_vjp")
    def doubled_vjp(g, y, x, onto=()):
        seen.append([a.copy() for a in onto])
        return sum(onto, 2.0 * g)

    x, other = leaf(3), leaf(3, seed=1)
    h = x * 1.0
    first = test_doubled(h)  # whose turn is after those that use h later
    summed = h + other  # gives a gradient that others have too
    joined = sg.cat([h * other, h, other])  # gives a part of another
    loss = (first * 5.0).sum() + (summed * 3.0).sum() + (joined * 7.0).sum()
    (dx,) = sg.grad(loss, x, retain_graph=True)
    expected = 10.0 + 3.0 + 7.0 + 7.0 * other.detach().numpy()
    np.testing.assert_allclose(dx.array, expected, rtol=1e-15)
    assert 1 <= len(seen[0]) <= 2
    np.testing.assert_allclose(sum(seen[0]), expected - 10.0, rtol=1e-15)
    (dx,) = sg.grad(loss, x, create_graph=True)
    np.testing.assert_allclose(dx.detach().numpy(), expected, rtol=1e-15)
    assert len(seen) == 1  # gradients with a history are added by an op


def test_two_gradients_that_wait_are_added_before_a_third_and_for_a_leaf():
    x, other = leaf(3), leaf(3, seed=1)
    for count in (1, 2, 3, 4):
        x.grad = None
        parts = [sg.cat([x, other]) * float(i + 1) for i in range(count)]
        sg.backward([part.sum() for part in parts])
        np.testing.assert_array_equal(x.grad.array, np.full(3, sum(range(1, count + 1))))


def test_broadcast_gradients_are_summed_to_every_shape():
    shapes = [(), (1,), (3,), (2, 1), (1, 3), (2, 3), (4, 1, 3), (4, 2, 1)]
    for a in shapes:
        for b in shapes:
            check_grad(lambda x, y: x * y, np.full(a, 1.5), np.full(b, -0.7), order=2)


def test_second_backward_through_a_freed_graph_says_what_to_do():
    x = leaf(3)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad.array, 4 * x.array)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: sg.grad(x * 2.0, x), "shape \\[3\\]"),
        (lambda x: sg.grad(sg.tensor(1.0), x), "does not require grad"),
        (lambda x: sg.grad(x.sum(), leaf(3)), "do not depend on input 0"),
        (lambda x: sg.grad(x * 2.0, x, sg.tensor(np.ones(4))), "gradient of shape \\[4\\]"),
        (lambda x: sg.grad([x.sum()], x, [None, None]), "1 outputs but 2 grad_outputs"),
    ],
)
def test_wrong_calls_of_grad_are_explained(call, message):
    with pytest.raises((RuntimeError, ValueError), match=message):
        call(leaf(3))


def test_unused_inputs_give_none_if_allowed():
    x, other = leaf(3), leaf(3)
    assert sg.grad(x.sum(), [x, other], allow_unused=True)[1] is None


def test_no_grad_leaves_no_graph_and_nests():
    x = leaf(3)
    with sg.no_grad():
        assert not (x * 2.0).requires_grad
        with sg.enable_grad():
            assert (x * 2.0).requires_grad
        assert not sg.is_grad_enabled()
    assert sg.no_grad()(lambda: x * 2.0)().grad_fn is None


def test_a_wrong_vjp_shape_names_the_op_and_both_shapes():
    bad = primitive("test_bad", lambda x: x.copy(), (lambda g, y, x: g.sum(),))
    with pytest.raises(RuntimeError, match=r"test_bad.*shape \[\].*\[3\]"):
        bad(leaf(3)).backward(sg.tensor(np.ones(3)))


def test_an_error_in_forward_names_op_and_shapes():
    with pytest.raises(ValueError, match="broadcast") as caught:
        leaf(3) + leaf(4)
    assert "in add(float64[3], float64[4])" in caught.value.__notes__


def test_gradients_come_in_the_dtype_of_their_inputs():
    x = sg.tensor(np.ones(3, np.float32), requires_grad=True)
    w = sg.tensor(np.ones(3, np.float64), requires_grad=True)
    y = (x * w).sum()
    assert y.dtype == np.float64
    dx, dw = sg.grad(y, [x, w])
    assert (dx.dtype, dw.dtype) == (np.float32, np.float64)


# ------------------------------------------------------------------------------------------------------------ hooks


def test_hooks_see_and_replace_gradients_of_leaves_and_intermediates():
    x = leaf(3)
    h = x * 2.0
    seen = []
    remove = h.register_hook(lambda g: seen.append(g.array.copy()) or g * 10.0)
    x.register_hook(lambda g: g + 1.0)
    (dx,) = sg.grad((h * 1.0).sum(), x)
    np.testing.assert_array_equal(seen[0], np.ones(3))
    np.testing.assert_array_equal(dx.array, np.full(3, 21.0))
    remove()
    (dx,) = sg.grad((x * 2.0).sum(), x)
    np.testing.assert_array_equal(dx.array, np.full(3, 3.0))


def test_the_timer_counts_every_op():
    x = leaf(64, 64)
    with sg.Timer() as timer:
        for _ in range(5):
            (x * x).sum().backward()
    assert timer.calls["mul"] >= 5
    assert timer.calls["mul backward"] == 5
    assert "mul backward" in str(timer)


# ------------------------------------------------------------------------------------------------------- debug mode


def test_debug_names_the_op_that_made_the_first_nan():
    x = sg.tensor(np.array([1.0, 0.0]), requires_grad=True)
    with sg.debug(), np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"^div\(.*from finite inputs"):
        (1.0 / x).sum()


def test_debug_shows_where_a_failing_op_was_made():
    bad = primitive("test_broken", lambda x: x.copy(), (lambda g, y, x: 1 / 0,))
    x = leaf(2)
    with sg.debug():
        y = bad(x).sum()
        with pytest.raises(ZeroDivisionError) as caught:
            y.backward()
    assert any("test_broken" in note and "test_engine.py" in note for note in caught.value.__notes__)
    with pytest.raises(ZeroDivisionError) as caught:
        bad(x).sum().backward()
    assert any("sg.debug()" in note for note in caught.value.__notes__)


def test_debug_locks_saved_arrays_until_their_node_ran():
    x = leaf(3)
    alias = x.detach().numpy()
    with sg.debug():
        y = (x * x).sum()
        with pytest.raises(ValueError, match="read-only"):
            alias[0] = 7.0
        y.backward()
        alias[0] = 7.0
        z = (x * x).sum()
        assert z is not None
    alias[0] = 8.0


# ----------------------------------------------------------------------------------------------------------- memory


@pytest.fixture
def no_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_graphs_are_freed_by_reference_counting_alone(no_gc):
    x = leaf(4, 4)

    def dropped():
        h = x * 2.0
        y = sg.checkpoint(lambda a: a * a, h).sum()
        return weakref.ref(h), weakref.ref(y), weakref.ref(y.grad_fn)

    assert all(ref() is None for ref in dropped())

    def differentiated():
        h = x * 2.0
        y = (h * h / 3.0).sum()
        (g,) = sg.grad(y, x, create_graph=True)
        (gg,) = sg.grad((g * g).sum(), x)
        return weakref.ref(h), weakref.ref(y), weakref.ref(g), weakref.ref(gg)

    assert all(ref() is None for ref in differentiated())


def test_unsaved_activations_die_during_forward(no_gc):
    x = leaf(4)
    h = x + 1.0
    array = weakref.ref(h.array)
    y = h + 1.0
    del h
    assert array() is None
    assert y.requires_grad


def test_a_chain_of_100_000_ops_neither_recurses_nor_leaks():
    x = leaf(1)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.sum().backward()
    assert x.grad.item() == 1.0
    z = x
    for _ in range(100_000):
        z = z + 1.0
    del z


# ------------------------------------------------------------------------------------------- changes behind the graph


def test_a_saved_value_changed_in_place_raises_and_names_the_op():
    x = leaf(3)
    h = x * 1.0
    y = (h * h).sum()
    with sg.no_grad():
        h.detach().mul_(2.0)
    with pytest.raises(RuntimeError, match=r"mul: a value of shape \[3\].*changed in place"):
        y.backward()


def test_changes_of_what_was_not_saved_or_before_it_was_saved_are_fine():
    x = leaf(3)
    other = sg.tensor(np.ones(3))
    other.mul_(2.0)
    y = (x + other).sum() + (x * other).sum()
    sg.tensor(np.ones(5)).zero_()
    y.backward()
    np.testing.assert_array_equal(x.grad.array, np.full(3, 3.0))


def test_views_share_the_protection_of_their_memory():
    x = leaf(4)
    w = sg.tensor(np.ones((2, 4)))
    y = (x * w[1]).sum()
    w[0].zero_()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_recomputing_a_composite_does_not_walk_the_graph_above_it():
    """With create_graph, each composite's backward must look at its own ops only, or depth costs its square."""
    from scratchgen import autograd

    looked_at = []
    plain = autograd._reaching

    def counting(roots, wanted, cut):
        found = plain(roots, wanted, cut)
        looked_at.append((cut, len(found)))
        return found

    x = leaf(2)
    h = x
    for _ in range(50):
        h = sg.checkpoint(lambda a: a * a, h)
    autograd._reaching = counting
    try:
        sg.grad(h.sum(), x, create_graph=True)
    finally:
        autograd._reaching = plain
    assert max(size for cut, size in looked_at if cut) <= 2
