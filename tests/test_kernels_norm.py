"""Norm kernels: exact statistics whatever the mean, the same numbers in every layout and with any number of threads."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from oracle import assert_like_torch, torch
from threads import assert_one_thread_gives_the_same_bits

import scratchgen as sg
from scratchgen import kernels
from scratchgen.kernels import channel_norm, column_sums
from scratchgen.kernels.column_sums import strip_sums

F, T = sg.nn.functional, torch.nn.functional


def draw(*shape, seed=8):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def last(x):
    """The same array with its channels last in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


# Ops over channels with what they take besides x, and over rows.
CHANNELS = {
    "group_norm": (lambda x, w, b: F.group_norm(x, 3, w, b)),
    "instance_norm": (lambda x, w, b: F.instance_norm(x, None, None, w, b)),
    "group_norm_silu": (lambda x, w, b: F.group_norm_silu(x, 3, w, b, shift=x.flatten(2)[:, :, 0])),
    "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True)),
    "batch_norm_relu": (lambda x, w, b: F.batch_norm_relu(x, None, None, w, b, True, negative_slope=0.2)),
    "batch_norm in evaluation": (lambda x, w, b: F.batch_norm(x, w * w + 1, w * w + 1, w, b)),
}
ROWS = {
    "layer_norm": (lambda x, w, b: F.layer_norm(x, w.shape, w, b)),
    "layer_norm_residual": (lambda x, w, b: F.layer_norm_residual(x, x * 0.5, w.shape, w, b)[0]),
    "rms_norm": (lambda x, w, b: F.rms_norm(x, w.shape, w) + b),
}


def run(f, x, w, b, g):
    """Value and gradients as arrays."""
    inputs = [sg.from_numpy(a).requires_grad_() for a in (x, w, b)]
    y = f(*inputs)
    return [a.numpy() for a in (y.detach(), *sg.grad(y, inputs, sg.from_numpy(g)))]


@pytest.mark.parametrize("name", [*CHANNELS, *ROWS])
def test_as_many_threads_as_there_are_give_the_same_bits(name):
    f, shape, size = (CHANNELS[name], (70, 6, 11, 9), 6) if name in CHANNELS else (ROWS[name], (700, 80), 80)
    threads, results = numba.get_num_threads(), []
    for x in (draw(*shape), last(draw(*shape))):
        try:
            for count in (1, threads):
                numba.set_num_threads(count)
                results.append(run(f, x, draw(size), draw(size, seed=9), draw(*shape, seed=10)))
        finally:
            numba.set_num_threads(threads)
        for one, all_threads in zip(*results[-2:], strict=True):
            np.testing.assert_array_equal(one, all_threads)


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("shape", [(5, 6, 11, 9), (70, 6, 11, 9), (3, 48, 40)])
def test_layouts_give_the_same_numbers_and_keep_themselves(name, shape):
    arguments = draw(shape[1]), draw(shape[1], seed=9)
    x, g = draw(*shape), draw(*shape, seed=10)
    results = []
    for a in (x, last(x), np.repeat(x, 2, axis=-1)[..., ::2]):
        for b in (g, last(g)):
            results.append(run(CHANNELS[name], a, *arguments, b))
    for result in results[1:]:
        for found, expected in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(found, expected)
    assert results[0][0].flags.c_contiguous
    assert results[0][1].flags.c_contiguous
    assert results[2][0].strides == results[2][1].strides == last(x).strides


