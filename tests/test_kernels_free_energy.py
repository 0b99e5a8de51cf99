"""The free energy of restricted Boltzmann machines: its kernels, its gradient, and what it is by enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from threads import assert_one_thread_gives_the_same_bits

import scratchgen as sg
from scratchgen import kernels
from scratchgen.nn import functional as F


@pytest.mark.parametrize("op", ["free_energy", "free_energy_vjp"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_implementation_is_the_reference(op: str, dtype: str) -> None:
    found = list(kernels.compare(op, dtype=dtype))
    assert {c.impl for c in found} == ({"reference", "numba"} if dtype == "float32" else {"reference"})
    for c in found:
        assert c.passed, f"{c.impl} on {c.case}: {c.error:.1e}"


def machine(rows: int, visible: int, hidden: int, dtype: str = "float32") -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    v = rng.integers(2, size=(rows, visible))
    shapes = (hidden, visible), (visible,), (hidden,), (hidden,)
    return [a.astype(dtype) for a in (v, *(rng.standard_normal(s) / 3 for s in shapes))]


def test_it_is_the_sum_over_all_states_of_the_hidden_units() -> None:
    v, weight, b, c, offset = machine(6, 5, 4, "float64")
    z = v @ weight.T + c
    states = np.array(list(itertools.product([0, 1], repeat=4)))
    weighs = np.exp((v @ b)[:, None] + z @ states.T - (z @ offset)[:, None])
    energy = F.free_energy(*map(sg.tensor, (v, weight, b, c, offset))).numpy()
    np.testing.assert_allclose(energy, -np.log(weighs.sum(1)), rtol=1e-12)


def test_one_thread_and_all_give_the_same_bits() -> None:
    arrays = machine(201, 300, 211)

    def everything() -> list[np.ndarray]:
        inputs = [sg.tensor(a, requires_grad=True) for a in arrays]
        energy = F.free_energy(*inputs)
        return [t.numpy(force=True) for t in (energy, *sg.grad((energy**2).sum(), inputs))]

    with kernels.use(free_energy="numba"):
        assert_one_thread_gives_the_same_bits(everything)


def test_what_does_not_fit_is_refused() -> None:
    v, weight, b, c, offset = map(sg.tensor, machine(3, 5, 4))
    for wrong in ((v[0], weight, b, c, offset), (v, weight, c, c, offset), (v, weight, b, b, offset)):
        with pytest.raises(ValueError, match="free_energy: expected v"):
            F.free_energy(*wrong)
    with pytest.raises(TypeError, match="float64"):
        F.free_energy(v, weight, b, c.double(), offset)
