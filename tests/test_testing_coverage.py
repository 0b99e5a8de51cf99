"""The coverage gate: it fails on any op without a case, an order or an implementation's verdict; and it can fail."""

from __future__ import annotations

import inspect
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import kernels
from scratchgen.declare import OPS, primitive
from scratchgen.testing import gate
from scratchgen.testing.catalogue import CASES, WITHOUT_DERIVATIVE, Library


@pytest.fixture(scope="module")
def seen():
    return gate.watch()


def test_every_op_is_differentiated_twice_in_each_input_and_by_each_implementation(seen):
    rows = gate.survey(seen)
    assert len(rows) > 140
    assert not [gap for row in rows for gap in row.gaps]
    softmax = next(row for row in rows if row.op == "softmax")
    assert (softmax.kind, softmax.inputs, softmax.first, softmax.second) == ("fused", 1, 1, 1)
    assert len(softmax.implementations) > 1
    assert "reference numba" in softmax.line()


@pytest.fixture
def new_op():
    """An op that nobody has written a row for."""
    op = primitive("brand_new", np.sin, (lambda g, y, x: g * x.cos(),), "x")
    yield op
    del OPS["brand_new"]


def test_an_op_without_a_row_is_a_gap(seen, new_op):
    (row,) = [row for row in gate.survey(seen) if row.op == "brand_new"]
    assert row.gaps == ("brand_new is in no row of the catalogue",)


def test_an_op_that_is_differentiated_once_only_is_a_gap(new_op):
    seen = gate.Coverage()
    with seen:
        x = sg.tensor([0.5, 2.0], requires_grad=True)
        sg.grad(new_op(x).sum(), x)
    seen.rows["brand_new"] = 1
    assert gate._row("brand_new", seen).gaps == ("no row differentiates brand_new to second order in input [0]",)
    with seen:
        sg.grad(new_op(x).sum(), x, create_graph=True)
    assert gate._row("brand_new", seen).gaps == ()


def test_an_implementation_without_a_case_that_it_takes_is_a_gap(seen, monkeypatch):
    never = kernels.Kernel("softmax", "never", np.sin, when=lambda *arrays, **attrs: False)
    monkeypatch.setitem(kernels.registry._table["softmax"], "never", never)
    (row,) = [row for row in gate.survey(seen) if row.op == "softmax"]
    assert row.gaps == ("no case of softmax is one that never takes",)
    assert "never(none)" in row.line()


def test_inputs_that_are_constants_by_design_are_really_given(seen):
    assert set(gate.CONSTANTS) <= seen.given


NOT_MATHEMATICS = {"generator", "dtype", "device", "requires_grad", "stable", "sorted", "return_indices"}


class Recorder:
    """A module that notes which of its functions are called with which options away from their defaults."""

    def __init__(self, module: Any, used: dict[str, set[str]]) -> None:
        self._module, self._used = module, used

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        if inspect.ismodule(value):
            return Recorder(value, self._used)
        if not inspect.isfunction(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            used = self._used[value.__name__]
            bound = inspect.signature(value).bind(*args, **kwargs)
            for key, given in bound.arguments.items():
                default = inspect.signature(value).parameters[key].default
                if default is inspect.Parameter.empty or given is not default:
                    used.add(key)
            return value(*args, **kwargs)

        return call


def test_every_option_of_every_public_function_is_in_the_catalogue():
    used: dict[str, set[str]] = defaultdict(set)
    library = Library(Recorder(sg, used))
    for case in CASES.values():
        case.function(library, *[sg.tensor(a) for a in case.arrays()])
    missing = []
    for namespace in (sg.ops, sg.linalg):
        for public in namespace.__all__:
            function = getattr(namespace, public)
            if public in WITHOUT_DERIVATIVE or not inspect.isfunction(function):
                continue
            optional = {
                p.name
                for p in inspect.signature(function).parameters.values()
                if p.default is not p.empty and p.name not in NOT_MATHEMATICS
            }
            if function.__name__ not in used:
                missing.append(public)
            missing += [f"{public}({option}=)" for option in sorted(optional - used[function.__name__])]
    assert not missing, f"the catalogue has no case for {', '.join(missing)}"
