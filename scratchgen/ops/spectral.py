"""Eigenvalues of symmetric matrices, singular values, and what is made of them.

Derivatives as in M. Giles (2008), J. Townsend, "Differentiating the singular value decomposition" (2016), and G. Golub
and V. Pereyra (1973) for the pseudo-inverse. Vectors of equal values can be turned into one another, so where values
are equal the derivative of vectors is NaN; that of values alone is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..autograd import is_grad_enabled
from ..declare import method, primitive
from ..kernels.arrays import array_module
from ..tensor import Tensor, wrap
from .diagonal import diag_embed
from .dims import normalize_dims
from .linalg import check_matrices, lapack
from .reduce import vector_norm
from .shape import movedim, squeeze, unsqueeze

__all__ = ["pinverse"]


def _eye_like(x: Tensor) -> Tensor:
    return wrap(array_module(x.array).eye(x.shape[-1], dtype=x.dtype), x.device)


def _gaps(values: Tensor) -> Tensor:
    """``1 / (values[j] - values[i])`` at [i, j], and 0 on the diagonal."""
    gap = unsqueeze(values, -2) - unsqueeze(values, -1)
    eye = _eye_like(gap)
    return 1 / (gap + eye) - eye


# --- symmetric matrices


def _eigh_vjp(g: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor], x: Any) -> tuple[Tensor]:
    (gw, gv), (w, v) = g, y
    gx = v @ (diag_embed(gw) + _gaps(w) * (v.mT @ gv)) @ v.mT
    return ((gx + gx.mT) * 0.5,)


def _eigvalsh_vjp(g: Tensor, y: Any, x: Tensor) -> Tensor:
    v = _eigh(x)[1]
    return (v * unsqueeze(g, -2)) @ v.mT


_failed = "the iteration did not converge (are all elements finite?)"
_eigh = primitive(
    "eigh", lapack("eigh", _failed, lambda x: tuple(np.linalg.eigh(x))), _eigh_vjp, save="y", several=True
)
_eigvalsh = primitive("eigvalsh", lapack("eigvalsh", _failed, np.linalg.eigvalsh), (_eigvalsh_vjp,), save="x")


class Eigen(NamedTuple):
    """Eigenvalues in ascending order, and the eigenvectors as columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


def eigh(A: Tensor) -> Eigen:
    """``A = V diag(w) V^T`` of matrices [..., n, n] taken as symmetric: only their lower triangles are read."""
    return Eigen(*_eigh(check_matrices("eigh", A)))


def eigvalsh(A: Tensor) -> Tensor:
    """The eigenvalues of ``eigh``; their derivative exists where they are equal too."""
    return _eigvalsh(check_matrices("eigvalsh", A))


# --- any matrices


def _svd_vjp(g: tuple[Tensor, ...], y: tuple[Tensor, ...], x: Any) -> tuple[Tensor]:
    (gu, gs, gvh), (u, s, vh) = g, y
    gaps = _gaps(s * s)
    row, column = unsqueeze(s, -2), unsqueeze(s, -1)
    ugu, vgv = u.mT @ gu, vh @ gvh.mT
    inner = ((ugu - ugu.mT) * gaps) * row + column * ((vgv - vgv.mT) * gaps) + diag_embed(gs)
    gx = u @ inner @ vh
    if u.shape[-2] > u.shape[-1]:  # what of gu lies outside the span of u
        gx = gx + ((gu - u @ ugu) / row) @ vh
    if vh.shape[-1] > vh.shape[-2]:
        gx = gx + u @ ((gvh - vgv.mT @ vh) / column)
    return (gx,)


def _svdvals_vjp(g: Tensor, y: Any, x: Tensor) -> Tensor:
    u, _, vh = _svd(x)
    return (u * unsqueeze(g, -2)) @ vh


_svd = primitive(
    "svd",
    lapack("svd", _failed, lambda x: tuple(np.linalg.svd(x, full_matrices=False))),
    _svd_vjp,
    save="y",
    several=True,
)
_svd_full = primitive("svd_full", lapack("svd", _failed, lambda x: tuple(np.linalg.svd(x))), several=True)
_svdvals = primitive(
    "svdvals",
    lapack("svdvals", _failed, lambda x: np.linalg.svd(x, compute_uv=False)),
    (_svdvals_vjp,),
    save="x",
)


