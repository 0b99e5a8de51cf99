"""Kernels of recurrent layers: the same bits for any threads, strides and padding; steps are the sequence."""

from __future__ import annotations

import numba
import numpy as np
import pytest

import scratchgen as sg
from scratchgen import kernels
from scratchgen.nn import functional as F

OPS = {"rnn": (F.rnn, 1, 1), "gru": (F.gru, 3, 1), "lstm": (F.lstm, 4, 2)}  # function, gates, states
STEPS, ROWS, SIZE = 9, 41, 72


def draw(name, steps=STEPS, rows=ROWS, size=SIZE, dtype="float32"):
    """x, states ..., weight, bias."""
    _, gates, states = OPS[name]
    rng = np.random.default_rng(5)
    shapes = [(steps, rows, gates * size), *[(rows, size)] * states, (gates * size, size), (gates * size,)]
    scales = [1.0] * (1 + states) + [size**-0.5, 0.3]
    return [(scale * rng.standard_normal(shape)).astype(dtype) for scale, shape in zip(scales, shapes)]


def run(name, arrays, present=None, **options):
    """States, the last cell state, and gradients, as arrays."""
    inputs = [sg.from_numpy(a).requires_grad_() for a in arrays]
    mask = None if present is None else sg.from_numpy(present)
    y = OPS[name][0](*inputs, mask, **options)
    ys = list(y) if isinstance(y, tuple) else [y]
    rng = np.random.default_rng(6)
    gs = [sg.from_numpy(rng.standard_normal(a.shape).astype(a.dtype)) for a in ys]
    return [a.numpy(force=True) for a in (*ys, *sg.grad(ys, inputs, gs))]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_close(found, expected, tolerance=2e-5):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1.0, abs(b).max()))


def lengths(steps=STEPS, rows=ROWS):
    return np.arange(steps)[:, None] < np.random.default_rng(7).integers(1, steps + 1, rows)


@pytest.mark.parametrize("name", OPS)
def test_threads_give_the_same_bits(name):
    threads, found = numba.get_num_threads(), []
    try:
        for count in (1, threads):
            numba.set_num_threads(count)
            found.append(run(name, draw(name), lengths(), reverse=True))
    finally:
        numba.set_num_threads(threads)
    assert_same(*found)


@pytest.mark.parametrize("name", OPS)
def test_strides_give_the_same_bits(name):
    x, *rest = draw(name)
    expected = run(name, [x, *rest])
    lying = [
        np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2),
        np.asfortranarray(x),
        np.repeat(x, 2, 0)[::2],
        x[::-1].copy()[::-1],
    ]
    others = [np.asfortranarray(a) for a in rest]
    for a in lying:
        assert_same(run(name, [a, *others]), expected)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("reverse", [False, True])
def test_absent_steps_count_for_nothing_whatever_is_in_them(name, reverse):
    x, *rest = draw(name)
    present = lengths()
    expected = run(name, [x, *rest], present, reverse=reverse)
    filled = np.where(present[:, :, None], x, np.float32(np.nan))
    assert_same(run(name, [filled, *rest], present, reverse=reverse), expected)
    dx = expected[2 if name == "lstm" else 1]
    assert not dx[~present].any()
    alone = run(name, [x[:4, :1], *[a[:1] for a in rest[:-2]], *rest[-2:]], reverse=reverse)
    short = run(
        name, [x[:, :1], *[a[:1] for a in rest[:-2]], *rest[-2:]], (np.arange(STEPS) < 4)[:, None], reverse=reverse
    )
    np.testing.assert_array_equal(short[0][:4], alone[0])


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("reverse", [False, True])
def test_one_step_after_another_is_the_sequence(name, reverse):
    """A single step goes another way: its product is matmul's."""
    x, *states, weight, bias = draw(name)
    whole = OPS[name][0](*map(sg.from_numpy, (x, *states, weight, bias)), reverse=reverse)
    whole = (whole[0] if name == "lstm" else whole).numpy()
    now = [sg.from_numpy(s) for s in states]
    for t in reversed(range(STEPS)) if reverse else range(STEPS):
        y = OPS[name][0](sg.from_numpy(x[t : t + 1]), *now, *map(sg.from_numpy, (weight, bias)))
        now = [y[0][0], y[1]] if name == "lstm" else [y[0]]
        np.testing.assert_allclose(now[0].numpy(), whole[t], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("steps", [1, STEPS])
def test_gradients_are_those_of_the_composite_and_of_the_reference(name, steps):
    arrays = draw(name, steps)
    impls = dict.fromkeys((name, f"{name}_vjp"), "reference")
    with kernels.use(**impls):
        expected = run(name, [a.astype(np.float64) for a in arrays])
    found = run(name, arrays)
    assert_close(found, expected)
    inputs = [sg.from_numpy(a.astype(np.float64)).requires_grad_() for a in arrays]
    y = OPS[name][0](*inputs)
    ys = list(y) if isinstance(y, tuple) else [y]
    rng = np.random.default_rng(6)
    gs = [sg.from_numpy(rng.standard_normal(a.shape).astype(np.float32).astype(np.float64)) for a in ys]
    by_composite = [g.numpy(force=True) for g in sg.grad(ys, inputs, gs, create_graph=True)]
    assert_close(found[len(ys) :], by_composite, 2e-4)


@pytest.mark.parametrize("name", OPS)
def test_float16_is_computed_in_float32(name):
    arrays = [a.astype(np.float16) for a in draw(name, 4, 5, 6)]
    found = run(name, arrays)
    assert {a.dtype for a in found} == {np.dtype(np.float16)}
    for a, b in zip(found, run(name, [a.astype(np.float64) for a in arrays]), strict=True):
        np.testing.assert_allclose(a, b, atol=4e-3 * max(1.0, abs(b).max()))


def test_the_numba_kernels_are_chosen_for_batches_and_not_for_crumbs():
    for name in OPS:
        for arrays, expected in ((draw(name), "numba"), (draw(name, 2, 2, 4), "reference")):
            attrs = {"reverse": False, **({"activation": "tanh"} if name == "rnn" else {})}
            assert kernels.select(name, "cpu", (*arrays, None), attrs).impl == expected
