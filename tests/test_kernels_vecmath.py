"""Float32 vector maths against float64: accuracy over the whole range, limits, NaN, and that loops are vector code."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import special

from scratchgen.kernels import vecmath
from scratchgen.kernels.numba_config import njit


def mapped(f):
    """``f`` applied to each element, compiled as a kernel would."""

    @njit(error_model="numpy")
    def loop(x, y):
        for i in range(x.size):
            y[i] = f(x[i])

    def run(x):
        x = np.asarray(x, np.float32)
        y = np.empty_like(x)
        loop(x, y)
        return y

    run.loop = loop
    return run


@njit(error_model="numpy")
def cdf(x):
    return vecmath.normal_cdf(x)[0]


@njit(error_model="numpy")
def density(x):
    return vecmath.normal_cdf(x)[1]


def normal_density(x):
    return np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)


def ulps(got, truth):
    """The largest error in units in the last place of the true value."""
    return np.max(np.abs(got - truth) / np.spacing(np.abs(truth).astype(np.float32)))


FUNCTIONS = {  # vector function, truth, where it is normal, bound in ulp
    "exp": (vecmath.exp, np.exp, (-87.3, 0), 1),
    "expm1": (vecmath.expm1, np.expm1, (-200, 0), 2),
    "tanh": (vecmath.tanh, np.tanh, (-20, 20), 3),
    "log1p": (vecmath.log1p, np.log1p, (0, 1), 3),
    "sigmoid": (vecmath.sigmoid, special.expit, (-87.3, 87.3), 3),
    "normal_cdf": (cdf, special.ndtr, (-12.9, 14), 6.5),
    "normal density": (density, normal_density, (-12.9, 12.9), 3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_a_few_ulp_over_the_whole_range(name):
    function, truth, (low, high), bound = FUNCTIONS[name]
    run = mapped(function)
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(low, high, 1 << 18), rng.uniform(max(low, -2), min(high, 2), 1 << 18)])
    x = x.astype(np.float32)
    assert ulps(run(x), truth(x.astype(np.float64))) < bound


@pytest.mark.parametrize("name", FUNCTIONS)
def test_loops_over_them_are_vector_code(name):
    run = mapped(FUNCTIONS[name][0])
    run([-1.0] if FUNCTIONS[name][2][1] <= 0 else [0.5])
    (code,) = run.loop.inspect_llvm().values()
    assert re.search(r"fmul.* <\d+ x float>", code)


def test_limits():
    assert mapped(vecmath.exp)([0, -87.5, -1e4, -np.inf]).tolist() == [1, 0, 0, 0]
    assert mapped(vecmath.log1p)([0]).tolist() == [0]
    assert mapped(vecmath.sigmoid)([-np.inf, -1e4, 0, 1e4, np.inf]).tolist() == [0, 0, 0.5, 1, 1]
    assert mapped(cdf)([-np.inf, -1e4, 1e4, np.inf]).tolist() == [0, 0, 1, 1]
    assert mapped(cdf)([0])[0] == pytest.approx(0.5, rel=1e-7)
    assert mapped(density)([-np.inf, -1e4, 1e4, np.inf]).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_shows(name):
    assert np.isnan(mapped(FUNCTIONS[name][0])([np.nan])).all()


def test_exp_sum_adds_what_its_argument_cannot_hold():
    @njit(error_model="numpy")
    def loop(x, rest, y):
        for i in range(x.size):
            y[i] = vecmath.exp_sum(x[i], rest[i])

    x = -np.linspace(1, 80, 1001).astype(np.float32)
    rest = np.random.default_rng(0).uniform(-1e-3, 1e-3, x.size).astype(np.float32)
    y = np.empty_like(x)
    loop(x, rest, y)
    assert ulps(y, np.exp(x.astype(np.float64) + rest)) < 2


def test_largest():
    for n in (1, 2, 7, 16, 1000):
        row = np.random.default_rng(n).standard_normal(n).astype(np.float32)
        assert vecmath.largest(row) == row.max()
    assert vecmath.largest(np.array([-np.inf, -np.inf], np.float32)) == -np.inf
    assert vecmath.largest(np.array([-np.inf, -3], np.float32)) == -3


def test_exponentials_of_every_range():
    """A sample of all float32 up to 0: subnormals, the bound below which the result is 0, -inf, NaNs of any payload."""
    x = np.arange(0x80000000, 1 << 32, 4001, np.uint32).view(np.float32)  # from -0 to -inf, then NaNs
    with np.errstate(invalid="ignore"):
        truth, less = np.exp(x.astype(np.float64)), np.expm1(x.astype(np.float64))
    got = mapped(vecmath.exp)(x)
    nan, normal = np.isnan(x), x >= -87.3
    assert np.isnan(got[nan]).all()
    assert (got[~nan & ~normal] == 0).all()
    assert ulps(got[normal], truth[normal]) < 1
    got = mapped(vecmath.expm1)(x)
    assert np.isnan(got[nan]).all()
    normal = np.abs(x) >= np.finfo(np.float32).tiny
    assert ulps(got[normal & ~nan], less[normal & ~nan]) < 2
    assert np.abs(got[~normal & ~nan] - less[~normal & ~nan]).max() <= 2**-149  # the last bit of a subnormal


def test_hyperbolic_tangent_of_every_range():
    x = np.concatenate([np.arange(start, start + 0x7F800001, 4001, np.uint32) for start in (0, 0x80000000)])
    x = np.append(x.view(np.float32), np.float32([np.inf, -np.inf]))
    normal = np.abs(x) >= np.finfo(np.float32).tiny
    got, truth = mapped(vecmath.tanh)(x), np.tanh(x.astype(np.float64))
    assert ulps(got[normal], truth[normal]) < 3
    assert np.abs(got[~normal] - truth[~normal]).max() <= 2**-149


def test_largest_is_of_the_order_of_floats():
    rng = np.random.default_rng(0)
    for _ in range(50):
        row = rng.integers(0, 1 << 32, rng.integers(1, 70), np.uint32).view(np.float32)
        row = np.where(np.isnan(row), np.float32(-0.0), row)  # all magnitudes and signs, infinities, subnormals
        assert vecmath.largest(row) == row.max()
    assert np.isnan(vecmath.largest(np.array([1, np.nan, np.inf], np.float32)))
