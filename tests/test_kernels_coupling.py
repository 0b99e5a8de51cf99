"""The affine coupling: kernels against the reference, the op against its pieces to the second order, its errors."""

from __future__ import annotations

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import Tensor, kernels
from scratchgen.nn import functional as F


@pytest.mark.parametrize("op", ["affine_coupling", "affine_coupling_vjp"])
def test_kernels_agree_with_the_reference(op: str) -> None:
    results = list(kernels.compare(op))
    assert {r.impl for r in results} == {"reference", "numba"}
    assert [r for r in results if not r.passed] == []


def pieces(a: Tensor, b: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    shift, raw = h.chunk(2, 1)
    return sg.cat([(a + shift) * sg.sigmoid(raw + 2), b], 1), F.logsigmoid(raw + 2).flatten(1).sum(1)


def draw(shape: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    n, c, *image = shape
    last = [rng.standard_normal((n, *image, k), np.float32) for k in (2 * c, 2 * c)]
    x, h = (sg.as_tensor(np.moveaxis(a, -1, 1)).requires_grad_() for a in last)
    return [x, h]


@pytest.mark.parametrize("shape", [(40, 2, 14, 14), (3, 2, 2, 2), (600, 8)])
def test_value_and_gradients_are_those_of_the_pieces(shape: tuple[int, ...]) -> None:
    x, h = draw(shape)
    weights = [
        sg.tensor(np.random.default_rng(1).standard_normal(s).astype(np.float32)) for s in (x.shape, x.shape[:1])
    ]
    found = []
    for coupling in (F.affine_coupling, pieces):
        y, log_det = coupling(*x.chunk(2, 1), h)
        found.append([y, log_det, *sg.grad((y * weights[0]).sum() + (log_det * weights[1]).sum(), [x, h])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.numpy(force=True), other.numpy(force=True), rtol=1e-5, atol=1e-5)


def test_the_second_derivative_is_that_of_the_pieces() -> None:
    x, h = draw((40, 2, 14, 14))
    found = []
    for coupling in (F.affine_coupling, pieces):
        y, log_det = coupling(*x.chunk(2, 1), h)
        first = sg.grad((y**2).sum() + (log_det**2).sum(), [x, h], create_graph=True)
        found.append(sg.grad(sum((g**2).sum() for g in first), [x, h]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-4)


def test_results_depend_on_neither_layout_nor_threads() -> None:
    x, h = draw((40, 2, 14, 14))
    chosen = kernels.implementations("affine_coupling", "cpu")["numba"].fn
    a, b = x.numpy(force=True)[:, :2], x.numpy(force=True)[:, 2:]
    one = chosen(a, b, h.numpy(force=True))
    other = chosen(*(np.ascontiguousarray(part) for part in (a, b, h.numpy(force=True))))
    alone = [chosen(a[i : i + 3], b[i : i + 3], h.numpy(force=True)[i : i + 3]) for i in range(0, 39, 3)]
    for k in (0, 1):
        np.testing.assert_array_equal(one[k], other[k])
        np.testing.assert_array_equal(one[k][:39], np.concatenate([part[k] for part in alone]))
    assert one[0].strides[1] == 4  # channels last in, channels last out


def test_shapes_that_do_not_go_together_are_named() -> None:
    x = sg.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"h \[N, 2 C, ...\], got \[\[2, 3, 4\], \[2, 3, 4\], \[2, 3, 4\]\]"):
        F.affine_coupling(x, x, x)
    with pytest.raises(TypeError, match="inputs of float32, float32, float64 differ"):
        F.affine_coupling(x, x, sg.zeros(2, 6, 4, dtype="float64"))
