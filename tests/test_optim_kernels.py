"""The in-place kernels of optimizers: the Numba versions have the bits of the specification."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from scratchgen import kernels
from scratchgen.kernels import registry

SIZES = [(), (0,), (1,), (7,), (33, 5), (300, 257)]  # the last one runs in parallel


def arrays(rng, shape, dtype, amsgrad):
    param, grad, first = (np.asarray(rng.normal(size=shape), dtype) for _ in range(3))
    second, top = (np.asarray(rng.random(size=shape), dtype) for _ in range(2))
    return [param, grad, first, second, top if amsgrad else None]


def copies(values):
    return [None if a is None else a.copy() for a in values]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize(
    "kwargs", [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled": True}, {"maximize": True}]
)
def test_adam_in_numba_equals_the_reference_bit_for_bit(dtype, amsgrad, kwargs):
    rng = np.random.default_rng(0)
    reference, numba = (kernels.implementations("adam", "cpu")[name].fn for name in ("reference", "numba"))
    for shape in SIZES:
        values = arrays(rng, shape, dtype, amsgrad)
        ours, expected = copies(values), copies(values)
        for step in (1, 2, 50):
            options = {"step": step, "lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, **kwargs}
            changed = numba(*ours, **options)
            assert [a is b for a, b in zip(changed, [ours[0], *ours[2:]])] == [True] * (3 + amsgrad)
            assert len(changed) == len(reference(*expected, **options))
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(ours[1], values[1])  # the gradient is only read


def test_adam_shows_a_nan():
    for name, implementation in kernels.implementations("adam", "cpu").items():
        values = arrays(np.random.default_rng(0), (4,), np.float32, True)
        values[1][2] = np.nan
        param, *_ = implementation.fn(*values, step=1, lr=0.01, betas=(0.9, 0.999), eps=1e-8)
        assert np.isnan(param).tolist() == [False, False, True, False], name


def test_adam_in_any_layout():
    """A gradient may lie in memory as it likes; a parameter that is not contiguous goes to the reference."""
    rng = np.random.default_rng(0)
    options = {"step": 3, "lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8}
    values = arrays(rng, (6, 4), np.float64, False)
    expected = copies(values)
    kernels.implementations("adam")["reference"].fn(*expected, **options)

    layouts = {
        "transposed": lambda a: np.asfortranarray(a),
        "sliced": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        "reversed": lambda a: a[::-1].copy()[::-1],
    }
    for change in layouts.values():
        ours = copies(values)
        ours[1] = change(ours[1])
        chosen = registry.select("adam", "cpu", tuple(ours), {})
        assert chosen.impl == "numba"
        chosen.fn(*ours, **options)
        np.testing.assert_array_equal(ours[0], expected[0])

        ours = [None if a is None else change(a) for a in copies(values)]
        chosen = registry.select("adam", "cpu", tuple(ours), {})
        assert chosen.impl == "reference"
        chosen.fn(*ours, **options)
        np.testing.assert_array_equal(ours[0], expected[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ema_in_numba_equals_the_reference_bit_for_bit(dtype):
    rng = np.random.default_rng(0)
    reference, numba = (kernels.implementations("ema", "cpu")[name].fn for name in ("reference", "numba"))
    for shape in SIZES:
        average, value = (np.asarray(rng.normal(size=shape), dtype) for _ in range(2))
        ours, expected = average.copy(), average.copy()
        assert numba(ours, value, decay=0.99) is ours
        reference(expected, value, decay=0.99)
        np.testing.assert_array_equal(ours, expected)
        np.testing.assert_allclose(ours, 0.99 * average + 0.01 * value, rtol=1e-5, atol=1e-6)


def test_ema_of_strided_arrays_goes_to_the_reference():
    average, value = np.zeros((4, 6))[:, ::2], np.ones((4, 3))
    assert registry.select("ema", "cpu", (average, value), {}).impl == "reference"
    assert registry.select("ema", "cpu", (value, np.ones((4, 3))), {}).impl == "numba"


def test_serial_and_parallel_versions_are_two_in_the_disk_cache():
    """Numba's cache ignores options: under one name a serial version would be loaded as the parallel one."""
    from scratchgen.kernels.adam import cpu

    serial, parallel = cpu._compiled
    assert not serial.targetoptions["parallel"]
    assert parallel.targetoptions["parallel"]
    assert serial._cache._impl.filename_base != parallel._cache._impl.filename_base


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_parameters_in_one_call_have_the_bits_of_one_by_one(dtype):
    """Small and large ones, such that are cut into several blocks, none at all, and a gradient with gaps."""
    rng = np.random.default_rng(0)
    reference, numba = (kernels.implementations("adam_many", "cpu")[name].fn for name in ("reference", "numba"))
    values = [arrays(rng, shape, dtype, False)[:4] for shape in [*SIZES, (5, 2)]]
    options = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1, "decoupled": True}
    for gradient in (lambda a: a, lambda a: np.repeat(a, 2, axis=-1)[..., ::2]):
        ours, expected = [[list(column) for column in zip(*map(copies, values))] for _ in range(2)]
        ours[1][-1] = gradient(ours[1][-1])
        for step in (1, 2):
            numba(*ours, step=step, **options)
            reference(*expected, step=step, **options)
        for mine, theirs in zip(ours, expected):
            for a, b in zip(mine, theirs):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("momentum", [{}, {"momentum": 0.9, "dampening": 0.3}, {"momentum": 0.9, "nesterov": True}])
