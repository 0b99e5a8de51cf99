"""Planted bugs: the table's make-up; the ci profile finds them; other libraries' checkers are asked right."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

import scratchgen as sg
from scratchgen.testing.mutants import ops as ops  # enters the mutants
from scratchgen.testing.mutants.foreign import as_hips_function, as_jax_function
from scratchgen.testing.mutants.plant import MUTANTS, planted
from scratchgen.testing.mutants.table import CHECKERS, Row, Table, caught, merge, write

CI = CHECKERS["scratchgen ci"][1]
CONTROLS = [name for name, m in MUTANTS.items() if not m.size]


def test_the_table_has_what_it_promises():
    kinds = Counter(m.kind for m in MUTANTS.values() if m.size)
    assert sum(kinds.values()) >= 40
    assert set(kinds) >= {
        "wrong sign", "dropped term", "transposed axes", "off by one", "un-broadcast", "wrong mask",
        "stale saved value", "detached term", "non-contiguous", "relative error", "accumulation",
    }  # fmt: skip
    assert kinds["relative error"] == 24
    assert len(CONTROLS) == 6


@pytest.mark.parametrize("name", MUTANTS)
def test_the_ci_profile_finds_each_mutant_and_passes_each_control(name):
    assert caught(MUTANTS[name], CI, run=0) == bool(MUTANTS[name].size)


def test_every_case_is_the_same_in_every_run():
    for m in MUTANTS.values():
        a, b = (m.make(np.random.default_rng(5))[1] for _ in range(2))
        assert [x.strides for x in a] == [x.strides for x in b]
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_a_planted_function_has_the_right_value_and_the_given_derivative():
    op = planted(lambda x: sg.exp(x), lambda gs, g, y, x: [gs[0] * 3])
    x = sg.tensor([0.5, 1.0], dtype="float64", requires_grad=True)
    np.testing.assert_array_equal(op(x).detach().numpy(), np.exp([0.5, 1.0]))
    (g,) = sg.grad(op(x).sum(), x, create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), 3 * np.exp([0.5, 1.0]), rtol=1e-15)
    (h,) = sg.grad(g.sum(), x)
    np.testing.assert_allclose(h.numpy(), 3 * np.exp([0.5, 1.0]), rtol=1e-15)


def product(x: sg.Tensor, y: sg.Tensor) -> sg.Tensor:
    return x * x * y


def test_jax_gets_our_value_and_both_orders():
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        f = as_jax_function(product)
        one = lambda a: f(a, jax.numpy.array([3.0, 4.0])).sum()  # noqa: E731
        x = jax.numpy.array([0.5, 2.0])
        np.testing.assert_allclose(f(x, x), [0.125, 8.0], rtol=1e-15)
        np.testing.assert_allclose(jax.grad(one)(x), [3.0, 16.0], rtol=1e-15)
        np.testing.assert_allclose(jax.grad(lambda a: jax.grad(one)(a).sum())(x), [6.0, 8.0], rtol=1e-15)


def test_hips_gets_our_value_and_both_orders():
    autograd = pytest.importorskip("autograd")
    f = as_hips_function(product)
    one = lambda a: autograd.numpy.sum(f(a, np.array([3.0, 4.0])))  # noqa: E731
    x = np.array([0.5, 2.0])
    np.testing.assert_allclose(autograd.grad(one)(x), [3.0, 16.0], rtol=1e-15)
    twice = autograd.grad(lambda a: autograd.numpy.sum(autograd.grad(one)(a)))
    np.testing.assert_allclose(twice(x), [6.0, 8.0], rtol=1e-15)


@pytest.mark.parametrize("checker", [name for name in CHECKERS if not name.startswith("scratchgen")])
def test_other_checkers_find_a_gross_bug_and_pass_a_right_op(checker):
    package, asked = CHECKERS[checker]
    pytest.importorskip(package)
    assert caught(MUTANTS["tanh: 1 + y^2"], asked, run=0)
    assert not caught(MUTANTS["tanh, right"], asked, run=0)


def test_figures_of_checkers_asked_before_are_kept(tmp_path):
    row = Row("tanh, right", "control", 0.0, {"torch gradcheck": 0}, {"torch gradcheck": 0})
    write(tmp_path / "m", Table(2, 3, {"torch": "2"}, [row]))
    later = Row("tanh, right", "control", 0.0, {"scratchgen ci": 0}, {"scratchgen ci": 0})
    found = Table(2, 3, {"numpy": "2"}, [later])
    write(tmp_path / "m", found)
    content = json.loads((tmp_path / "m.json").read_text())
    assert content["rows"][0]["caught"] == {"scratchgen ci": 0, "torch gradcheck": 0}
    assert content["versions"] == {"numpy": "2", "torch": "2"}
    assert "| tanh, right | control | 0 | 0 | 0 |" in (tmp_path / "m.md").read_text()
    other = Table(5, 3, {}, [Row("tanh, right", "control", 0.0, {"scratchgen ci": 0})])
    merge(content, other)  # made with another number of runs
    assert other.rows[0].caught == {"scratchgen ci": 0}


def test_all_caught_means_every_run_and_no_false_alarm():
    def table(size: float, count: int) -> Table:
        return Table(20, 3, {}, [Row("m", "k", size, {"scratchgen ci": count})])

    assert table(1e-6, 20).all_caught
    assert not table(1e-6, 19).all_caught
    assert table(1e-7, 3).all_caught  # smaller ones are shown, and not promised
    assert table(0.0, 0).all_caught
    assert not table(0.0, 1).all_caught