@pytest.mark.parametrize("name", [*CHANNELS, *ROWS])
@pytest.mark.parametrize("first", [0.0, 3e4], ids=["", "after an outlier"])
def test_a_large_mean_costs_no_accuracy(name, first):
    """Of numbers around 4096; and where the number that sums are taken from is 30,000 away from all others."""
    f, shape, size = (CHANNELS[name], (8, 6, 11, 9), 6) if name in CHANNELS else (ROWS[name], (60, 200), 200)
    if name == "batch_norm in evaluation":
        return  # its statistics are given
    x = np.round(64 * draw(*shape)) / 64 + (4096 if name != "rms_norm" else 0)  # sums of two are exact in float32
    x[0, 0] += np.float32(first)
    w, b, g = draw(size), draw(size, seed=9), draw(*shape, seed=10)
    wide = run(f, *(a.astype(np.float64) for a in (x, w, b, g)))
    for layout in (x, last(x)):
        for found, exact in zip(run(f, layout, w, b, g), wide, strict=True):
            assert found.dtype == np.float32
            assert np.abs(found - exact).max() <= 2e-6 * np.abs(exact).max()


def test_gradients_own_their_memory():
    """Else the engine copies them when they become a leaf's ``.grad``."""
    for x in (draw(40, 6, 7, 9), last(draw(40, 6, 7, 9)), draw(40, 7, 9, 6).transpose(0, 3, 2, 1)):
        for f in CHANNELS.values():
            assert run(f, x, draw(6), draw(6), x)[1].base is None
    for f in (ROWS["layer_norm"], ROWS["rms_norm"]):
        assert run(f, draw(40, 80), draw(80), draw(80), draw(40, 80))[1].base is None


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_fused_ops_are_torchs_two(slope):
    x, w, b = draw(6, 8, 9, 7), draw(8), draw(8, seed=9)
    close = {"rtol": 1e-4, "atol": 1e-5}
    for a in (x, last(x)):
        assert_like_torch(
            lambda x, w, b: F.group_norm_silu(x, 4, w, b), lambda x, w, b: T.silu(T.group_norm(x, 4, w, b)),
            a, w, b, **close,
        )  # fmt: skip
        assert_like_torch(
            lambda x, w, b, s: F.group_norm_silu(x, 4, w, b, shift=s),
            lambda x, w, b, s: T.silu(T.group_norm(x + s[:, :, None, None], 4, w, b)),
            a, w, b, draw(6, 8, seed=11), **close,
        )  # fmt: skip
        assert_like_torch(
            lambda x, w, b: F.batch_norm_relu(x, None, None, w, b, True, negative_slope=slope),
            lambda x, w, b: T.leaky_relu(T.batch_norm(x, None, None, w, b, True), slope),
            a, w, b, **close,
        )  # fmt: skip
    for pick in (0, 1):  # which of the two outputs
        assert_like_torch(
            lambda x, r, w, b, i=pick: F.layer_norm_residual(x, r, 7, w, b)[i] * (1 if i == 0 else w + b),
            lambda x, r, w, b, i=pick: T.layer_norm(x + r, (7,), w, b) if i == 0 else (x + r) * (w + b),
            x, draw(6, 8, 9, 7, seed=10), draw(7), draw(7, seed=9), **close,
        )  # fmt: skip


def test_batch_norm_relu_moves_running_statistics_as_batch_norm_does():
    x, found = sg.from_numpy(draw(9, 4, 16, 16)), []
    for f in (F.batch_norm, F.batch_norm_relu):
        mean, var = sg.zeros(4), sg.ones(4)
        f(x, mean, var, training=True, momentum=0.3)
        found.append((mean.numpy(), var.numpy()))
    np.testing.assert_array_equal(*found)
    y = F.batch_norm_relu(x, sg.from_numpy(found[0][0]), sg.from_numpy(found[0][1]))
    np.testing.assert_array_equal(
        y.numpy(), np.maximum(F.batch_norm(x, *map(sg.from_numpy, found[0])).numpy(), 0)
    )


