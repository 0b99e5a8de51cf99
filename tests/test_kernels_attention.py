"""Attention in Numba: against the reference at sizes that nothing divides, in place through strides, the same twice."""

from __future__ import annotations

import tracemalloc

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchgen as sg
from scratchgen import kernels
from scratchgen.kernels.attention import backward, cpu, forward, reference

OP = "scaled_dot_product_attention"
BOTH = {OP: "numba", f"{OP}_vjp": "numba"}
INF = float("inf")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def both_passes(module, q, k, v, mask=None, *, g=None, is_causal=False, scale=0.3):
    """y, lse, dq, dk, dv; ``g`` is drawn if not given."""
    how = {"is_causal": is_causal, "scale": scale}
    y, lse = module.scaled_dot_product_attention(q, k, v, mask, **how)
    g = draw(*y.shape, seed=9).astype(q.dtype) if g is None else g
    grads = module.scaled_dot_product_attention_vjp(g, y, q, k, v, mask, lse, **how, needs=(True,) * 3 + (False,))
    return y, lse, *grads[:3]


def assert_close(got, truth, tolerance=2e-6):
    """Every array within ``tolerance`` of the largest value of its truth."""
    for name, a, b in zip(("y", "lse", "dq", "dk", "dv"), got, truth, strict=True):
        assert a.shape == b.shape, name
        same = a == b  # infinities of rows that attend to nothing
        finite = np.abs(b[np.isfinite(b)]).max(initial=1e-30)
        assert np.abs(np.where(same, 0, a) - np.where(same, 0, b)).max(initial=0) <= tolerance * finite, name


def wide(*arrays):
    return [a if a is None or a.dtype == bool else a.astype(np.float64) for a in arrays]


@st.composite
def problems(draw_):
    """Any sizes that the kernel takes; lengths around the edges of panels, tiles and blocks."""
    near = [n + d for n in (0, 8, 16, 48, 64, 128) for d in (-1, 0, 1, 2) if n + d >= 8]
    lengths = st.one_of(st.sampled_from(near), st.integers(8, 150))
    lead = draw_(st.sampled_from([(), (3,), (2, 2), (1, 2, 1)]))
    size, value_size = draw_(st.integers(1, 70)), draw_(st.integers(1, 70))
    return lead, draw_(lengths), draw_(st.integers(2, 150)), size, value_size


@settings(max_examples=40)
@given(
    problems(),
    st.booleans(),
    st.sampled_from(["none", "bools", "numbers", "a row", "a column"]),
    st.integers(0, 2**16),
)
def test_any_sizes_agree_with_the_reference_in_float64(problem, is_causal, kind, seed):
    lead, queries, keys, size, value_size = problem
    q, k = draw(*lead, queries, size, seed=seed), draw(*lead, keys, size, seed=seed + 1)
    v = draw(*lead, keys, value_size, seed=seed + 2)
    rng = np.random.default_rng(seed)
    mask = {
        "none": None,
        "bools": rng.random((queries, keys)) < 0.5,
        "numbers": np.where(rng.random((queries, keys)) < 0.8, draw(queries, keys), np.float32(-INF)),
        "a row": rng.random((1, keys)) < 0.7,
        "a column": draw(queries, 1),
    }[kind]
    mask = None if mask is None else np.broadcast_to(mask, (*lead, queries, keys))
    g = draw(*lead, queries, value_size, seed=seed + 3)
    how = {"is_causal": is_causal, "scale": size**-0.5}
    got = both_passes(cpu, q, k, v, mask, g=g, **how)
    assert_close(got, both_passes(reference, *wide(q, k, v, mask), g=wide(g)[0], **how), 4e-6)


@pytest.mark.parametrize("shape", [(2, 2, 256, 64), (1, 2, 512, 64), (2, 2, 64, 32), (1, 1, 128, 128)])
@pytest.mark.parametrize("is_causal", [False, True])
def test_the_sizes_of_models_are_exact_to_two_millionths(shape, is_causal):
    q, k, v = (draw(*shape, seed=i) for i in range(3))
    how = {"is_causal": is_causal, "scale": shape[-1] ** -0.5}
    g = draw(*shape, seed=9)
    truth = both_passes(reference, *wide(q, k, v), g=wide(g)[0], **how)
    assert_close(both_passes(cpu, q, k, v, g=g, **how), truth)


# --- where the arrays lie


