"""Choosing kernels: by fit, by name, by what forward chose; and holding them against their reference."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import kernels
from scratchgen.declare import fused
from scratchgen.kernels import registry

F4 = np.zeros(3, np.float32)
F8 = np.zeros(3, np.float64)


@pytest.fixture
def toy():
    """An op with a reference, a float32 kernel for large arrays, a study version, and gradient kernels."""
    calls = []

    def implement(op, impl, **options):
        def run(*arrays, **attrs):
            calls.append(f"{op}/{impl}")
            return arrays[0] * 2 if op == "toy" else arrays[0] * 2 + 0 * arrays[2]

        kernels.kernel(op, impl=impl, **options)(run)

    for op in ("toy", "toy_vjp"):
        implement(op, "reference")
        implement(op, "fast", device="cpu", dtypes="f4", when=lambda x, *_, **__: x.size > 2)
        implement(op, "naive", study=True)
    yield calls
    for op in ("toy", "toy_vjp"):
        registry._table.pop(op)
    registry._candidates.clear()


def chosen(array, **options):
    return kernels.select("toy", "cpu", (array,), {}, **options).impl


def test_the_best_that_fits_is_chosen(toy):
    assert chosen(F4) == "fast"
    assert chosen(F4[:1]) == "reference"  # too small
    assert chosen(F8) == "reference"  # another dtype
    assert kernels.select("toy", "cuda", (F4,), {}).impl == "reference"  # another device


def test_use_overrides_by_name_and_ends_with_its_block(toy):
    with kernels.use(toy="naive"):
        assert chosen(F4) == "naive"
        with kernels.use(toy="reference"):
            assert chosen(F4) == "reference"
        assert chosen(F4) == "naive"
    assert chosen(F4) == "fast"


def test_unknown_names_raise_with_what_there_is(toy):
    with (
        pytest.raises(ValueError, match="toy has no implementation 'fats'; it has: reference, fast, naive"),
        kernels.use(toy="fats"),
    ):
        pass
    with pytest.raises(ValueError, match=r"unknown op 'toi'.*toy"), kernels.use(toi="fast"):
        pass
    with pytest.raises(KeyError, match="no kernel named 'toi'"):
        kernels.implementations("toi")


def test_an_implementation_asked_for_by_name_is_never_used_where_it_does_not_fit(toy):
    with (
        kernels.use(toy="fast"),
        pytest.raises(ValueError, match=r"toy: 'fast', asked for by name, does not take float64\[3\] on cpu"),
    ):
        chosen(F8)


def test_the_environment_chooses_too():
    code = "import scratchgen as sg; print(sg.kernels.overrides()); sg.default_generator.uniform((2,))"

    def run(value):
        env = {**os.environ, "SCRATCHGEN_KERNELS": value}
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)

    good = run("philox_uniform=reference, philox_bits=numba")
    assert good.stdout.strip() == "{'philox_uniform': 'reference', 'philox_bits': 'numba'}", good.stderr
    assert "has no implementation 'referenc'" in run("philox_uniform=referenc").stderr
    assert "not of the form op=implementation" in run("philox_uniform").stderr


def test_backward_prefers_the_family_that_forward_took(toy):
    @fused()
    def toy_op(x):
        return x * 2

    toy_op.name = "toy"
    x = sg.tensor(np.ones(3, np.float32), requires_grad=True)
    with kernels.use(toy="reference"):
        y = toy_op(x)
    y.sum().backward()
    assert toy == ["toy/reference", "toy_vjp/reference"]
    toy.clear()
    toy_op(x).sum().backward()
    assert toy == ["toy/fast", "toy_vjp/fast"]
    from scratchgen.declare import OPS

    del OPS["toy_op"]


def test_nothing_that_fits_says_what_was_asked_for(toy):
    kernels.kernel("toy_only", impl="fast", device="cpu", dtypes="f4")(lambda x: x)
    try:
        with pytest.raises(NotImplementedError, match=r"toy_only has no kernel for float64\[3\] on cpu"):
            kernels.select("toy_only", "cpu", (F8,), {})
    finally:
        registry._table.pop("toy_only")


def test_a_name_cannot_be_taken_twice():
    def other(key, **attrs):
        return key

    with pytest.raises(ValueError, match=r"philox_bits/reference is already defined in scratchgen.kernels.philox"):
        kernels.kernel("philox_bits")(other)


@pytest.mark.parametrize("op", kernels.comparable())
def test_every_kernel_agrees_with_its_reference(op):
    """In float32 and float64, on inputs that must not be written to."""
    seen = set()
    for dtype in ("float32", "float64"):
        for c in kernels.compare(op, dtype=dtype):
            assert c.passed, f"{c.op}/{c.impl} on {c.case} in {c.dtype}: error {c.error:.1e}, allowed {c.tolerance:.0e}"
            seen.add(c.impl)
    assert seen == set(kernels.implementations(op, "cpu")), "an implementation that no case fits"


def test_compare_finds_a_wrong_kernel_and_times_a_right_one():
    kernels.kernel("philox_uniform", impl="wrong", device="cpu", study=True)(
        lambda key, *, counter, count, dtype: np.full(count, 0.5, dtype)
    )
    try:
        results = list(kernels.compare("philox_uniform", ["wrong", "numba"], repeats=2))
        verdicts = {c.impl: [r.passed for r in results if r.impl == c.impl] for c in results}
        assert not any(verdicts["wrong"])
        assert all(verdicts["numba"])
        assert all(c.seconds > 0 for c in results)
    finally:
        registry._table["philox_uniform"].pop("wrong")
        registry._candidates.clear()
