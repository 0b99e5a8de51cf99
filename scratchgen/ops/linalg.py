"""Linear algebra of (batches of) matrices: LAPACK for the values, matrix calculus for the derivatives.

The rules are those of M. Giles, "An extended collection of matrix derivative results" (2008), I. Murray,
"Differentiation of the Cholesky decomposition" (2016), and S. Walter and L. Lehmann, "Algorithmic differentiation of
linear algebra functions" (2010) for QR. They are written in Tensor ops, so all higher orders follow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..declare import method, primitive
from ..kernels.arrays import array_module
from ..tensor import Tensor, wrap
from .diagonal import diag_embed, diagonal, tril, triu
from .join import cat
from .mask import masked_fill
from .matmul import matmul
from .reduce import broadcast_to
from .shape import movedim, reshape, squeeze, unsqueeze

__all__ = [
    "cholesky", "det", "inverse", "logdet", "matrix_power", "qr", "slogdet", "solve", "solve_triangular",
]  # fmt: skip

# --- errors


def check_matrices(op: str, x: Tensor, square: bool = True) -> Tensor:
    """``x`` if it is what LAPACK takes."""
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        wanted = "square matrices [..., n, n]" if square else "matrices [..., m, n]"
        raise ValueError(f"{op}: expects {wanted}, got shape {list(x.shape)}")
    if x.dtype.kind != "f" or x.dtype == np.float16:
        raise TypeError(f"{op}: expects float32 or float64, got {x.dtype}; cast with .float() or .double()")
    return x


def lapack(op: str, problem: str, forward: Callable) -> Callable:
    """``forward`` with LAPACK's refusal in the words of ``op``. On a GPU nothing is refused: results hold NaN."""

    @wraps(forward)
    def inner(*arrays: Any, **attrs: Any) -> Any:
        try:
            return forward(*arrays, **attrs)
        except np.linalg.LinAlgError as error:
            raise np.linalg.LinAlgError(f"{op}: {problem}{_first_refused(forward, arrays, attrs)}") from error

    return inner


def _first_refused(forward: Callable, arrays: tuple, attrs: dict) -> str:
    """Which matrix of a batch it was."""
    for index in np.ndindex(*arrays[0].shape[:-2]):
        try:
            forward(*[array[index] for array in arrays], **attrs)
        except np.linalg.LinAlgError:
            return f" at {list(index)} of the batch" if index else ""
    return ""


# --- inverse and linear systems


def _solve_vjp(g: Tensor, y: Tensor, a: Tensor, b: Any) -> tuple[Tensor, Tensor]:
    gb = _solve(a.mT, g)
    return -(gb @ y.mT), gb


def _substitute(a: Any, b: Any, *, upper: bool, unit: bool) -> Any:
    """Row by row for the whole batch at once, which LAPACK's trtrs, made for one matrix, cannot do."""
    if not unit and isinstance(a, np.ndarray) and not np.diagonal(a, 0, -2, -1).all():
        raise np.linalg.LinAlgError
    n = a.shape[-1]
    out = b.copy()
    for i in reversed(range(n)) if upper else range(n):
        known = slice(i + 1, n) if upper else slice(0, i)
        row = out[..., i : i + 1, :]
        row -= a[..., i : i + 1, known] @ out[..., known, :]
        if not unit:
            row /= a[..., i : i + 1, i : i + 1]
    return out


def _solve_triangular_vjp(g: Tensor, y: Tensor, a: Tensor, b: Any, *, upper: bool, unit: bool) -> tuple:
    gb = _solve_triangular(a.mT, g, upper=not upper, unit=unit)
    ga = -(gb @ y.mT)
    return (triu(ga, int(unit)) if upper else tril(ga, -int(unit))), gb


_inverse = primitive(
    "inverse", lapack("inverse", "a singular matrix", np.linalg.inv), (lambda g, y, x: -(y.mT @ g @ y.mT),), save="y"
)
_solve = primitive("solve", lapack("solve", "a singular matrix", np.linalg.solve), _solve_vjp, save="y a")
_solve_triangular = primitive(
    "solve_triangular",
    lapack("solve_triangular", "a matrix with a zero on its diagonal", _substitute),
    _solve_triangular_vjp,
    save="y a",
)


@method()
def inverse(input: Tensor) -> Tensor:
    """Inverses of square matrices [..., n, n]. LinAlgError if one is singular."""
    return _inverse(check_matrices("inverse", input))


