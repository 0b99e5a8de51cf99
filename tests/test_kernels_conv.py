"""Direct convolution and the steps before it: as exact as stated, whatever the shape, layout and number of threads."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threads import assert_one_thread_gives_the_same_bits

import scratchgen as sg
from scratchgen.kernels.conv2d import direct, direct_loops, few, pixels, reference
from scratchgen.testing import check_grad

BOUND = 2e-6  # largest error relative to the largest value


def channels_last(x):
    return x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)


def relative(got, truth, scale=None):
    return np.abs(got - truth).max() / max(np.abs(truth if scale is None else scale).max(), 1e-30)


@st.composite
def layers(draw):
    """Any geometry: also strides beyond the kernel, padding beyond it, dilation, groups, one channel and one output."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    ins, outs = draw(st.sampled_from([1, 2, 3, 5, 16, 17])), draw(st.sampled_from([1, 2, 3, 4, 7, 16, 33]))
    taps = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride, dilation = draw(st.tuples(st.integers(1, 4), st.integers(1, 3))), draw(st.tuples(*[st.integers(1, 3)] * 2))
    padding = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    reach = [d * (t - 1) + 1 for d, t in zip(dilation, taps)]
    lengths = [draw(st.integers(max(1, r - 2 * p), r + 19)) for r, p in zip(reach, padding)]
    size = tuple((m + 2 * p - r) // s + 1 for m, p, r, s in zip(lengths, padding, reach, stride))
    n = draw(st.integers(1, 3))
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return (n, groups * ins, *lengths), (groups * outs, ins, *taps), (n, groups * outs, *size), how


@settings(max_examples=40)
@given(layers(), st.integers(0, 2**32 - 1))
def test_all_ops_agree_with_the_reference(layer, seed):
    x_shape, w_shape, y_shape, how = layer
    rng = np.random.default_rng(seed)
    x, w, y = (rng.standard_normal(shape) for shape in (x_shape, w_shape, y_shape))
    b, a = rng.standard_normal(len(w)), rng.standard_normal(x_shape[1])
    calls = [
        ("conv2d", (x, w, b), y_shape[2:]),
        ("conv2d_input", (y, w, a), x_shape[2:]),
        ("conv2d_weight_bias", (x, y), w_shape[2:]),
    ]
    for op, arrays, size in calls:
        truths = getattr(reference, op)(*arrays, size=size, **how)
        scales = getattr(reference, op)(*map(np.abs, arrays), size=size, **how)  # what terms may cancel from
        narrow = [v.astype(np.float32) for v in arrays]
        results = []
        for inputs in (narrow, [channels_last(v) if v.ndim == 4 else v for v in narrow]):
            got = getattr(direct, op)(*inputs, size=size, **how)
            got, truth, scale = (v if isinstance(v, tuple) else (v,) for v in (got, truths, scales))
            assert max(map(relative, got, truth, scale)) <= 5e-7
            results.append(got)
        for one, other in zip(*results):
            np.testing.assert_array_equal(one, other)  # strides of the input do not change a digit


def problem(seed=0):
    rng = np.random.default_rng(seed)
    x, w, y = (rng.standard_normal(s).astype(np.float32) for s in ((6, 24, 20, 20), (40, 24, 3, 3), (6, 40, 10, 10)))
    return x, w, y, {"stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "groups": 1}


def results():
    x, w, y, how = problem()
    return (
        direct.conv2d(x, w, None, size=(10, 10), **how),
        direct.conv2d_input(y, w, None, size=(20, 20), **how),
        *direct.conv2d_weight_bias(x, y, size=(3, 3), **how),
    )


def test_results_do_not_depend_on_the_number_of_threads():
    assert_one_thread_gives_the_same_bits(results)


@pytest.mark.parametrize("channels", [1, 3, 64, 700])
def test_long_sums_are_added_up_in_parts(channels):
    """Within 1e-6 of the largest value; one running sum of 6300 products is at 4e-6."""
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, channels, 12, 12)), rng.standard_normal((16, channels, 3, 3))
    how = {"size": (12, 12), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    narrow = [v.astype(np.float32) for v in (x, w)]
    truth = reference.conv2d(*[v.astype(np.float64) for v in narrow], None, **how)
    assert relative(direct.conv2d(*narrow, None, **how), truth) < 1e-6


def test_huge_and_infinite_values_stay_where_they_are():
    """A window that does not hold the infinity does not see it: nothing is multiplied by zeros of a neighbour."""
    x, w, _, how = problem()
    x[0, 5, 7, 7], x[1] = np.inf, x[1] * np.float32(1e30)
    y = direct.conv2d(x, w, None, size=(10, 10), **how)
    bad = ~np.isfinite(y)
    assert bad[0, :, 3:5, 3:5].all()
    assert bad.sum() == 40 * 4
    few = direct.conv2d(x, w[:1], None, size=(10, 10), **how)  # by the tile for few outputs
    assert (~np.isfinite(few)).sum() == 4


def test_outputs_are_channels_last_and_own_their_memory():
    y, x, *_ = results()
    for image in (y, x):
        assert image.base is None
        assert image.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("count", [1, 2, 3, 7, 13, 14, 15, 16, 28, 31, 32, 100, 1000])
def test_rows_are_cut_into_tiles(count):
    exact, loose = direct.split(count), direct.split(count, exact=False)
    assert sum(exact) == count
    assert count <= sum(loose) < count + max(direct.ROWS)
    assert set(exact + loose) <= set(direct.ROWS)


def test_the_gradient_in_the_input_is_split_by_phase():
    """With stride 2 each tap belongs to one phase: no multiplications by zeros in between."""
    phases = direct.transposed(9, 3, 2, 1, 1)
    assert [(p.first, p.outputs) for p in phases] == [(0, 5), (1, 4)]
    assert sorted(t for p in phases for _, t in p.taps) == [0, 1, 2]


def test_full_tile_keeps_its_sums_in_registers():
    """LLVM's scheduler may move all loads to the front, and all sums to the stack: at half the speed."""
    tile = direct_loops.reduce_tile(direct_loops.WIDTH.rows, direct_loops.WIDTH.vectors, direct_loops.LANES)

    @numba.njit(error_model="numpy")
    def call(a, row, table, b, step, start, start_row, c, c_row, width, depth):
        tile(a, row, table, b, step, start, start_row, c, c_row, width, depth)

    call.compile((numba.int64,) * 11)
    lines = call.inspect_asm(call.signatures[0]).splitlines()
    if direct_loops.LANES == 16:
        products = [i for i, line in enumerate(lines) if "vfmadd" in line]
        assert len(products) == direct_loops.WIDTH.rows * direct_loops.WIDTH.vectors
        assert not [line for line in lines[products[0] : products[-1]] if "zmm" in line and "(%rsp)" in line]


def test_pixels_of_some_of_the_channels_are_read_where_they_lie(monkeypatch):
    rng = np.random.default_rng(3)
    wide = [channels_last(rng.standard_normal((9, c, 13, 11)).astype(np.float32)) for c in (70, 90)]
    x, y = wide[0][:, 30:], wide[1][:, :32]
    from_copies = pixels.conv2d_weight_bias(channels_last(x), channels_last(y), size=(1, 1))
    monkeypatch.setattr(np, "ascontiguousarray", lambda a: pytest.fail(f"a copy of {a.shape}"))
    for one, other in zip(pixels.conv2d_weight_bias(x, y, size=(1, 1)), from_copies, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weight_and_bias_come_from_one_pass_and_match():
    rng = np.random.default_rng(0)
    x = sg.tensor(rng.standard_normal((4, 3, 16, 16)).astype(np.float32))
    w = sg.tensor(rng.standard_normal((24, 3, 5, 5)).astype(np.float32), requires_grad=True)
    b = sg.tensor(rng.standard_normal(24).astype(np.float32), requires_grad=True)
    g = sg.tensor(rng.standard_normal((4, 24, 16, 16)).astype(np.float32))
    with sg.Timer() as timer:
        both = sg.grad(sg.conv2d(x, w, b, padding=2), (w, b), g)
    assert "conv2d_weight_bias" in str(timer)
    with sg.kernels.use(conv2d_weight="reference"), sg.Timer() as timer:
        apart = sg.grad(sg.conv2d(x, w, b, padding=2), (w, b), g)
    assert "conv2d_weight_bias" not in str(timer)
    for one, other in zip(both, apart):
        assert relative(one.numpy(), other.numpy()) < 2e-6


def test_second_order_through_weight_and_bias():
    rng = np.random.default_rng(0)
    shapes = (2, 2, 4, 5), (3, 2, 2, 3), (3,)
    check_grad(lambda x, w, b: sg.conv2d(x, w, b, stride=2), *map(rng.standard_normal, shapes), order=2)


@pytest.mark.parametrize("impl", ["naive", "blocked", "direct"])
def test_steps_of_the_ladder(impl):
    found = list(sg.kernels.compare("conv2d", [impl]))
    assert len(found) > 10
    assert max(c.error for c in found) < BOUND
    x, w, _, how = problem()
    assert sg.kernels.select("conv2d", "cpu", (x, w, None), {"size": (10, 10), **how}).impl not in ("naive", "blocked")


def test_few_channels_of_many_do_not_depend_on_threads_either():
    rng = np.random.default_rng(0)
    x, w, y = (rng.standard_normal(s).astype(np.float32) for s in ((25, 40, 14, 14), (3, 40, 3, 3), (25, 3, 14, 14)))
    how = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    turned = w.transpose(1, 0, 2, 3)
    assert sg.kernels.select("conv2d", "cpu", (x, w, None), {"size": (14, 14), **how}).impl == "few"

    def everything():
        return (
            few.conv2d(x, w, w[:, 0, 0, 0], size=(14, 14), **how),
            few.conv2d_input(x, turned, None, size=(14, 14), **how),
            *few.conv2d_weight_bias(x, y, size=(3, 3), **how),
        )

    assert_one_thread_gives_the_same_bits(everything)


def test_an_infinity_is_seen_by_the_taps_that_reach_it_alone():
    x, w = np.zeros((25, 40, 14, 14), np.float32), np.ones((2, 40, 3, 3), np.float32)
    x[3, 5, 0, 13] = np.inf
    y = few.conv2d(x, w, None, size=(14, 14), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    assert np.isposinf(y[3, :, :2, 12:]).all()
    assert (~np.isfinite(y)).sum() == 8