def test_layer_norm_residual_keeps_neither_input():
    x, r = (sg.from_numpy(draw(40, 80)).requires_grad_() for _ in range(2))
    y, total = F.layer_norm_residual(x * 1, r * 1, 80)
    np.testing.assert_array_equal(total.numpy(force=True), x.numpy(force=True) + r.numpy(force=True))
    node = y.node.node
    assert not any(isinstance(a, sg.Tensor) for a in node.inputs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.layer_norm_residual(x, x[0], 5), r"residual of shape \[4, 5\], expected \[3, 4, 5\]"),
        (lambda x: F.group_norm_silu(x, 3), "group_norm_silu: 4 channels .* do not divide into 3 groups"),
        (lambda x: F.group_norm_silu(x, 2, shift=x[0]), r"group_norm_silu: shift of shape \[4, 5\], expected \[3, 4\]"),
        (lambda x: F.batch_norm_relu(x, None, None), "batch_norm_relu: to normalise without .* pass running_mean"),
        (lambda x: F.batch_norm_relu(x[:1, :, 0], None, None, training=True), "batch_norm_relu: training needs more"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(sg.zeros(3, 4, 5))


# --- sums by columns


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("paired", [False, True])
def test_strip_sums_are_sums(lanes, paired):
    strip = strip_sums(2, paired, lanes)

    @numba.njit
    def call(g, x, centre, sums, seconds):
        strip(g.ctypes.data, x.ctypes.data, x.shape[1], x.shape[0], centre.ctypes.data, sums.ctypes.data,
              seconds.ctypes.data)  # fmt: skip

    for rows in (0, 1, 7):
        width = 2 * lanes
        x, g = draw(rows, width + 3), draw(rows, width + 3, seed=9)
        centre = draw(width, seed=10).astype(np.float32 if paired else np.float64)
        sums, seconds = np.ones(width), np.ones(width)
        call(g, x, centre, sums, seconds)
        d = (x[:, :width] - centre).astype(np.float64)
        factor = g[:, :width].astype(np.float64) if paired else d
        np.testing.assert_allclose(sums, 1 + factor.sum(0), rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(seconds, 1 + (factor * d).sum(0), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("channels", [1, 2, 3, 16, 24, 100, 513, 1000])
@pytest.mark.parametrize("positions", [1, 5, 1000])
def test_rows_are_whole_positions_and_whole_vectors_where_they_can(channels, positions):
    narrow, wide = channel_norm.widths(channels, positions)
    assert narrow % channels == 0
    assert wide % narrow == 0
    assert wide <= max(positions, 1) * channels
    if positions >= column_sums.LANES:
        assert narrow % column_sums.LANES == 0


def test_steps_of_the_ladder_are_for_study_only():
    found = kernels.implementations("layer_norm", "cpu")
    assert {name for name, k in found.items() if k.study} == {"naive", "row"}
    assert kernels.select("layer_norm", "cpu", (draw(40, 80), None, None), {}).impl == "numba"


@pytest.mark.parametrize("op", ["group_norm", "group_norm_silu"])
@pytest.mark.parametrize("lie", [last, np.ascontiguousarray])
@pytest.mark.parametrize("shape", [(5, 48, 9, 7), (3, 6, 40, 41)])
def test_a_gradient_gets_what_is_there_already_to_the_bit(op, lie, shape):
    x, g, packed = (lie(draw(*shape, seed=seed)) for seed in range(3))
    w, b = draw(2, shape[1])
    more = [] if op == "group_norm" else [draw(*shape[:2])]
    how = {"num_groups": 3, "eps": 1e-5}
    value, vjp = (kernels.implementations(op + part, "cpu")["numba"].fn for part in ("", "_vjp"))
    given = (g, None, x, w, b, *more, *value(x, w, b, *more, **how)[1:])
    plain = vjp(*given, **how)
    part, turned = lie(draw(shape[0], 2 * shape[1] + 5, *shape[2:]))[:, 3 : 3 + shape[1]], packed[:, :, ::-1]
    for there in ([packed], [part], [turned], [part, packed], [packed, turned]):
        found = vjp(*given, **how, onto=tuple(there))
        np.testing.assert_array_equal(found[0], plain[0] + (there[0] if len(there) == 1 else there[0] + there[1]))
        for one, other in zip(found[1:], plain[1:], strict=True):
            np.testing.assert_array_equal(one, other)
        assert_one_thread_gives_the_same_bits(lambda there=there: vjp(*given, **how, onto=tuple(there))[:1])
