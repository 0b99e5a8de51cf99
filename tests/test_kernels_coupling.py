"""What Glow has in one op: kernels against the reference, ops against their pieces to the second order, errors."""

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


# --- filters


@pytest.mark.parametrize("op", [f"{op}{end}" for op in ("scaled_filters", "mixing_filters") for end in ("", "_vjp")])
def test_filters_agree_with_those_in_float64(op: str) -> None:
    results = list(kernels.compare(op))
    assert {r.impl for r in results} == {"reference", "numba"}
    assert [r for r in results if not r.passed] == []


def of_matrices(*parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    permutation, lower, upper, sign, log_s, log_scale, bias = parameters
    matrix = permutation @ (lower.tril(-1) + sg.eye(4)) @ (upper.triu(1) + sg.diag(sign * sg.exp(log_s)))
    return matrix @ sg.diag(sg.exp(log_scale)), matrix @ (sg.exp(log_scale) * bias), log_s.sum() + log_scale.sum()


def of_pieces(weight: Tensor, bias: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    return weight * sg.exp(1.5 * log_scale)[:, None, None], bias * sg.exp(1.5 * log_scale)


@pytest.mark.parametrize(
    ("op", "pieces", "shapes"),
    [
        (F.mixing_filters, of_matrices, [(4, 4)] * 3 + [(4,)] * 4),
        (lambda *xs: F.scaled_filters(*xs, 1.5), of_pieces, [(3, 2, 5), (3,), (3,)]),
    ],
)
def test_filters_and_their_gradients_are_those_of_the_pieces(op, pieces, shapes) -> None:
    """Of all inputs, the permutation and the signs among them, and to the second order."""
    rng, found = np.random.default_rng(0), []
    inputs = [sg.tensor(0.5 * rng.standard_normal(shape)).requires_grad_() for shape in shapes]
    for function in (op, pieces):
        made = function(*inputs)
        loss = sum((y * sg.cos(y + i)).sum() for i, y in enumerate(made))
        plain = sg.grad(loss, inputs, retain_graph=True)
        first = sg.grad(loss, inputs, create_graph=True)
        second = sg.grad(sum((g**2).sum() for g in first), inputs)
        found.append([*made, *plain, *first, *second])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.numpy(force=True), other.numpy(force=True), rtol=1e-9, atol=1e-9)


def test_the_determinant_is_that_of_the_matrix() -> None:
    rng = np.random.default_rng(0)
    matrices = [sg.tensor(a) for a in (np.eye(5)[[3, 1, 4, 0, 2]], *(0.4 * rng.standard_normal((2, 5, 5))))]
    rows = [sg.tensor(a) for a in (np.array([1.0, -1, 1, 1, -1]), *rng.standard_normal((3, 5)))]
    weight, _, log_det = F.mixing_filters(*matrices, *rows)
    assert log_det.item() == pytest.approx(np.linalg.slogdet(weight.numpy())[1])


def test_filters_of_shapes_that_do_not_go_together_are_named() -> None:
    with pytest.raises(ValueError, match=r"bias and log_scale \[out\], got \[\[3, 2\], \[3\], \[2\]\]"):
        F.scaled_filters(sg.zeros(3, 2), sg.zeros(3), sg.zeros(2))
    with pytest.raises(ValueError, match="three matrices"):
        F.mixing_filters(*[sg.zeros(3, 3)] * 3, *[sg.zeros(3)] * 3, sg.zeros(2))


def test_shapes_that_do_not_go_together_are_named() -> None:
    x = sg.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"h \[N, 2 C, ...\], got \[\[2, 3, 4\], \[2, 3, 4\], \[2, 3, 4\]\]"):
        F.affine_coupling(x, x, x)
    with pytest.raises(TypeError, match="inputs of float32, float32, float64 differ"):
        F.affine_coupling(x, x, sg.zeros(2, 6, 4, dtype="float64"))
