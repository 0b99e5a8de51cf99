"""The catalogue of ops in torch and here: values and first gradients, in every memory layout, both precisions.

The same lines run in both libraries, so this is also the test that code ports by changing its import.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest

import scratchgen as sg
from scratchgen.testing.catalogue import CASES, Case, Library

torch = pytest.importorskip("torch", reason="the second library of these tests")
SG, TORCH = Library(sg), Library(torch)
COMPARED = [name for name, case in CASES.items() if not case.unlike_torch]
# Of these torch computes values only, and says so.
NO_DERIVATIVE_THERE = {
    *(name for name in COMPARED if name.startswith("floor_divide")), "quotients by numbers", "scatter_add of a part",
}  # fmt: skip


class Result(NamedTuple):
    """Outputs, and gradients in the floating inputs (None where independent), as NumPy arrays."""

    outputs: list[np.ndarray]
    gradients: list[np.ndarray | None]


def rounded(case: Case) -> list[np.ndarray]:
    """Inputs that float32 holds exactly, so that one truth serves both precisions."""
    return [a.astype(np.float32).astype(np.float64) if a.dtype.kind == "f" else a for a in case.arrays()]


def cotangent(i: int, y: Any) -> np.ndarray:
    """For output number ``i``; the same in both libraries, and exact in float32."""
    return np.random.default_rng(i).integers(-8, 9, tuple(y.shape)) / 8


def as_tuple(y: Any) -> tuple:
    return tuple(y) if isinstance(y, (tuple, list)) else (y,)


def ours(case: Case, arrays: list[np.ndarray], layout: str = "contiguous") -> Result:
    """Here; the inputs keep their layouts, and the cotangents get ``layout``."""
    given = [a.copy() for a in arrays]
    xs = [sg.as_tensor(a) for a in arrays]
    variables = [x.requires_grad_() for x in xs if x.dtype.kind == "f"]
    ys = as_tuple(case.function(SG, *xs))
    live = [(i, y) for i, y in enumerate(ys) if y.requires_grad]
    gs = [sg.as_tensor(lay(layout, np.asarray(cotangent(i, y), y.dtype))) for i, y in live]
    found = sg.grad([y for _, y in live], variables, gs, allow_unused=True) if live else [None] * len(variables)
    for a, before in zip(arrays, given, strict=True):
        np.testing.assert_array_equal(a, before, err_msg="an input was changed")
    for x, g in zip(variables, found, strict=True):
        assert g is None or (g.shape, g.dtype) == (x.shape, x.dtype)
    return Result([y.detach().numpy() for y in ys], [None if g is None else g.numpy() for g in found])


def theirs(case: Case, arrays: list[np.ndarray]) -> Result:
    """In torch."""
    xs = [torch.from_numpy(a.copy()) for a in arrays]
    variables = [x.requires_grad_() for x in xs if x.is_floating_point()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice on its own reductions and defaults
        ys = as_tuple(case.function(TORCH, *xs))
        live = [(i, y) for i, y in enumerate(ys) if y.requires_grad]
        gs = [torch.from_numpy(np.asarray(cotangent(i, y))).to(y.dtype) for i, y in live]
        found = (None,) * len(variables)
        if case.name in NO_DERIVATIVE_THERE:
            with pytest.raises(RuntimeError, match=r"not implemented|invalid gradient"):
                torch.autograd.grad([y for _, y in live], variables, gs)
        elif live:
            found = torch.autograd.grad([y for _, y in live], variables, gs, allow_unused=True)
    return Result([y.detach().numpy() for y in ys], [None if g is None else g.numpy() for g in found])


def assert_close(found: Result, truth: Result, tolerance: float, what: str) -> None:
    """Each output and gradient is within ``tolerance`` times its largest number; gradients of nothing may be zero."""
    assert len(found.outputs) == len(truth.outputs)
    for i, (a, b) in enumerate(zip(found.outputs, truth.outputs, strict=True)):
        _compare(a, b, tolerance, f"{what}, output {i}")
    for i, (a, b) in enumerate(zip(found.gradients, truth.gradients, strict=True)):
        a, b = (np.zeros(1) if g is None else g for g in (a, b))
        if a.shape != b.shape and not a.any() and not b.any():
            continue
        _compare(a, b, tolerance, f"{what}, gradient in variable {i}")


def _compare(a: np.ndarray, b: np.ndarray, tolerance: float, what: str) -> None:
    assert a.shape == b.shape, what
    finite = np.abs(b[np.isfinite(b)])
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * finite.max(initial=1e-30), err_msg=what)


# --- layouts


def transposed(a: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(a.T).T


def sliced(a: np.ndarray) -> np.ndarray:
    """Every second element of an array twice as long in each dimension, whose other elements are no numbers."""
    wide = np.full([2 * n + 1 for n in a.shape], -99, a.dtype)
    view = wide[(slice(1, None, 2),) * a.ndim]
    view[...] = a
    return view


def backwards(a: np.ndarray) -> np.ndarray:
    """In memory from the last element to the first."""
    turn = (slice(None, None, -1),) * a.ndim
    return a[turn].copy()[turn]


LAYOUTS = {"contiguous": np.copy, "transposed": transposed, "sliced": sliced, "backwards": backwards}


def lay(layout: str, a: np.ndarray) -> np.ndarray:
    """Laid out anew; 0-d arrays have only one layout."""
    return LAYOUTS[layout](a) if a.ndim else a


# --- the comparison


@pytest.mark.parametrize("name", COMPARED)
def test_values_and_gradients_are_torchs(name):
    case = CASES[name]
    arrays = rounded(case)
    truth = theirs(case, arrays)
    tolerance = max(1e-9, CASES[name].torch_error)
    for layout in LAYOUTS:
        found = ours(case, [lay(layout, a) for a in arrays], layout)
        if name in NO_DERIVATIVE_THERE:
            found = Result(found.outputs, truth.gradients)
        assert_close(found, truth, tolerance, layout)
    single = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in arrays]
    found = ours(case, single)
    if name in NO_DERIVATIVE_THERE:
        found = Result(found.outputs, truth.gradients)
    assert_close(found, truth, 2e-4, "float32")
    expected = theirs(case, single)
    assert [y.dtype for y in found.outputs] == [y.dtype for y in expected.outputs]


@pytest.mark.parametrize("name", CASES)
def test_the_result_does_not_depend_on_the_layout(name):
    """All against the contiguous one; the zero-stride one has other values, repeated along the first dimension."""
    case = CASES[name]
    arrays = case.arrays()
    whole = ours(case, arrays)
    for layout in LAYOUTS:
        assert_close(ours(case, [lay(layout, a) for a in arrays], layout), whole, 1e-12, layout)
    repeated = [
        np.broadcast_to(a[:1], a.shape) if a.ndim > case.core(i) and len(a) else a for i, a in enumerate(arrays)
    ]
    with np.errstate(all="ignore"):
        whole = ours(case, [a.copy() for a in repeated])
        assert_close(ours(case, repeated), whole, 1e-9, "zero-stride")
