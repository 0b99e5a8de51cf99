"""Random numbers: the published Philox vectors, equal numbers from every kernel, the right distributions, replay."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest
from scipy import stats

import scratchgen as sg
from scratchgen import kernels
from scratchgen.kernels.numba_config import njit
from scratchgen.kernels.philox import cpu, reference
from scratchgen.rng import note_draws, replay

# philox4x32-10 in the known-answer file of Random123: four words of counter, two of key, four of output.
KNOWN = """
00000000 00000000 00000000 00000000 00000000 00000000 6627e8d5 e169c58d bc57ac4c 9b00dbd8
ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 408f276d 41c83b0e a20bc7c6 6d5451fd
243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 d16cfe09 94fdcceb 5001e420 24126ea1
"""


@pytest.mark.parametrize("line", KNOWN.strip().splitlines())
def test_published_vectors(line):
    words = [int(word, 16) for word in line.split()]
    got = reference.rounds(*[np.array([word], np.uint64) for word in words[:6]])
    assert [int(word[0]) for word in got] == words[6:]
    assert list(cpu.rounds(*[np.uint32(word) for word in words[:6]])) == words[6:]


def test_a_stream_is_the_blocks_of_its_counter():
    blocks = sg.Generator(0).bits(8)
    assert [hex(word) for word in blocks[:4]] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
    seed, counter = 0x299F31D0A4093822, 0x85A308D3243F6A88
    words = [counter & 0xFFFFFFFF, counter >> 32, 0, 0, seed & 0xFFFFFFFF, seed >> 32]
    expected = reference.rounds(*[np.array([word], np.uint64) for word in words])
    generator = sg.Generator(seed)
    generator.counter = counter
    assert generator.bits(4).tolist() == [int(word[0]) for word in expected]


# --- kernels

COUNTS = [0, 1, 3, 4, 5, 1000, cpu.PARALLEL_FROM + 7]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("place", [(0, 0), (2**64 - 1, 2**32 - 2), (12345, 2**63)])
def test_bits_and_uniforms_are_the_same_from_every_kernel(count, place):
    key, counter = np.array([place[0]], np.uint64), place[1]
    for op, attrs in (("philox_bits", {}), ("philox_uniform", {"dtype": np.dtype("float32")})):
        every = kernels.implementations(op, "cpu").values()
        numbers = [k.fn(key, counter=counter, count=count, **attrs) for k in every]
        assert len(numbers) == 2
        assert numbers[0].shape == (count,)
        assert numbers[0].dtype == numbers[1].dtype
        np.testing.assert_array_equal(*numbers)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals_are_the_same_to_rounding(count, dtype):
    key = np.array([7], np.uint64)
    numbers = [
        k.fn(key, counter=11, count=count, dtype=np.dtype(dtype))
        for k in kernels.implementations("philox_normal", "cpu").values()
    ]
    assert len(numbers) == 2
    assert numbers[0].dtype == dtype
    np.testing.assert_allclose(*numbers, rtol=4 * np.finfo(dtype).eps, atol=1e-15)


def test_float32_normals_are_right_at_the_ends_of_the_words_and_at_every_eighth_of_a_turn():
    """Where digits could be lost: next to u = 0, 1/2 and 1, and where a cosine or a sine is nearly 0."""
    ends = np.array([0, 1, 2**24, 2**31 - 2, 2**31 - 1, 2**31, 2**32 - 3, 2**32 - 2, 2**32 - 1], np.uint64)
    eighths = ((np.arange(8)[:, None] << 29) + np.array([-2, -1, 0, 1, 2])).reshape(-1) % 2**32
    first, second = (words.reshape(-1) for words in np.meshgrid(ends, eighths.astype(np.uint64)))
    got = np.array([cpu.normal_pair(*words) for words in zip(first.astype(np.uint32), second.astype(np.uint32))])
    radius = np.sqrt(-2 * np.log1p(-(2.0**32 - 1 - first.astype(np.float64)) * 2.0**-32))
    eighth, rest = np.divmod(second.astype(np.int64) + 2**28, 2**29)
    near = (rest - 2**28) * 2 * np.pi * 2.0**-32  # so that the truth is right next to a zero, too
    s, c = np.array([0, np.sqrt(0.5), 1, np.sqrt(0.5), 0, -np.sqrt(0.5), -1, -np.sqrt(0.5)]), np.cos(near)
    sine = s[eighth % 8] * c + s[(eighth + 2) % 8] * np.sin(near)
    cosine = s[(eighth + 2) % 8] * c - s[eighth % 8] * np.sin(near)
    truth = radius[:, None] * np.stack([cosine, sine], 1)
    np.testing.assert_allclose(got, truth, rtol=4 * np.finfo("float32").eps, atol=0)


def test_the_loop_over_float32_normals_is_vector_code():
    loop = njit(cpu._normal32)  # compiled anew: what comes from the cache cannot be looked into
    loop(np.uint64(7), np.uint64(0), np.empty(8, np.float32))
    (code,) = loop.inspect_llvm().values()
    assert re.search(r"call .*<\d+ x float> @llvm.sqrt", code)


def test_a_draw_does_not_depend_on_how_it_is_split():
    one, two = sg.Generator(3), sg.Generator(3)
    whole = one.bits(32)
    np.testing.assert_array_equal(whole, np.concatenate([two.bits(8), two.bits(24)]))
    assert one.counter == two.counter == 8


def test_devices_draw_the_same_numbers():
    for draw in (sg.rand, sg.randn):
        ours = draw(100, generator=sg.Generator(5))
        emulated = draw(100, generator=sg.Generator(5), device="emu")
        np.testing.assert_allclose(ours.numpy(), emulated.numpy(), rtol=1e-6, atol=1e-6)  # logarithms of two libraries


# --- distributions: seeded, so each p-value is a fact of the stream and not of the day

N = 100_000


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_uniform(dtype):
    u = sg.rand(N, dtype=dtype, generator=sg.Generator(1)).numpy()
    assert u.dtype == dtype
    assert u.min() >= 0
    assert u.max() < 1
    digits = {"float16": 11, "float32": 24, "float64": 53}[dtype]
    assert stats.kstest(u.astype(np.float64) + 2.0 ** -(digits + 1), "uniform").pvalue > 0.01
    steps = u.astype(np.longdouble) * 2**digits
    assert (steps == np.round(steps)).all()  # no bit is lost to rounding, and all of them are used
    assert (steps % 2 == 1).mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal(dtype):
    z = sg.randn(N, dtype=dtype, generator=sg.Generator(2)).numpy()
    assert z.dtype == dtype
    assert stats.kstest(z.astype(np.float64), "norm").pvalue > 0.01
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z.astype(np.float64) ** power).mean() - moment) < 4 * np.sqrt(spread / N)
    pairs = z.astype(np.float64).reshape(-1, 2)
    assert abs((pairs[:, 0] * pairs[:, 1]).mean()) < 4 / np.sqrt(N / 2)
    assert np.isfinite(z).all()


@pytest.mark.parametrize(("draw", "distribution"), [(sg.rand, "uniform"), (sg.randn, "norm")])
def test_streams_of_different_seeds_are_neither_too_good_nor_too_bad(draw, distribution):
    samples = [draw(5000, dtype="float64", generator=sg.Generator(seed)).numpy() for seed in range(200)]
    p_values = [stats.kstest(sample, distribution).pvalue for sample in samples]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_the_extremes_of_box_muller_are_finite():
    # its largest radius belongs to the word 0, its smallest, 0, to the word 2^32 - 1
    assert np.sqrt(-2 * np.log(2.0**-32)) == pytest.approx(6.66, abs=0.01)
    z = sg.randn(2_000_000, generator=sg.Generator(4)).numpy()
    assert 4.5 < np.abs(z).max() < 6.67


def test_integers_are_uniform_over_small_and_large_ranges():
    g = sg.Generator(3)
    counts = np.bincount(sg.randint(-3, 4, (N,), generator=g).numpy() + 3, minlength=7)
    assert stats.chisquare(counts).pvalue > 0.01
    for low, high in ((0, 1 << 32), (-5, 1 << 40), (-(1 << 63), 1 << 63)):
        x = sg.randint(low, high, (N,), generator=g).numpy()
        assert x.min() >= low
        assert x.max() < high
        assert stats.kstest((x.astype(np.float64) - low) / (high - low), "uniform").pvalue > 0.01


def test_randint_takes_torchs_forms():
    draws = [
        sg.randint(10, (3, 2), generator=sg.Generator(1)),
        sg.randint(0, 10, (3, 2), generator=sg.Generator(1)),
        sg.randint(10, size=(3, 2), generator=sg.Generator(1)),
        sg.randint(low=0, high=10, size=(3, 2), generator=sg.Generator(1)),
        sg.randint_like(sg.zeros(3, 2, dtype="int64"), 10, generator=sg.Generator(1)),
    ]
    assert all(d.equal(draws[0]) for d in draws)
    assert draws[0].dtype == sg.int64
    assert sg.randint(3, (2,), dtype="uint8").dtype == sg.uint8
    with pytest.raises(ValueError, match=r"integers: the range 3 \.\. 2 is empty"):
        sg.randint(3, 3, (2,))
    with pytest.raises(ValueError, match="not within int64"):
        sg.randint(0, 1 << 64, (2,))
    with pytest.raises(TypeError, match="randint: the size is missing"):
        sg.randint(3)


def test_permutations():
    assert sorted(sg.randperm(1000).tolist()) == list(range(1000))
    assert sg.randperm(0).shape == (0,)
    g = sg.Generator(5)
    orders = np.stack([sg.randperm(3, generator=g).numpy() for _ in range(3000)])
    counts = np.unique(orders @ np.array([9, 3, 1]), return_counts=True)[1]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 0.01


def test_normal_takes_torchs_forms():
    g = sg.Generator(16)
    assert sg.normal(2.0, 3.0, (2, 5), generator=g).shape == (2, 5)
    x = sg.normal(sg.full((N,), 2.0), 3.0, generator=g)
    assert stats.kstest((x.numpy() - 2) / 3, "norm").pvalue > 0.01
    x = sg.normal(sg.zeros(3, 1, dtype="float64"), sg.tensor([1.0, 0.0]), generator=g)
    assert x.shape == (3, 2)
    assert x.dtype == sg.float64
    assert x[:, 1].tolist() == [0, 0, 0]
    assert sg.normal(5.0, sg.zeros(2)).tolist() == [5, 5]
    assert not sg.normal(sg.zeros(2, requires_grad=True), 1.0).requires_grad
    for std in (-1.0, sg.tensor([1.0, -1.0])):
        with pytest.raises(ValueError, match="normal: the standard deviation must not be negative"):
            sg.normal(sg.zeros(2), std)


def test_like_takes_shape_dtype_and_device():
    x = sg.zeros(2, 3, dtype="float64", device="emu")
    for draw in (sg.rand_like, sg.randn_like):
        y = draw(x)
        assert (y.shape, y.dtype, y.device) == (x.shape, x.dtype, x.device)
        assert draw(x, dtype="float32", device="cpu", requires_grad=True).requires_grad
        with pytest.raises(TypeError, match="expected a floating-point dtype, got int64"):
            draw(sg.tensor([1, 2]))


def test_bernoulli():
    p = sg.tensor([0.0, 0.2, 1.0]).broadcast_to((N, 3))
    x = sg.bernoulli(p, generator=sg.Generator(7)).numpy()
    assert set(np.unique(x)) == {0, 1}
    np.testing.assert_allclose(x.mean(0), [0, 0.2, 1], atol=0.005)
    for wrong in (1.1, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"bernoulli: probabilities must lie in \[0, 1\]"):
            sg.bernoulli(sg.tensor([0.5, wrong]))


def test_exponential_and_gumbel():
    g = sg.Generator(8)
    e, m = sg.exponential(N, generator=g), sg.gumbel(N, generator=g)
    assert e.dtype == m.dtype == sg.float32
    assert stats.kstest(e.numpy(), "expon").pvalue > 0.01
    assert stats.kstest(m.numpy(), "gumbel_r").pvalue > 0.01
    assert e.min().item() > 0
    logits = sg.tensor([0.0, 1.0, -1.0])
    picks = (logits + sg.gumbel(N, 3, generator=g)).argmax(1).numpy()
    weights = np.exp(logits.numpy().astype(np.float64))
    assert stats.chisquare(np.bincount(picks), N * weights / weights.sum()).pvalue > 0.01


def test_multinomial_with_replacement():
    weights = np.array([[1.0, 0.0, 3.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 1.0, 1.0, 2.0]])
    x = sg.multinomial(sg.tensor(weights), 20_000, replacement=True, generator=sg.Generator(9)).numpy()
    assert x.shape == (3, 20_000)
    assert x.dtype == np.int64
    for row, w in zip(x, weights, strict=True):
        counts = np.bincount(row, minlength=4)
        assert not counts[w == 0].any()
        if (w > 0).sum() > 1:
            assert stats.chisquare(counts[w > 0], 20_000 * w[w > 0] / w.sum()).pvalue > 0.01
    assert sg.multinomial(sg.ones(5), 3, True).shape == (3,)


def test_multinomial_never_draws_weight_zero_at_the_ends():
    # uniform numbers just below 1, and rows whose sum rounds up to the next row's
    class Ends(sg.Generator):
        def uniform(self, shape, dtype=np.float32, device=sg.cpu):
            return np.broadcast_to(np.where(np.arange(shape[1]) % 2, 1 - 2.0**-53, 0.0), shape)

    weights = sg.tensor([0.0, 0.1, 0.2, 0.7, 0.0]).broadcast_to((1000, 5))
    assert set(sg.multinomial(weights, 2, True, generator=Ends()).numpy().ravel()) == {1, 3}


def test_multinomial_without_replacement():
    weights = np.array([1.0, 2.0, 0.0, 5.0])
    x = sg.multinomial(sg.tensor(np.tile(weights, (20_000, 1))), 3, generator=sg.Generator(10)).numpy()
    assert (np.sort(x, axis=1) == [0, 1, 3]).all()
    first = np.bincount(x[:, 0], minlength=4)
    assert stats.chisquare(first[weights > 0], 20_000 * weights[weights > 0] / 8).pvalue > 0.01
    second = np.bincount(x[x[:, 0] == 3, 1], minlength=4)  # once 3 is gone: 1 to 2
    assert stats.chisquare(second[:2], second.sum() * np.array([1, 2]) / 3).pvalue > 0.01


def test_multinomial_with_very_large_and_very_small_weights():
    weights = sg.tensor([0.0, 1.5e308, 0.0, 1e308, 1e-310], dtype="float64")
    assert set(sg.multinomial(weights, 1000, True).tolist()) == {1, 3}
    assert sorted(sg.multinomial(weights, 3).tolist()) == [1, 3, 4]


def test_multinomial_checks_its_arguments():
    with pytest.raises(ValueError, match="too few positive weights to draw 3 from"):
        sg.multinomial(sg.tensor([1.0, 0.0, 2.0]), 3)
    with pytest.raises(ValueError, match="too few positive weights to draw 3 from"):
        sg.multinomial(sg.tensor([[1.0, 1.0], [0.0, 0.0]]), 3, True)
    with pytest.raises(ValueError, match="weights must be finite and not negative"):
        sg.multinomial(sg.tensor([1.0, -1.0]), 1)
    with pytest.raises(ValueError, match=r"expected floating-point weights \(n\) or \(m, n\), got int64\[2\]"):
        sg.multinomial(sg.tensor([1, 2]), 1)
    with pytest.raises(ValueError, match="num_samples must be positive, got 0"):
        sg.multinomial(sg.ones(2), 0)


# --- generators


def test_the_default_generator_is_seeded():
    sg.manual_seed(3)
    first = sg.randn(4)
    sg.manual_seed(3)
    assert first.equal(sg.randn(4))
    assert not first.equal(sg.randn(4))
    seed = sg.seed()
    assert sg.default_generator.seed == seed


def test_spawned_streams_differ_and_are_reproducible():
    g = sg.Generator(3)
    streams = [g.spawn(i).bits(1000) for i in range(3)] + [sg.Generator(3).bits(1000)]
    assert len(np.unique(np.concatenate(streams))) > 3990
    np.testing.assert_array_equal(streams[1], sg.Generator(3).spawn(1).bits(1000))


def test_state_saves_and_loads():
    g = sg.Generator(11)
    g.bits(10)
    state = g.state_dict()
    assert state == {"seed": 11, "counter": 3}
    expected = g.bits(5)
    other = sg.Generator(0)
    other.bits(1)
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.bits(5), expected)
    g.load_state_dict(state)
    for twin in (copy.deepcopy(g), pickle.loads(pickle.dumps(g))):
        np.testing.assert_array_equal(twin.bits(5), expected)


def test_numbers_fill_in_row_major_order_whatever_the_strides():
    image = sg.as_tensor(np.zeros((2, 4, 4, 3)).transpose(0, 3, 1, 2))
    a, b = (
        sg.randn_like(image, generator=sg.Generator(1)),
        sg.randn(2, 3, 4, 4, dtype="float64", generator=sg.Generator(1)),
    )
    assert a.equal(b)


# --- replay


def noisy(x, generator):
    return x * sg.bernoulli(sg.full((1000,), 0.5), generator=generator) + sg.rand(1000, generator=generator) * x


def test_checkpoint_draws_the_same_numbers_again():
    g = sg.Generator(3)
    x = sg.ones(1000, requires_grad=True)
    y = sg.checkpoint(noisy, x, g)
    counter = g.counter
    g.bits(100)
    (dx,) = sg.grad(y.sum(), x)
    np.testing.assert_array_equal(dx.numpy(), y.detach().numpy())
    assert g.counter == counter + 25


def test_checkpoint_draws_again_after_the_generator_was_seeded_anew():
    g = sg.Generator(3)
    x = sg.ones(1000, requires_grad=True)
    y = sg.checkpoint(noisy, x, g)
    g.manual_seed(4)
    expected = sg.Generator(4).bits(4)
    (dx,) = sg.grad(y.sum(), x)
    np.testing.assert_array_equal(dx.numpy(), y.detach().numpy())
    np.testing.assert_array_equal(g.bits(4), expected)


def test_checkpoint_of_a_function_that_differentiates_through_another_checkpoint():
    g = sg.Generator(5)
    x = sg.ones(1000, requires_grad=True)
    inner = sg.checkpoint(lambda a: noisy(a, g) * a, x)

    def outer(a):
        (slope,) = sg.grad(inner.sum(), x, create_graph=True)  # draws the numbers of `inner` again
        return a * slope.detach() * sg.rand(1000, generator=g)

    w = sg.ones(1000, requires_grad=True)
    y = sg.checkpoint(outer, w)
    (dw,) = sg.grad(y.sum(), w)
    np.testing.assert_array_equal(dw.numpy(), y.detach().numpy())


def test_replay_notes_the_first_draw_only_and_returns():
    g = sg.Generator(1)
    g.bits(4)
    with note_draws() as draws:
        first = [g.bits(4), g.bits(8)]
    assert draws == {g: (1, 1)}
    with replay(draws):
        again = [g.bits(4), g.bits(8)]
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
    assert g.counter == 4
