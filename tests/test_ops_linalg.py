"""Linear algebra: torch's values and gradients, batched, right to second order, and refusals that name the op."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import assert_like_torch, both, lying, torch

import scratchgen as sg
import scratchgen.linalg as L
from scratchgen.testing import check_grad

T = torch.linalg
rng = np.random.default_rng(0)


def of(m):
    """The linear algebra of either library."""
    return L if m is sg else T


def square(x):
    """Well-conditioned square matrices made from any."""
    return x + 3 * _eye(x)


def definite(x):
    return x @ x.mT + _eye(x)


def _eye(x):
    return x.new_zeros(x.shape[-1], x.shape[-1]) + (sg if isinstance(x, sg.Tensor) else torch).eye(
        x.shape[-1], dtype=x.dtype
    )


OF_SQUARE = {  # of a batch of square matrices
    "inverse": lambda m, x: m.inverse(square(x)),
    "inv": lambda m, x: of(m).inv(square(x)),
    "det": lambda m, x: m.det(x),
    "slogdet": lambda m, x: m.slogdet(square(x))[1],
    "logdet": lambda m, x: m.logdet(definite(x)),
    "matrix_power": lambda m, x: of(m).matrix_power(x, 5),
    "matrix_power 0": lambda m, x: x.matrix_power(0) * x,
    "matrix_power 1": lambda m, x: m.matrix_power(x, 1),
    "matrix_power -3": lambda m, x: of(m).matrix_power(square(x), -3),
    "cholesky": lambda m, x: of(m).cholesky(definite(x)),
    "cholesky upper": lambda m, x: of(m).cholesky(definite(x), upper=True),
    "eigvalsh": lambda m, x: of(m).eigvalsh(definite(x)),
    "eigh's values": lambda m, x: of(m).eigh(definite(x))[0],
    "eigh's vectors squared": lambda m, x: of(m).eigh(definite(x))[1] ** 2,
    "solve": lambda m, x: of(m).solve(square(x), x.mT),
    "solve from the right": lambda m, x: of(m).solve(square(x), x[..., :2, :], left=False),
    "solve a vector": lambda m, x: of(m).solve(square(x), x[..., 0]),
    "solve many for one": lambda m, x: of(m).solve(square(x)[(0,) * (x.ndim - 2)], x),
    "solve one for many": lambda m, x: of(m).solve(square(x), x[(0,) * (x.ndim - 2)][:, :2]),
    "solve_triangular": lambda m, x: of(m).solve_triangular(square(x), x, upper=False),
    "solve_triangular upper": lambda m, x: of(m).solve_triangular(square(x), x[..., :1], upper=True),
    "solve_triangular right": lambda m, x: of(m).solve_triangular(square(x), x[..., :2, :], upper=True, left=False),
    "solve_triangular unit": lambda m, x: of(m).solve_triangular(x, x.mT, upper=True, unitriangular=True),
    "solve_triangular unit lower": lambda m, x: of(m).solve_triangular(
        x, x, upper=False, left=False, unitriangular=True
    ),
    "solve_triangular many for one": lambda m, x: of(m).solve_triangular(
        square(x)[(0,) * (x.ndim - 2)], x, upper=False
    ),
}


@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4), (1, 1)])
@pytest.mark.parametrize("label", OF_SQUARE)
def test_square_matrices_are_torchs_and_right_to_second_order(label, shape):
    function = OF_SQUARE[label]
    for x in list(lying(shape))[:4]:  # matrices of equal rows, the fifth layout, are singular
        assert_like_torch(*both(function), x, rtol=1e-8, atol=1e-9)
    check_grad(lambda x: function(sg, x).sin(), x, order=2)


OF_ANY = {  # of a batch of matrices
    "qr": lambda m, x: of(m).qr(x)[0],
    "qr's R": lambda m, x: of(m).qr(x)[1],
    "svd's U": lambda m, x: of(m).svd(x, full_matrices=False)[0] ** 2,
    "svd's S": lambda m, x: of(m).svd(x, full_matrices=False)[1],
    "svd's Vh": lambda m, x: of(m).svd(x, full_matrices=False)[2] ** 2,
    "svd back": lambda m, x: (lambda u, s, vh: u * (s.unsqueeze(-2) + 1) @ vh)(*of(m).svd(x, full_matrices=False)),
    "svdvals": lambda m, x: of(m).svdvals(x),
    "pinv": lambda m, x: of(m).pinv(x),
    "pinverse": lambda m, x: m.pinverse(x),
    "nuclear norm": lambda m, x: of(m).matrix_norm(x, "nuc"),
    "spectral norm": lambda m, x: of(m).matrix_norm(x, 2, keepdim=True),
    "smallest singular value": lambda m, x: of(m).matrix_norm(x, -2, dim=(-1, -2)),
    "Frobenius norm": lambda m, x: of(m).matrix_norm(x),
    "column norm": lambda m, x: of(m).matrix_norm(x, 1),
    "least column norm": lambda m, x: of(m).matrix_norm(x, -1, keepdim=True),
    "row norm": lambda m, x: of(m).matrix_norm(x, float("inf")),
    "least row norm": lambda m, x: of(m).matrix_norm(x, -float("inf"), dim=(0, -1)),
    "rank": lambda m, x: of(m).matrix_rank(x),
}


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (2, 2, 4), (2, 4, 2)])
@pytest.mark.parametrize("label", OF_ANY)
def test_any_matrices_are_torchs_and_right_to_second_order(label, shape):
    function = OF_ANY[label]
    for x in list(lying(shape))[:4]:
        assert_like_torch(*both(function), x, rtol=1e-7, atol=1e-8)
    check_grad(lambda x: function(sg, x).sin() if "rank" not in label else x, x, order=2, step=0.01)


def test_third_order():
    x = rng.standard_normal((3, 3))
    for function in (lambda x: L.cholesky(definite(x)), lambda x: L.inv(square(x)), lambda x: sg.logdet(definite(x))):
        check_grad(lambda x, f=function: f(x), x, order=3)


def test_single_precision_stays_single():
    x = rng.standard_normal((2, 3, 3)).astype(np.float32)
    for name in ("inverse", "det", "slogdet", "logdet", "cholesky", "eigvalsh", "solve", "solve_triangular"):
        function = OF_SQUARE[name]
        assert_like_torch(*both(function), x, rtol=2e-3, atol=2e-3)


def test_no_elements():
    x = sg.zeros(2, 0, 0)
    assert L.inv(x).shape == L.cholesky(x).shape == L.solve(x, x).shape == (2, 0, 0)
    assert L.solve_triangular(x, sg.zeros(2, 0, 3), upper=True).shape == (2, 0, 3)
    assert sg.det(x).tolist() == [1, 1]
    assert L.matrix_norm(sg.zeros(2, 0, 3)).tolist() == [0, 0]
    assert L.matrix_rank(x).tolist() == [0, 0]
    assert [y.shape for y in L.qr(sg.zeros(0, 2, 2))] == [(0, 2, 2), (0, 2, 2)]


def test_the_pseudo_inverse_of_a_matrix_of_lower_rank():
    low = rng.standard_normal((4, 2)), rng.standard_normal((2, 3))
    assert_like_torch(lambda a, b: L.pinv(a @ b), lambda a, b: T.pinv(a @ b), *low, rtol=1e-8, atol=1e-9)
    check_grad(lambda a, b: L.pinv(a @ b).sin(), *low, order=2)
    assert L.matrix_rank(sg.tensor(low[0] @ low[1])).item() == 2


def test_equal_values_have_derivatives_though_their_vectors_have_none():
    x = sg.eye(3, dtype=sg.float64).requires_grad_()
    for function in (L.eigvalsh, L.svdvals):
        np.testing.assert_allclose(sg.grad(function(x).sum(), x)[0].numpy(), np.eye(3), atol=1e-12)
    with np.errstate(all="ignore"):
        assert np.isnan(sg.grad(L.eigh(x).eigenvectors.sum(), x)[0].numpy()).all()


def test_logarithms_of_determinants_that_are_not_positive():
    x = sg.tensor([[[1.0, 0.0], [0.0, -2.0]], [[1.0, 1.0], [1.0, 1.0]]])
    np.testing.assert_array_equal(sg.logdet(x).numpy(), [np.nan, -np.inf])
    sign, logabs = sg.slogdet(x)
    assert sign.tolist() == [-1, 0]
    assert not sg.slogdet(x.requires_grad_()).sign.requires_grad
    np.testing.assert_allclose(logabs.numpy(), [np.log(2), -np.inf], rtol=1e-6)


def test_full_svd_has_values_only():
    x = sg.tensor(rng.standard_normal((3, 2)))
    u, s, vh = L.svd(x)
    np.testing.assert_allclose((u[:, :2] * s @ vh).numpy(), x.numpy(), atol=1e-12)
    assert u.shape == (3, 3)
    with pytest.raises(ValueError, match=r"svd: of shape \[3, 2\] it is differentiable only with full_matrices=False"):
        L.svd(x.requires_grad_())


x, singular = sg.zeros(2, 3), sg.ones(2, 2, 2)
MISTAKES = [
    (lambda: L.inv(x), ValueError, r"inverse: expects square matrices \[..., n, n\], got shape \[2, 3\]"),
    (lambda: L.inv(x[:, :2].long()), TypeError, r"inverse: expects float32 or float64, got int64"),
    (lambda: L.qr(x[0]), ValueError, r"qr: expects matrices \[..., m, n\], got shape \[3\]"),
    (lambda: L.solve(singular, x.mT), ValueError, r"solve: A of shape \[2, 2, 2\] does not fit B of shape"),
    (lambda: L.solve(sg.eye(2), x.double()), TypeError, r"solve: A is float32, B is float64"),
    (lambda: L.solve(sg.eye(2), x[:, 0], left=False), ValueError, r"solve: left=False needs a matrix B"),
    (lambda: L.solve_triangular(sg.eye(2), x[0, :2], upper=True, left=False), ValueError, r"B must be a matrix"),
    (lambda: L.matrix_power(x, 2), ValueError, r"matrix_power: expects square matrices"),
    (lambda: L.matrix_norm(x, 3), ValueError, r"matrix_norm: ord must be"),
    (lambda: L.inv(singular[0]), np.linalg.LinAlgError, r"inverse: a singular matrix\n"),
    (lambda: L.inv(sg.stack([sg.eye(2), singular[0]])), np.linalg.LinAlgError,
     r"inverse: a singular matrix at \[1\] of the batch"),
    (lambda: L.solve(singular, singular), np.linalg.LinAlgError, r"solve: a singular matrix at \[0\] of the batch"),
    (lambda: L.solve_triangular(x[:, :2], x, upper=True), np.linalg.LinAlgError,
     r"solve_triangular: a matrix with a zero on its diagonal"),
    (lambda: L.cholesky(-sg.eye(2)), np.linalg.LinAlgError, r"cholesky: a matrix is not positive-definite"),
    (lambda: L.svdvals(x * float("nan")), np.linalg.LinAlgError, r"svdvals: the iteration did not converge"),
    (lambda: sg.det(singular.requires_grad_()).sum().backward(), np.linalg.LinAlgError, r"a singular matrix"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes_and_refusals_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