class Singular(NamedTuple):
    """Left singular vectors as columns, singular values in descending order, right singular vectors as rows."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def svd(A: Tensor, full_matrices: bool = True) -> Singular:
    """``A = U diag(S) Vh`` of matrices [..., m, n], where U is [..., m, m] and Vh [..., n, n].

    Without ``full_matrices``: their first k columns and rows, k the smaller of m and n. Only this is differentiable,
    because nothing determines the others.
    """
    check_matrices("svd", A, square=False)
    if not full_matrices or A.shape[-2] == A.shape[-1]:
        return Singular(*_svd(A))
    if A.requires_grad and is_grad_enabled():
        raise ValueError(f"svd: of shape {list(A.shape)} it is differentiable only with full_matrices=False")
    return Singular(*_svd_full(A))


def svdvals(A: Tensor) -> Tensor:
    """The singular values of ``svd``; their derivative exists where they are equal too."""
    return _svdvals(check_matrices("svdvals", A, square=False))


def matrix_rank(A: Tensor, *, atol: float = 0, rtol: float | None = None) -> Tensor:
    """How many singular values exceed ``atol`` and ``rtol`` times the largest; ``rtol``: max(m, n) rounding units."""
    values = svdvals(A).detach()
    if rtol is None:
        rtol = 0 if atol > 0 else _rounding(A)
    if values.shape[-1] == 0:
        return values.sum(-1).long()
    return (values > (values.amax(-1, True) * rtol).clamp(min=atol)).sum(-1)


def _rounding(x: Tensor) -> float:
    return float(np.finfo(x.dtype).eps) * max(x.shape[-2:])


# --- the pseudo-inverse


def _pinv_vjp(g: Tensor, y: Tensor, x: Tensor, *, rtol: float) -> Tensor:
    """Golub and Pereyra (1973): right as long as the rank stays the same."""
    outside_rows = g.mT - x @ (y @ g.mT)
    outside_columns = g.mT - (g.mT @ y) @ x
    return -(y.mT @ g @ y.mT) + (outside_rows @ y) @ y.mT + y.mT @ (y @ outside_columns)


_pinv = primitive(
    "pinverse", lapack("pinverse", _failed, lambda x, *, rtol: np.linalg.pinv(x, rtol)), (_pinv_vjp,), save="y x"
)


@method()
def pinverse(input: Tensor, rcond: float | None = None) -> Tensor:
    """The Moore-Penrose inverse [..., n, m] of matrices [..., m, n].

    Singular values below ``rcond`` times the largest count as 0; by default max(m, n) rounding units.
    """
    check_matrices("pinverse", input, square=False)
    return _pinv(input, rtol=_rounding(input) if rcond is None else rcond)


# --- norms


def matrix_norm(
    A: Tensor, ord: float | str = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False
) -> Tensor:
    """Norms of the matrices in the two dims ``dim``.

    ``ord``: ``"fro"`` (all elements), ``"nuc"`` (sum of singular values), 2 and -2 (largest and smallest singular
    value), 1 and -1 (largest and smallest column sum of magnitudes), inf and -inf (of rows).
    """
    rows, columns = normalize_dims("matrix_norm", tuple(dim), A.shape)
    if ord == "fro":
        return vector_norm(A, 2, (rows, columns), keepdim)
    if ord in (1, -1, math.inf, -math.inf):
        over, then = (rows, columns) if ord in (1, -1) else (columns, rows)
        sums = A.abs().sum(over, True)
        norms = sums.amax(then, True) if ord in (1, math.inf) else sums.amin(then, True)
    elif ord in ("nuc", 2, -2):
        values = svdvals(movedim(A, (rows, columns), (-2, -1)))
        norms = values.sum(-1) if ord == "nuc" else values.amax(-1) if ord == 2 else values.amin(-1)
        norms = unsqueeze(unsqueeze(norms, min(rows, columns)), max(rows, columns))
    else:
        raise ValueError(f"matrix_norm: ord must be 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, got {ord!r}")
    return norms if keepdim else squeeze(norms, (rows, columns))
