"""The Gibbs chain: its cases, threads, and the distribution it leads to."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import chisquare

from scratchgen import kernels
from scratchgen.kernels.gibbs.reference import words

KEY = np.array([77], np.uint64)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_implementation_is_the_reference(dtype: str) -> None:
    found = list(kernels.compare("gibbs", dtype=dtype))
    assert {c.impl for c in found} == ({"reference", "numba"} if dtype == "float32" else {"reference"})
    assert len({c.case for c in found}) == 15
    for c in found:
        assert c.passed, f"{c.impl} on {c.case}: {c.error:.1e}"


def machine(chains: int, visible: int, hidden: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    made = [rng.standard_normal(shape) / 2 for shape in ((hidden, visible), (visible,), (hidden,))]
    return [rng.integers(2, size=(chains, visible)).astype(np.float32), *(a.astype(np.float32) for a in made)]


def run(impl: str, *arrays: Any, **attrs: Any) -> tuple[np.ndarray, ...]:
    return kernels.implementations("gibbs", "cpu")[impl].fn(*arrays, key=KEY, **attrs)


@pytest.mark.parametrize("sizes", [(200, 37, 41), (200, 600, 500)])
def test_one_thread_and_all_give_the_same_bits(sizes: tuple[int, int, int]) -> None:
    arrays = machine(*sizes)
    everything = run("numba", *arrays, counter=3, steps=4)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        alone = run("numba", *arrays, counter=3, steps=4)
    finally:
        numba.set_num_threads(threads)
    for a, b in zip(everything, alone):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("impl", ["reference", "numba"])
def test_steps_follow_one_another(impl: str) -> None:
    """Five steps are two and then three, on the numbers that ``words`` says the two have taken."""
    v, *rest = machine(9, 7, 5)
    whole = run(impl, v, *rest, counter=1, steps=5)
    half, _, _ = run(impl, v, *rest, counter=1, steps=2)
    again = run(impl, half, *rest, counter=1 + words(9, 7, 5, 2) // 4, steps=3)
    for a, b in zip(whole, again):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("impl", ["reference", "numba"])
def test_states_are_as_frequent_as_their_exact_probabilities(impl: str) -> None:
    """After k steps from a known state the visible units follow row v of the k-th power of the transition matrix."""
    _, weight, b, c = (a.astype(np.float64) for a in machine(1, 3, 2))
    v = ((np.arange(8)[:, None] >> np.arange(3)) & 1).astype(np.float64)
    h = ((np.arange(4)[:, None] >> np.arange(2)) & 1).astype(np.float64)

    def conditional(mean: np.ndarray, states: np.ndarray) -> np.ndarray:
        return np.where(states == 1, mean[:, None], 1 - mean[:, None]).prod(-1)

    transition = conditional(expit(v @ weight.T + c), h) @ conditional(expit(h @ weight + b), v)
    start = np.tile(v[5], (40_000, 1)).astype(np.float32)
    arrays = [a.astype(np.float32) for a in (weight, b, c)]
    for steps in (1, 3):
        x, mean, hidden = run(impl, start, *arrays, counter=0, steps=steps)
        counts = np.bincount((x @ [1, 2, 4]).astype(int), minlength=8)
        expected = np.linalg.matrix_power(transition, steps)[5] * len(x)
        assert chisquare(counts, expected).pvalue > 1e-3
        np.testing.assert_allclose(mean, expit(hidden @ arrays[0] + arrays[1]), rtol=1e-5)


def test_inputs_are_not_written_to_and_weights_may_lie_anyhow() -> None:
    v, weight, b, c = machine(12, 10, 6)
    expected = run("numba", v, weight, b, c, counter=0, steps=2)
    turned = [np.asfortranarray(a) for a in (v, weight)]
    kept = [a.copy() for a in turned]
    found = run("numba", *turned, b, c, counter=0, steps=2)
    for a, other in zip(expected, found):
        np.testing.assert_array_equal(a, other)
    for a, other in zip(turned, kept):
        np.testing.assert_array_equal(a, other)


def test_a_nan_shows() -> None:
    v, weight, b, c = machine(2, 5, 3)
    b[1] = np.nan
    for impl in ("reference", "numba"):
        _, mean, _ = run(impl, v, weight, b, c, counter=0, steps=1)
        assert np.isnan(mean[:, 1]).all()
        assert np.isfinite(np.delete(mean, 1, axis=1)).all()