def _batched(op: str, solver: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """``solver`` of two equal batches. One matrix for many right-hand sides is factored once, for all their columns."""
    n = a.shape[-1]
    if b.ndim < 2 or b.shape[-2] != n:
        raise ValueError(f"{op}: A of shape {list(a.shape)} does not fit B of shape {list(b.shape)}")
    if a.dtype is not b.dtype:
        raise TypeError(f"{op}: A is {a.dtype}, B is {b.dtype}; cast one with .to(dtype)")
    if a.ndim == 2 < b.ndim:
        front = movedim(b, -2, 0)
        return movedim(reshape(solver(a, reshape(front, (n, prod(front.shape[1:])))), front.shape), 0, -2)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return solver(broadcast_to(a, (*batch, n, n)), broadcast_to(b, (*batch, *b.shape[-2:])))


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X of ``A X = B`` (or ``X A = B`` if not ``left``) for square A [..., n, n]; batches broadcast.

    B is a matrix, or a vector if it is 1-D or has the shape of A without the last dimension. LinAlgError if A is
    singular.
    """
    check_matrices("solve", A)
    if B.ndim == 1 or B.shape == A.shape[:-1]:
        if not left:
            raise ValueError(f"solve: left=False needs a matrix B, got shape {list(B.shape)}")
        return squeeze(_batched("solve", _solve, A, unsqueeze(B, -1)), -1)
    if not left:
        return solve(A.mT, B.mT).mT
    return _batched("solve", _solve, A, B)


def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """X of ``A X = B`` (or ``X A = B`` if not ``left``) for triangular A [..., n, n]; batches broadcast.

    The other triangle of A is not read, nor is its diagonal, taken as ones, if ``unitriangular``. LinAlgError if there
    is a zero on the diagonal.
    """
    check_matrices("solve_triangular", A)
    if not left:
        if B.ndim < 2:
            raise ValueError(f"solve_triangular: B must be a matrix, got shape {list(B.shape)}")
        return solve_triangular(A.mT, B.mT, upper=not upper, unitriangular=unitriangular).mT

    def solver(a: Tensor, b: Tensor) -> Tensor:
        return _solve_triangular(a, b, upper=upper, unit=unitriangular)

    return _batched("solve_triangular", solver, A, B)


@method()
def matrix_power(input: Tensor, n: int) -> Tensor:
    """Square matrices to the power ``n``, by repeated squaring; of the inverses if ``n`` is negative."""
    if input.ndim < 2 or input.shape[-1] != input.shape[-2]:
        raise ValueError(f"matrix_power: expects square matrices [..., n, n], got shape {list(input.shape)}")
    if n == 0:
        identity = array_module(input.array).eye(input.shape[-1], dtype=input.dtype)
        return broadcast_to(wrap(identity, input.device), input.shape).clone()
    square = inverse(input) if n < 0 else input
    n = abs(n)
    power: Tensor | None = None
    while True:
        if n % 2:
            power = square if power is None else matmul(power, square)
        n //= 2
        if not n:
            return power  # type: ignore[return-value]  # the highest bit has set it
        square = matmul(square, square)


# --- determinants


def _slogdet_vjp(g: tuple[Tensor, Tensor], y: Any, x: Tensor) -> tuple[Tensor]:
    """Jacobi's formula; the sign is constant wherever the logarithm is finite."""
    return (unsqueeze(unsqueeze(g[1], -1), -1) * inverse(x).mT,)


_slogdet = primitive("slogdet", lambda x: tuple(np.linalg.slogdet(x)), _slogdet_vjp, save="x", several=True)
_det = primitive(
    "det",
    np.linalg.det,
    (lambda g, y, x: unsqueeze(unsqueeze(g * y, -1), -1) * inverse(x).mT,),
    save="y x",
)


class SignLogDet(NamedTuple):
    """The sign of a determinant and the logarithm of its absolute value."""

    sign: Tensor
    logabsdet: Tensor


@method()
def slogdet(input: Tensor) -> SignLogDet:
    """``(sign, logabsdet)`` of square matrices [..., n, n]; 0 and -inf for a singular one."""
    sign, logabsdet = _slogdet(check_matrices("slogdet", input))
    return SignLogDet(sign.detach(), logabsdet)


@method()
def logdet(input: Tensor) -> Tensor:
    """Logarithms of determinants: -inf of 0, NaN of a negative one."""
    sign, logabsdet = _slogdet(check_matrices("logdet", input))
    return masked_fill(logabsdet, sign < 0, float("nan"))


@method()
def det(input: Tensor) -> Tensor:
    """Determinants of square matrices [..., n, n]. The derivative at a singular matrix raises LinAlgError."""
    return _det(check_matrices("det", input))


# --- factorisations


def _symmetric(x: Tensor) -> Tensor:
    return (x + x.mT) * 0.5


def _cholesky_vjp(g: Tensor, y: Tensor, x: Any) -> Tensor:
    """Murray (2016): the symmetric part of L^-T P L^-1, where P is tril(L^T g) with its diagonal halved."""
    product = tril(y.mT @ tril(g))
    p = product - diag_embed(diagonal(product, 0, -2, -1)) * 0.5
    return _symmetric(
        solve_triangular(y, solve_triangular(y.mT, p, upper=True), upper=False, left=False)
    )


_cholesky = primitive(
    "cholesky",
    lapack("cholesky", "a matrix is not positive-definite", np.linalg.cholesky),
    (_cholesky_vjp,),
    save="y",
)


@method()
def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """Lower triangular L with ``L L^T = input``, or its transpose if ``upper``.

    ``input`` [..., n, n] is taken as symmetric: only its lower triangle is read, and its gradient is symmetric.
    LinAlgError if it is not positive-definite.
    """
    factor = _cholesky(check_matrices("cholesky", input))
    return factor.mT if upper else factor


def _qr_vjp(g: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor], x: Any) -> tuple[Tensor]:
    """Walter and Lehmann (2010): (gQ + Q C) R^-T with C the symmetric matrix that R gR^T - gQ^T Q has below."""
    (gq, gr), (q, r) = g, y
    m = r @ gr.mT - gq.mT @ q
    c = tril(m) + tril(m, -1).mT
    return (solve_triangular(r.mT, gq + q @ c, upper=False, left=False),)


_qr = primitive("qr", lambda x: tuple(np.linalg.qr(x)), _qr_vjp, save="y", several=True)


class Factors(NamedTuple):
    """Q with orthonormal columns and R upper triangular."""

    Q: Tensor
    R: Tensor


@method()
def qr(A: Tensor) -> Factors:
    """The reduced QR decomposition of matrices [..., m, n]: Q [..., m, k], R [..., k, n], k the smaller of m and n.

    The derivative needs the first k columns to be independent, else it raises LinAlgError.
    """
    m, n = check_matrices("qr", A, square=False).shape[-2:]
    if m >= n:
        return Factors(*_qr(A))
    q, r = _qr(A[..., :m])  # a wide matrix: its square part gives Q, and R for the rest is Q^T times the rest
    return Factors(q, cat([r, q.mT @ A[..., m:]], -1))
