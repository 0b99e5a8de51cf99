"""Products, factorisations and spectra of matrices."""

from __future__ import annotations

import numpy as np

from .table import NOT_IN_TORCH, apart, case, definite, normal, regular

# ------------------------------------------------------------------------------------------------- linear algebra

for name, (a, b) in {
    "vectors": ((3,), (3,)), "matrix and vector": ((2, 3), (3,)), "vector and matrix": ((3,), (3, 2)),
    "matrices": ((2, 3), (3, 4)), "batch and matrix": ((2, 2, 3), (3, 4)), "matrix and batch": ((2, 3), (2, 3, 4)),
    "batches": ((2, 2, 3), (2, 3, 4)), "broadcast batches": ((2, 1, 2, 3), (3, 3, 2)),
    "vector and batch": ((3,), (2, 3, 2)), "nothing": ((2, 0), (0, 3)), "no rows": ((0, 3), (3, 2)),
}.items():  # fmt: skip
    case(f"matmul of {name}", lambda L, x, y: L.matmul(x, y), normal(*a), normal(*b))
case("mm", lambda L, x, y: L.mm(x, y), normal(2, 3), normal(3, 2))
case("bmm", lambda L, x, y: L.bmm(x, y), normal(2, 2, 3), normal(2, 3, 2))
case("mv", lambda L, x, y: L.mv(x, y), normal(2, 3), normal(3))
case("dot", lambda L, x, y: L.dot(x, y), normal(3), normal(3))
case("outer", lambda L, x, y: L.outer(x, y), normal(3), normal(2))
case("inner", lambda L, x, y: L.inner(x, y), normal(2, 3), normal(4, 3))
case("addmm", lambda L, x, y, z: L.addmm(x, y, z, beta=0.5, alpha=-2), normal(3), normal(2, 4), normal(4, 3))
case("baddbmm", lambda L, x, y, z: L.baddbmm(x, y, z, beta=0.5, alpha=-2), normal(2, 2, 2), normal(2, 2, 3),
     normal(2, 3, 2))  # fmt: skip
case("tensordot", lambda L, x, y: L.tensordot(x, y, dims=([1, 2], [2, 0])), normal(2, 3, 4), normal(4, 2, 3))
case("tensordot over one dim", lambda L, x, y: L.tensordot(x, y, dims=1), normal(2, 3), normal(3, 2))
case("kron", lambda L, x, y: L.kron(x, y), normal(2, 3), normal(2, 1, 2))
case("linear", lambda L, x, w, b: L.F.linear(x, w, b), normal(2, 3, 4), normal(5, 4), normal(5))
case("linear without bias", lambda L, x, w: L.F.linear(x, w), normal(4), normal(5, 4))
for activation in ("none", "relu", "silu", "gelu", "gelu_tanh"):
    case(f"linear_activation {activation}", lambda L, *xs, a=activation: L.F.linear_activation(*xs, activation=a),
         normal(2, 3, 4), normal(5, 4), normal(5), normal(2, 3, 5), unlike_torch=NOT_IN_TORCH)  # fmt: skip
case("linear_activation of nothing else", lambda L, x, w: L.F.linear_activation(x, w, activation="silu"),
     normal(3, 4), normal(5, 4), unlike_torch=NOT_IN_TORCH)  # fmt: skip
case("bilinear", lambda L, x, y, w, b: L.F.bilinear(x, y, w, b), normal(2, 3), normal(2, 2), normal(4, 3, 2), normal(4))
for equation, *shapes in (
    ("ij,jk->ik", (2, 3), (3, 4)), ("bij,bjk,bk->bi", (2, 2, 3), (2, 3, 2), (2, 2)), ("ii->i", (3, 3)),
    ("iij->j", (3, 3, 2)), ("i,j->ij", (3,), (2,)), ("...ij,...j->...i", (2, 1, 3, 4), (2, 4)), ("ij->", (2, 3)),
    ("ab,ab", (2, 3), (2, 3)), ("ij,i->j", (1, 3), (2,)),
):  # fmt: skip
    case(f"einsum {equation}", lambda L, *xs, e=equation: L.einsum(e, *xs), *[normal(*shape) for shape in shapes])
case("inverse", lambda L, x: L.inverse(x), regular(2, 3, 3))
case("solve", lambda L, a, b: L.linalg.solve(a, b), regular(2, 3, 3), normal(2, 3, 2))
case("solve for a vector", lambda L, a, b: L.linalg.solve(a, b), regular(3, 3), normal(3))
case("solve broadcast", lambda L, a, b: L.linalg.solve(a, b), regular(3, 3), normal(2, 3, 2))
case("solve from the right", lambda L, a, b: L.linalg.solve(a, b, left=False), regular(3, 3), normal(2, 3))
for upper in (True, False):
    for unit in (True, False):
        case(
            f"solve_triangular {upper=} {unit=}",
            lambda L, a, b, u=upper, d=unit: L.linalg.solve_triangular(a, b, upper=u, unitriangular=d),
            regular(2, 3, 3),
            normal(2, 3, 2),
        )
case("solve_triangular from the right", lambda L, a, b: L.linalg.solve_triangular(a, b, upper=True, left=False),
     regular(3, 3), normal(2, 3))  # fmt: skip
for n in (3, 1, 0, -2):
    case(f"matrix_power {n}", lambda L, x, n=n: L.matrix_power(x, n), regular(2, 3, 3))
case("det", lambda L, x: L.det(x), regular(2, 3, 3))
case("slogdet", lambda L, x: L.slogdet(x)[1], regular(2, 3, 3))
case("logdet", lambda L, x: L.logdet(x), definite(2, 3, 3))
case("cholesky", lambda L, x: L.linalg.cholesky((x + x.mT) / 2), definite(2, 3, 3))
case("upper cholesky", lambda L, x: L.linalg.cholesky((x + x.mT) / 2, upper=True), definite(3, 3))
case("qr", lambda L, x: tuple(L.linalg.qr(x)), regular(2, 3, 3))
case("qr of a tall matrix", lambda L, x: tuple(L.linalg.qr(x)), regular(4, 2))
case("qr of a wide matrix", lambda L, x: L.linalg.qr(x).R, regular(2, 4))
# Eigenvectors and singular vectors are determined up to their signs: what is compared must not depend on those.
case("eigh", lambda L, x: (lambda e: (e[0], e[1] * e[1]))(L.linalg.eigh((x + x.mT) / 2)), definite(2, 3, 3))
case("eigvalsh", lambda L, x: L.linalg.eigvalsh((x + x.mT) / 2), definite(3, 3))
for shape in ((3, 3), (4, 2), (2, 4)):
    case(f"svd of {shape}",
         lambda L, x: (lambda s: (s[0] * s[0], s[1], s[0] @ s[2]))(L.linalg.svd(x, full_matrices=False)),
         regular(*shape))  # fmt: skip
case("svdvals", lambda L, x: L.linalg.svdvals(x), regular(2, 3, 2))
case("pinverse", lambda L, x: L.pinverse(x), regular(4, 2))
case("pinverse of a wide matrix", lambda L, x: L.pinverse(x, 1e-6), regular(2, 3))
for ord in ("fro", "nuc", 1, -1, 2, -2, np.inf):
    case(f"matrix_norm {ord}", lambda L, x, ord=ord: L.linalg.matrix_norm(x, ord), regular(3, 2))
case("matrix_norm along dims", lambda L, x: L.linalg.matrix_norm(x, "nuc", dim=(2, 0), keepdim=True), apart(3, 1, 2))