@pytest.mark.parametrize("others", [{}, {"weight_decay": 0.1}, {"maximize": True}])
def test_sgd_in_numba_equals_the_reference_bit_for_bit(momentum, others):
    """Of many parameters in one call; a gradient with gaps, and one of them not in one run."""
    rng = np.random.default_rng(0)
    reference, numba = (kernels.implementations("sgd_many", "cpu")[name].fn for name in ("reference", "numba"))
    values = [[np.asarray(rng.normal(size=shape), np.float32) for shape in SIZES] for _ in range(3)]
    for at, change in ((1, lambda a: a), (1, np.asfortranarray), (0, np.asfortranarray)):
        ours, expected = [copies(column) for column in values], [copies(column) for column in values]
        ours[at][-1] = change(ours[at][-1])
        for _ in range(2):
            numba(*ours, lr=0.01, **momentum, **others)
            reference(*expected, lr=0.01, **momentum, **others)
        for mine, theirs in zip(ours, expected, strict=True):
            for a, b in zip(mine, theirs, strict=True):
                np.testing.assert_array_equal(a, b)
        assert np.array_equal(ours[2][4], values[2][4]) is not bool(momentum)


def test_averages_of_many_arrays_have_the_bits_of_one_by_one():
    rng = np.random.default_rng(0)
    averages = [np.asarray(rng.normal(size=shape), np.float32) for shape in SIZES]
    values = [np.asarray(rng.normal(size=shape), np.float32) for shape in SIZES]
    for change in (lambda a: a, lambda a: np.repeat(a, 2, axis=-1)[..., ::2]):
        ours, expected = copies(averages), copies(averages)
        mixed = [*values[:-1], change(values[-1])]
        kernels.implementations("ema_many", "cpu")["numba"].fn(ours, mixed, decay=0.99)
        kernels.implementations("ema_many", "cpu")["reference"].fn(expected, mixed, decay=0.99)
        for a, b in zip(ours, expected):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("sizes", [SIZES, [(3,)], [(300, 257), (100, 100), (70_000,)]])
def test_norm_and_scaling_of_many_arrays(sizes):
    rng = np.random.default_rng(0)
    values = [np.asarray(rng.normal(size=shape), np.float32) for shape in sizes]
    truth = np.sqrt(sum(np.square(a, dtype=np.float64).sum() for a in values))
    fortran = [np.asarray(a, order="F") for a in values]
    for impl in ("reference", "numba"):
        norm, scale = (kernels.implementations(op, "cpu")[impl].fn for op in ("norm_many", "scale_many"))
        for arrays in (values, fortran):
            assert norm(arrays).dtype == np.float32
            np.testing.assert_allclose(norm(arrays), truth, rtol=3e-7)
            ours = [a.copy(order="K") for a in arrays]
            scale(ours, np.asarray(0.3, np.float32))
            for a, b in zip(ours, values):
                np.testing.assert_array_equal(a, b * np.float32(0.3))


def test_addresses_are_found_again_for_the_same_arrays_alone():
    from scratchgen.kernels import many

    def truth(arrays):
        return [a.ctypes.data for a in arrays]

    arrays = [np.zeros(n, np.float32) for n in (3, 5, 7)]
    for _ in range(2):
        addresses, _ = many.tabulate(arrays, arrays[::-1], fresh=1)
        assert addresses.T.tolist() == [truth(arrays), truth(arrays[::-1])]
    arrays[1] = np.ones(5, np.float32)  # the first is the one it was
    assert many.tabulate(arrays)[0][:, 0].tolist() == truth(arrays)
    assert many.tabulate(arrays[:2])[0][:, 0].tolist() == truth(arrays[:2])
    gone = weakref.ref(arrays[2])
    many.tabulate(arrays)
    del arrays
    assert gone() is None
    for _ in range(2 * many.KEPT):
        many.tabulate([np.zeros(4, np.float32)])
    assert len(many._kept) <= many.KEPT


def test_clipping_keeps_nothing_of_the_gradients_which_are_others_in_each_step():
    from scratchgen.kernels import many

    before = dict(many._kept)
    gradients = [np.ones(n, np.float32) for n in (3, 5)]
    norm, scale = (kernels.implementations(op, "cpu")["numba"].fn for op in ("norm_many", "scale_many"))
    scale(gradients, np.float32(1 / norm(gradients)))
    np.testing.assert_allclose(norm(gradients), 1, rtol=1e-6)
    assert many._kept == before