def test_a_fused_projection_is_read_in_place_and_answered_in_kind():
    """q, k and v as views of one (B, T, 3, H, D): nothing of their size is copied, and y lies as q does."""
    batch, length, heads, size = 2, 300, 4, 32
    qkv = draw(batch, length, 3, heads, size)
    q, k, v = (qkv[:, :, n].transpose(0, 2, 1, 3) for n in range(3))
    how = {"is_causal": True, "scale": 0.2}
    cpu.scaled_dot_product_attention(q, k, v, None, **how)  # compiles
    tracemalloc.start()
    y, lse = cpu.scaled_dot_product_attention(q, k, v, None, **how)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    scratch = 4 * numba.get_num_threads() * forward.scratch_floats(size, size)
    assert peak < y.nbytes + lse.nbytes + scratch + 20_000 < 1.9 * y.nbytes
    assert y.transpose(0, 2, 1, 3).flags.c_contiguous
    for a, b in zip(both_passes(cpu, q, k, v), both_passes(cpu, q.copy(), k.copy(), v.copy()), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_gradient_of_a_fused_projection_is_never_copied():
    """Attention writes its three gradients where the projection's is wanted: joining them again is a view."""
    x = sg.tensor(draw(2, 100, 3 * 4 * 32), requires_grad=True)

    def attend(x):
        q, k, v = (u.reshape(2, 100, 4, 32).transpose(1, 2) for u in x.chunk(3, -1))
        return sg.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    g = sg.tensor(draw(2, 4, 100, 32, seed=1))
    attend(x).backward(g)  # compiles
    (whole,) = sg.grad(attend(x), x, g)
    assert whole.array.base.size == whole.array.size == x.array.size
    wide_x = sg.tensor(x.array.astype(np.float64), requires_grad=True)
    (truth,) = sg.grad(attend(wide_x), wide_x, g.double())
    assert np.abs(whole.array - truth.array).max() < 2e-6 * np.abs(truth.array).max()
    np.testing.assert_array_equal(x.grad.array, whole.array)
    y = attend(x)
    tracemalloc.start()
    y.backward(g, retain_graph=False)
    assert tracemalloc.get_traced_memory()[1] < 3.5 * whole.array.nbytes  # of it 1, and x.grad + it 1
    tracemalloc.stop()


@pytest.mark.parametrize("change", ["columns", "backwards", "steps", "unaligned"])
def test_strides_do_not_change_a_bit(change):
    def lying(x):
        if change == "columns":
            return x.swapaxes(-1, -2).copy().swapaxes(-1, -2)
        if change == "backwards":
            return x[:, ::-1, ::-1].copy()[:, ::-1, ::-1]
        if change == "steps":
            return np.repeat(np.repeat(x, 2, 1), 3, 2)[:, ::2, ::3]
        raw = np.empty(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
        raw[...] = x
        return raw

    arrays = draw(2, 70, 36), draw(2, 81, 36, seed=1), draw(2, 81, 24, seed=2)
    mask, g = draw(2, 70, 81, seed=3), draw(2, 70, 24, seed=4)
    plain = both_passes(cpu, *arrays, mask, g=g)
    for a, b in zip(both_passes(cpu, *map(lying, arrays), lying(mask), g=lying(g)), plain, strict=True):
        np.testing.assert_array_equal(a, b)
    few = draw(2, 3, 32), draw(2, 81, 32, seed=1), draw(2, 81, 48, seed=2), mask[:, :3].copy()
    how = {"is_causal": False, "scale": 0.2}
    plain = cpu.attention_of_few(*few, **how)
    for a, b in zip(cpu.attention_of_few(*map(lying, few), **how), plain, strict=True):
        np.testing.assert_array_equal(a, b)


def test_shared_keys_and_masks_are_never_expanded():
    """Eight heads of the query on two of the key, and one mask for all: read through strides of 0."""
    q, k, v = draw(2, 2, 4, 128, 32), draw(2, 2, 1, 128, 32, seed=1), draw(2, 2, 1, 128, 32, seed=2)
    mask = np.random.default_rng(3).random((128, 128)) < 0.8
    shape = (2, 2, 4, 128)
    shared = [np.broadcast_to(x, (*shape, 32)) for x in (k, v)] + [np.broadcast_to(mask, (*shape, 128))]
    how = {"is_causal": False, "scale": 0.2}
    cpu.attention_of_few(q, *shared, **how)
    tracemalloc.start()
    y, lse = cpu.attention_of_few(q, *shared, **how)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    scratch = 4 * numba.get_num_threads() * forward.scratch_floats(32, 32)
    assert peak < y.nbytes + lse.nbytes + scratch + 20_000
    expanded = [x.copy() for x in shared]
    for a, b in zip(both_passes(cpu, q, *shared), both_passes(cpu, q, *expanded), strict=True):
        np.testing.assert_array_equal(a, b)


def test_inputs_are_left_alone():
    arrays = draw(2, 64, 32), draw(2, 64, 32, seed=1), draw(2, 64, 32, seed=2)
    before = [a.copy() for a in arrays]
    both_passes(cpu, *arrays, is_causal=True)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


# --- few queries


def test_each_of_a_few_queries_is_as_if_alone_and_keys_of_a_cache_are_not_copied():
    q, store = draw(16, 4, 5, 32), [draw(16, 4, 128, 32, seed=i) for i in (1, 2)]
    k, v = (x[:, :, :100] for x in store)
    how = {"is_causal": False, "scale": 0.2}
    together = cpu.attention_of_few(q, k, v, None, **how)
    tracemalloc.start()
    for i in range(5):
        alone = cpu.attention_of_few(q[:, :, i : i + 1], k, v, None, **how)
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_array_equal(a[:, :, i], b[:, :, 0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000 < k.nbytes


def test_numbers_at_the_edge_with_few_queries():
    q, k, v = 1e3 * draw(3, 16), 1e3 * draw(80, 16, seed=1), draw(80, 32, seed=2)
    how = {"is_causal": False, "scale": 1.0}
    y, lse = cpu.attention_of_few(q, k, v, None, **how)
    best = (q.astype(np.float64) @ k.astype(np.float64).T).argmax(1)
    np.testing.assert_array_equal(y, v[best])
    assert np.isfinite(lse).all()
    mask = np.zeros((3, 80), np.float32)
    mask[1], mask[2] = np.finfo(np.float32).min, -INF
    y, lse = cpu.attention_of_few(q / 1e3, k / 1e3, v, mask, **how)
    np.testing.assert_allclose(y[1:], [v.mean(0), 0 * v[0]], atol=1e-6)
    assert lse[2] == INF
    q[1, 3] = np.nan
    y, _ = cpu.attention_of_few(q, k, v, None, **how)
    assert np.isnan(y).all(1).tolist() == [False, True, False]


# --- threads and memory


@pytest.mark.parametrize("lead", [(), (3, 3)])
def test_the_result_does_not_depend_on_the_number_of_threads(lead):
    """One head alone is divided among threads too."""
    q, k, v = (draw(*lead, 500, 64, seed=i) for i in range(3))

    def results():
        few = cpu.attention_of_few(np.repeat(q[..., :1, :], 7, -2), k, v, None, is_causal=False, scale=0.2)
        return [*both_passes(cpu, q, k, v, is_causal=True), *few]

    many, again = results(), results()
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        one = results()
    finally:
        numba.set_num_threads(threads)
    for a, b, c in zip(many, again, one, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_memory_does_not_grow_with_the_number_of_keys():
    q, k = draw(64, 16), draw(20_000, 16, seed=1)
    how = {"is_causal": False, "scale": 0.25}
    cpu.scaled_dot_product_attention(q, k, k, None, **how)
    tracemalloc.start()
    cpu.scaled_dot_product_attention(q, k, k, None, **how)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300_000  # the scores are 5 MB


# --- numbers at the edge


def test_one_key_far_ahead_takes_all_the_weight():
    """Scores of a million: nothing overflows, and the gradient of what is saturated is 0."""
    q, k, v = 1e3 * draw(2, 64, 32), 1e3 * draw(2, 64, 32, seed=1), draw(2, 64, 32, seed=2)
    y, lse, dq, dk, _ = both_passes(cpu, q, k, v, scale=1.0)
    best = (q.astype(np.float64) @ k.astype(np.float64).swapaxes(-1, -2)).argmax(-1)
    np.testing.assert_array_equal(y, np.take_along_axis(v, best[..., None], 1))
    assert np.isfinite(lse).all()
    assert np.isfinite(dq).all()
    assert np.isfinite(dk).all()


@pytest.mark.parametrize("lowest", [np.finfo(np.float32).min, -1e30, -INF])
def test_numbers_that_mask(lowest):
    """A masked key weighs nothing. A row of -inf attends to nothing; a row of finite numbers, to all keys alike."""
    q, k, v = draw(64, 16), draw(80, 16, seed=1), draw(80, 16, seed=2)
    mask = np.zeros((64, 80), np.float32)
    mask[:, 40:] = lowest
    mask[5] = lowest
    y, _, *grads = both_passes(cpu, q, k, v, mask)
    some = np.arange(64) != 5
    expected = cpu.scaled_dot_product_attention(q, k[:40], v[:40], None, is_causal=False, scale=0.3)[0]
    np.testing.assert_allclose(y[some], expected[some], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y[5], 0 * v[0] if lowest == -INF else v.mean(0), atol=1e-6)
    assert all(np.isfinite(g).all() for g in grads)


def test_a_nan_shows():
    q, k, v = draw(2, 64, 32), draw(2, 64, 32, seed=1), draw(2, 64, 32, seed=2)
    q[0, 7, 3] = np.nan
    y, _, dq, dk, dv = both_passes(cpu, q, k, v)
    assert np.isnan(y[0, 7]).all()
    assert np.isnan(dq[0, 7]).all()
    assert np.isnan(dk[0]).all()
    assert np.isnan(dv[0]).all()
    assert np.isfinite(y[0, :7]).all()
    assert np.isfinite(dk[1]).all()


# --- the op


def test_which_runs_and_its_gradients_are_the_composites():
    q, k, v = (sg.tensor(draw(2, 3, 64, 32, seed=i), requires_grad=True) for i in range(3))
    chosen = kernels.select(OP, "cpu", (q.array, k.array, v.array, None), {"is_causal": True, "scale": 0.2})
    assert chosen.impl == "numba"
    for queries, size, keys, impl in [(1, 32, 64, "few"), (1, 32, 8, "reference"), (1, 31, 64, "reference")]:
        some = q.array[:, :, :queries, :size], k.array[:, :, :keys, :size], v.array[:, :, :keys], None
        assert kernels.select(OP, "cpu", some, {"is_causal": False, "scale": 1.0}).impl == impl
    y = sg.scaled_dot_product_attention(q, k, v, is_causal=True)
    fast = sg.grad((y * y).sum(), (q, k, v), retain_graph=True)
    exact = sg.grad((y * y).sum(), (q, k, v), create_graph=True)
    for a, b in zip(fast, exact, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(force=True), rtol=1e-4, atol=1e-5)


def test_a_masks_gradient_is_the_references():
    q, k, v = (draw(2, 64, 32, seed=i) for i in range(3))
    mask, g = draw(2, 64, 64, seed=3), draw(2, 64, 32, seed=4)
    how = {"is_causal": False, "scale": 0.2}
    y, lse = cpu.scaled_dot_product_attention(q, k, v, mask, **how)
    got = cpu.scaled_dot_product_attention_vjp(g, y, q, k, v, mask, lse, **how, needs=(True,) * 4)
    expected = reference.scaled_dot_product_attention_vjp(g, y, q, k, v, mask, lse, **how, needs=(True,) * 4)
    np.testing.assert_array_equal(got[3], expected[3])


def test_every_implementation_agrees_with_the_reference():
    done = [*kernels.compare(OP), *kernels.compare(f"{OP}_vjp")]
    assert [c for c in done if not c.passed] == []
    assert {c.impl for c in done} == {"reference", "loops", "blas", "panels", "tiles", "few", "numba"}
    assert sum(c.impl == "numba" for c in done) >= 35
    assert sum(c.impl == "few" for c in done) >= 3


def test_a_part_of_a_head_is_a_whole_number_of_panels():
    """Enough keys to divide one head into parts, whose gradients in the queries are then added."""
    keys = 2 * cpu.FEWEST_PANELS * backward.MOST_LANES + 17
    q, k, v = draw(100, 24), draw(keys, 24, seed=1), draw(keys, 40, seed=2)
    assert_close(both_passes(cpu, q, k, v), both_passes(reference, *wide(q, k, v)), 4e-6)


@pytest.mark.parametrize(("queries", "keys", "sums"), [(64, 4096, ("y",)), (2048, 64, ("dk", "dv"))])
def test_errors_do_not_grow_with_long_sums(queries, keys, sums):
    """Sums over thousands are taken in blocks: added up one number after another they are off by 2 to 3e-6."""
    q, g = draw(1, 1, queries, 64), draw(1, 1, queries, 64, seed=1)
    k, v = draw(1, 1, keys, 64, seed=2), draw(1, 1, keys, 64, seed=3)
    got = both_passes(cpu, q, k, v, g=g, scale=0.125)
    truth = both_passes(reference, *wide(q, k, v), g=wide(g)[0], scale=0.125)
    for name, a, b in zip(("y", "lse", "dq", "dk", "dv"), got, truth, strict=True):
        assert name not in sums or np.abs(a - b).max() <= 1e-6 * np.abs(b).max(), name
